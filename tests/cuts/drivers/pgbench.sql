\set n random(1, 50)
begin;
update cut set b = 'pgbench' where a = :n;
select b from cut where a = :n;
insert into cut values (3000 + :n, 'pgbench');
end;
select count(*) from cut where a > :n;
