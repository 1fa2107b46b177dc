-- psql: simple queries, errors, a transaction with a savepoint, COPY in both directions.
select 1 as one, 'two' as two;
select a, b from cut where a < 5 order by a;
set application_name to 'recorded';
select 1/0;
begin;
insert into cut values (1001, 'psql');
savepoint before;
select nosuch;
rollback to before;
update cut set b = 'psql updated' where a = 1001;
commit;
\copy cut from stdin
2001	first
2002	second
\.
\copy cut from stdin
no number	bad
\.
\copy (select a, b from cut where a between 2 and 9) to /dev/null
begin \; select 2 \; commit;
do $$ begin raise notice 'a notice'; end $$;
select repeat('x', 3000);
delete from cut where a > 1000;
