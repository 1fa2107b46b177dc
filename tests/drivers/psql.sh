#!/usr/bin/env bash
# psql at its defaults, by scripts; where to connect comes from PG* variables. -X: without a ~/.psqlrc.
# Prints a line for each check, as tests/drivers/run wants it.
# shellcheck disable=SC2015 # A && B || C: C is for both
set -uo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
out=$directory/out expected=$directory/expected

run() { psql -XAtq "$@" >"$out" 2>&1; } # both streams, in $out
same() { # the expected lines on standard input
    cat >"$expected"
    cmp -s "$out" "$expected" || { diff "$expected" "$out" | head -c 400 | tr '\n' ' '; return 1; }
}

check_connect() {
    run -c 'select current_user, current_database()' && same <<<"$PGUSER|$PGDATABASE" || return 1
    run -c '\d items' && grep -q '^ *id|integer' "$out" || { echo 'no \d'; return 1; }
    run -c '\conninfo' && grep -q 'You are connected' "$out" || { echo 'no \conninfo'; return 1; }
    printf 'select 1;\n\\c\nselect 2;\n' | run && grep -q 2 "$out" || { echo 'no \c'; return 1; } # connects again
    PGPASSWORD=wrong run -c 'select 1' && { echo "a wrong password was accepted"; return 1; }
    grep -q 'authentication failed' "$out" || { cat "$out"; return 1; }
}

check_types() {
    run -v name="grüße 'quoted' \\ 😀" <<'END' && same <<'END2'
select 42::int4, 9007199254740993::int8, 0.1::float8, -1e300::float8, true, false, null, 12345678901234567890.123456789;
select :'name';
select '2024-02-29 12:34:56.789012'::timestamp, '2024-02-29 12:34:56.789012+00'::timestamptz;
select '\x00017fff'::bytea, '{1,-2,3}'::int[], '{a,"b c",NULL}'::text[], '{"a": [1, 2.5, null]}'::jsonb;
select 41 + 1 as answer, 'kept' as word \gset
select :answer, :'word';
END
42|9007199254740993|0.1|-1e+300|t|f||12345678901234567890.123456789
grüße 'quoted' \ 😀
2024-02-29 12:34:56.789012|2024-02-29 12:34:56.789012+00
\x00017fff|{1,-2,3}|{a,"b c",NULL}|{"a": [1, 2.5, null]}
42|kept
END2
}

# psql 15 has PREPARE of SQL only, which lives in a server: within a transaction here.
check_prepared() {
    for _ in 1 2 3; do
        run <<'END' && same <<<$'2\n3' || return 1
begin;
prepare plus(int) as select $1 + 1;
execute plus(1);
execute plus(2);
deallocate plus;
commit;
END
        run -c 'execute plus(1)' && { echo "the statement outlives its end"; return 1; }
    done
    run <<'END' && same <<<$'?column?|text\na'
select 'a' \gdesc
select $$select 'a'$$ \gexec
END
}

check_transactions() {
    run <<'END' && same <<<$'1\n1\n2' || return 1
begin;
insert into items values (1, 'one');
commit;
select count(*) from items;
begin;
insert into items values (2, 'two');
rollback;
select count(*) from items;
begin isolation level serializable;
insert into items values (3, 'three');
savepoint before;
delete from items;
rollback to before;
commit;
select count(*) from items;
END
    run -v ON_ERROR_ROLLBACK=on <<'END' # a savepoint around each statement
begin;
insert into items values (4, 'four');
insert into items values (4, 'again');
insert into items values (5, 'five');
commit;
select count(*) from items;
delete from items;
END
    grep -v DETAIL "$out" >"$out.2" && mv "$out.2" "$out" && same <<'END' || return 1
ERROR:  duplicate key value violates unique constraint "items_pkey"
4
END
    run -1 -v ON_ERROR_STOP=1 -c "insert into items values (6, 'six')" -c 'select 1/0' && { echo "-1 with an error"; return 1; }
    run -c 'select count(*) from items' && same <<<0
}

check_errors() {
    run -v VERBOSITY=sqlstate <<'END'
selec 1;
insert into items values (1, 'one');
insert into items values (1, 'again');
insert into items values (2, null);
delete from items;
begin;
select 1/0;
select 1;
commit;
select 7;
END
    same <<'END'
ERROR:  42601
ERROR:  23505
ERROR:  23502
ERROR:  22012
ERROR:  25P02
7
END
}

check_pipeline() { # several statements in one query
    run <<'END' && same <<<$'1\n2\n3' || return 1
select 1 \; select 2 \; select 3;
END
    run -v VERBOSITY=sqlstate -c "insert into items values (1, 'one'); select 1; select 1/0; select 2"
    same <<<$'1\nERROR:  22012' || return 1
    run -c 'select count(*) from items' && same <<<0
}

check_cursor() {
    run -v FETCH_COUNT=100 -c 'select n from generate_series(1, 1000) n' && same < <(seq 1000)
}

check_copy() {
    seq 20000 | sed 's/.*/&\tname &/' >"$directory/rows"
    run -c "\\copy items (id, name) from '$directory/rows'" && run -c 'copy (select id, name from items order by id) to stdout' &&
        same <"$directory/rows" || return 1
    run -c "\\copy (select id, name from items where id < 3 order by id) to '$directory/csv' csv header" &&
        cp "$directory/csv" "$out" && same <<<$'id,name\n1,name 1\n2,name 2' || return 1
    run -c 'delete from items' || return 1
    run -v VERBOSITY=sqlstate <<'END'
copy items (id, name) from stdin;
1	one
x	bad
2	two
\.
select count(*) from items;
END
    same <<<$'ERROR:  22P02\n0'
}

check_cancel() {
    (trap - INT; exec psql -XAtq -v VERBOSITY=sqlstate -c 'select pg_sleep(20)' >"$out" 2>&1) &
    local child=$! tries=0
    until running=$(psql -XAtqc "select 1 from pg_stat_activity where state = 'active' and query like 'select pg_sleep(20)%'") &&
        [[ $running == 1 ]]; do
        ((++tries < 300)) || { echo "it does not run"; return 1; }
        sleep 0.02
    done
    kill -INT "$child"
    wait "$child"
    same <<<$'Cancel request sent\nERROR:  57014' && run -c 'select 7' && same <<<7
}

check_large() {
    local text
    text=$(head -c $((8 << 20)) /dev/zero | tr '\0' x)
    printf "select '%s';\n" "$text" >"$directory/sql"
    run -f "$directory/sql" && same <<<"$text" || return 1
    run -c "select repeat('0123456789abcdef', $(((8 << 20) / 16)))::bytea" && [[ $(wc -c <"$out") == $((3 + (16 << 20))) ]]
}

# One psql: statements go in while there is time, and what must come out is written down beside.
worker() {
    local token="w$1-$$-$RANDOM" number=0 committed=0
    local until=$2
    exec 3>"$directory/expected.$1"
    while ((number == 0 || ${EPOCHREALTIME/./} < until)); do # once at least, however busy the machine
        ((++number))
        local end=commit
        ((number % 5)) || end=rollback
        local divide="" error=""
        ((number % 7)) || divide="select 1 / ($number - $number);" error=$'ERROR:  22012\n' end=rollback
        echo "select '$token', $number; begin; insert into load values ('$token', $committed) returning token, seq;
            select count(*) from load where token = '$token'; $divide $end;
            select '$token' || n from generate_series(1, 3) n;"
        printf '%s|%d\n%s|%d\n%d\n%s%s1\n%s2\n%s3\n' "$token" $number "$token" $committed $((committed + 1)) "$error" \
            "$token" "$token" "$token" >&3
        [[ $end == rollback ]] || ((++committed))
        ((number % 20)) || sleep 0.1 # lest it be far ahead of psql
    done | tee "$directory/in.$1" | psql -XAtq -v VERBOSITY=sqlstate >"$directory/out.$1" 2>&1
    cmp -s "$directory/expected.$1" "$directory/out.$1" || {
        diff "$directory/expected.$1" "$directory/out.$1" | head -5 | tr '\n' ' '
        return 1
    }
    grep -c 'commit;$' "$directory/in.$1" >"$directory/committed.$1" || true # zero is a count too
}

check_load() {
    local until pids=() bad=0
    until=$((${EPOCHREALTIME/./} + $(printf '%.0f' "${SECONDS_OF_LOAD}e6")))
    for number in $(seq "$WORKERS"); do
        worker "$number" "$until" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
    ((bad == 0)) || return 1
    words=$(($(cat "$directory"/committed.* | paste -sd+)))
}

SECONDS_OF_LOAD=$(printenv SECONDS) # bash has a variable of this name for itself
psql --version | sed -E 's/psql \(PostgreSQL\) ([0-9.]+).*/version psql \1/'
for name in connect types prepared transactions errors pipeline cursor copy cancel large load; do
    words=
    if "check_$name" >"$directory/reason"; then
        echo "ok $name $words"
    else
        echo "fail $name $(head -c 500 "$directory/reason" | tr '\n' ' ') $(tail -c 300 "$out" | tr '\n' ' ')"
    fi
done
