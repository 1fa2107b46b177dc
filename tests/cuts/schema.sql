-- What the recorded conversations work on.
create table cut(a int, b text);
insert into cut select g, 'row ' || g from generate_series(1, 50) g;
