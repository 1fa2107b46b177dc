#!/usr/bin/env bash
# pgbench, its three protocols: simple, extended, prepared. Where to connect comes from PG* variables.
# Prints a line for each check, as tests/drivers/run wants it.
# shellcheck disable=SC2015 # A && B || C: C is for both
set -uo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
out=$directory/out

# -n: without VACUUM first. Where transactions are prepared there is a thread (-j) for each client: pgbench prepares in a
# call that blocks its thread, and one that waits for a server while its other clients hold them all would wait for ever.
bench() {
    pgbench -n "$@" >"$out" 2>&1 && grep -q 'number of failed transactions: 0 ' "$out"
}
query() { psql -XAtqc "$1" 2>&1; }
script() { cat >"$directory/$1.sql"; }

script echo <<'END'
\set n random(1, 1000000000)
select :n::bigint + 1 as more, 'x' as word \gset
\if :more <> :n + 1
select 1/0;
\endif
END
script pipeline <<'END'
\startpipeline
begin;
insert into items values (1000000 * :client_id::int + :count::int, 'one', :count::int);
insert into items values (1000000 * :client_id::int + 100000 + :count::int, 'two', :count::int);
commit;
select 1 / count(*) from items where id = 1000000 * :client_id::int + :count::int;
\endpipeline
\set count :count + 1
select count(*) as there from items where id / 1000000 = :client_id::int and amount < :count::int \gset
\if :there <> 2 * :count
select 1/0;
\endif
END
# :count is the client's own, and kept from one transaction to the next; the table must agree with it.
script load <<'END'
\set n random(1, 1000000000)
select :client_id::int as id, :n::bigint + :count::int as sum \gset
\if :id <> :client_id or :sum <> :n + :count
select 1/0;
\endif
begin;
insert into load select :mode || '-' || :client_id::int, :count::int returning seq \gset
select count(*) as there from load where token = :mode || '-' || :client_id::int \gset
\if :seq <> :count or :there <> :count + 1
select 1/0;
\endif
commit;
\set count :count + 1
END
script conflicts <<'END'
begin isolation level serializable;
select coalesce(sum(amount), 0) as total from items \gset
update items set amount = :total::numeric + 1 where id = :client_id::int % 2;
commit;
END

script types <<'END'
\set whole 9007199254740993
\set broken -1.5
\set yes true
select 'grüße ☃ 😀' as words, '12345678901234567890.123456789'::numeric as amount, '2024-02-29 12:34:56.789+00'::timestamptz as stamp,
    '\x00017fff'::bytea as raw, array['a', 'b c', null] as list, '{"a": [1, 2.5, null]}'::jsonb as document \gset
select (:whole::int8 - 1 = 9007199254740992 and :broken::float8 * 2 = -3 and :yes::bool and :words::text = 'grüße ☃ 😀' and
    :amount::numeric = 12345678901234567890.123456789 and :stamp::timestamptz = '2024-02-29 12:34:56.789+00' and
    :raw::bytea = '\x00017fff' and (:list::text[])[2] = 'b c' and :document::jsonb = '{"a": [1, 2.5, null]}')::int as equal \gset
\if :equal <> 1
select 1/0;
\endif
END
script cursor <<'END'
begin;
declare pieces cursor for select n from generate_series(1, 1000) n;
fetch 100 from pieces;
fetch 1 from pieces \gset first_
fetch 398 from pieces;
fetch 1 from pieces \gset second_
commit;
\if :first_n <> 101 or :second_n <> 500
select 1/0;
\endif
END
script large <<'END'
select repeat('0123456789abcdef', 524288) as big \gset
select :big::text as back \gset
select (:back::text = repeat('0123456789abcdef', 524288))::int as equal \gset
\if :equal <> 1
select 1/0;
\endif
END

check_connect() {
    bench -c 4 -t 10 -C -f "$directory/echo.sql" || return 1 # -C: connects for each transaction
    PGPASSWORD=wrong bench -t 1 -f "$directory/echo.sql" && return 1
    grep -q 'authentication failed' "$out"
}

check_types() { # not simple: it pastes variables into the text without quotes
    bench -M prepared -c 9 -t 20 -f "$directory/types.sql" && bench -M extended -c 9 -t 20 -f "$directory/types.sql"
}

check_cursor() { # DECLARE and FETCH: pgbench has no command of its own for it
    for mode in simple extended prepared; do
        bench -M $mode -c 9 -j 9 -t 20 -f "$directory/cursor.sql" || return 1
    done
}

check_large() { # text only
    bench -M prepared -c 2 -t 2 -f "$directory/large.sql" && bench -M extended -c 2 -t 2 -f "$directory/large.sql"
}

check_prepared() {
    bench -M prepared -c 9 -t 100 -f "$directory/echo.sql" && bench -M extended -c 9 -t 100 -f "$directory/echo.sql" &&
        bench -M prepared -c 9 -t 50 -b select-only
}

check_transactions() { # the standard one, whose sums must agree
    for mode in simple extended prepared; do
        bench -M $mode -c 9 -j 9 -t 30 -b tpcb-like || return 1
    done
    [[ $(query 'select count(*) = 810 and sum(delta) = (select sum(abalance) from pgbench_accounts) and
                sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history') == t ]]
}

check_errors() { # serialization failures, each tried again
    query "insert into items values (0, 'zero', 0), (1, 'one', 0)"
    for mode in simple extended prepared; do
        bench -M $mode -c 8 -j 8 -t 10 --max-tries=1000 -f "$directory/conflicts.sql" || return 1
    done
    query "delete from items"
}

check_pipeline() {
    for mode in extended prepared; do
        bench -M $mode -c 9 -j 9 -t 50 -D count=0 -f "$directory/pipeline.sql" || return 1
        query "delete from items"
    done
}

check_copy() { # in only: pgbench fills its tables by COPY
    pgbench -q -i -s 1 >"$out" 2>&1 && [[ $(query 'select count(*), sum(aid) from pgbench_accounts') == '100000|5000050000' ]]
}

check_load() {
    local seconds
    seconds=$(awk "BEGIN { s = int($SECONDS_OF_LOAD / 3 + 0.5); print s < 1 ? 1 : s }")
    words=0
    for mode in simple extended prepared; do
        bench -M $mode -c "$WORKERS" -j "$WORKERS" -T "$seconds" -D count=0 -D "mode='$mode'" -f "$directory/load.sql" || return 1
        words=$((words + $(sed -nE 's/^number of transactions actually processed: ([0-9]+).*/\1/p' "$out")))
    done
}

SECONDS_OF_LOAD=$(printenv SECONDS) # bash has a variable of this name for itself
pgbench --version | sed -E 's/pgbench \(PostgreSQL\) ([0-9.]+).*/version pgbench \1 (simple, extended, prepared)/'
echo "n/a cancel"
for name in connect types copy prepared transactions errors pipeline cursor large load; do
    words=
    if "check_$name"; then
        echo "ok $name $words"
    else
        echo "fail $name $(grep -v '^pgbench (1' "$out" | head -c 400 | tr '\n' ' ')"
    fi
done
