"""psycopg 3 at its defaults: a statement that ran five times is prepared by itself (prepare_threshold 5)."""
import threading
import time

import psycopg
from psycopg.types.json import Jsonb

import harness
from harness import BYTES, JSON, LARGE, NUMERIC, SLEEPING, STAMP, STAMP_UTC, TEXT, equal, large_text

ERRORS = psycopg.errors


def connect(**more):
    return psycopg.connect("", **more)  # host, user and the rest come from PG* variables


def expect(kind, connection, sql, values=None):
    try:
        connection.execute(sql, values)
    except kind:
        return
    raise AssertionError("%s expected of %s" % (kind.__name__, sql))


def check_connect():
    with connect() as one:
        equal(one.execute("select current_user, current_database()").fetchone(), (one.info.user, one.info.dbname))
        equal(one.info.parameter_status("client_encoding"), "UTF8")
    try:
        connect(password="wrong")
    except psycopg.OperationalError as error:
        assert "authentication failed" in str(error), str(error)
    else:
        raise AssertionError("a wrong password was accepted")


def check_types():
    with connect() as one:
        for binary in (False, True):
            sent = (42, 9007199254740993, TEXT, 0.1, -1e300, True, False, STAMP, STAMP_UTC, BYTES, NUMERIC, None, [1, -2, 3],
                    ["a", "b c", '"'], Jsonb(JSON))
            row = one.execute(
                "select %s::int4, %s::int8, %s::text, %s::float8, %s::float8, %s::bool, %s::bool, %s::timestamp, %s::timestamptz,"
                " %s::bytea, %s::numeric, %s::text, %s::int[], %s::text[], %s::jsonb", sent, binary=binary).fetchone()
            equal(row[:-1], sent[:-1])
            equal(row[-1], JSON)


def check_prepared():
    with connect(autocommit=True) as one, connect() as holder:
        for number in range(40):
            if number % 3 == 0:  # takes the server that `one` had
                holder.execute("select 'held'")
            equal(one.execute("select %s::int + 1, 'mine'", (number,)).fetchone(), (number + 1, "mine"))
            if number % 3 == 1:
                holder.execute("select %s::text || 'other'", ("x",), prepare=True)
                holder.commit()
        equal(len(one._prepared._names) > 0 or "not prepared", True)
        for number in range(150):  # more than prepared_max (100): the oldest are deallocated
            equal(one.execute("select %%s::int + %d" % number, (1,), prepare=True).fetchone(), (number + 1,))
        equal(one.execute("select %s::int + 1, 'mine'", (7,)).fetchone(), (8, "mine"))


def check_transactions():
    with connect() as one, connect(autocommit=True) as other:
        count = lambda: other.execute("select count(*) from items").fetchone()[0]  # noqa: E731
        with one.transaction():
            one.execute("insert into items values (1, 'one')")
            equal(count(), 0)
        equal(count(), 1)
        with one.transaction() as outer:
            one.execute("insert into items values (2, 'two')")
            raise psycopg.Rollback(outer)
        equal(count(), 1)
        with one.transaction():
            one.execute("insert into items values (3, 'three')")
            try:
                with one.transaction():  # a savepoint
                    one.execute("insert into items values (3, 'again')")
            except ERRORS.UniqueViolation:
                pass
            one.execute("insert into items values (4, 'four')")
        equal(count(), 3)
        other.execute("delete from items")


def check_errors():
    with connect(autocommit=True) as one:
        expect(ERRORS.SyntaxError, one, "selec 1")
        one.execute("insert into items values (1, 'one')")
        expect(ERRORS.UniqueViolation, one, "insert into items values (1, %s)", ("again",))
        expect(ERRORS.NotNullViolation, one, "insert into items values (2, %s)", (None,))
        one.execute("delete from items")
        one.autocommit = False
        expect(ERRORS.DivisionByZero, one, "select 1 / %s::int", (0,))
        expect(ERRORS.InFailedSqlTransaction, one, "select 1")
        one.rollback()
        for _ in range(10):
            expect(ERRORS.DivisionByZero, one, "select 1 / %s::int", (0,))
            one.rollback()
        equal(one.execute("select 7").fetchone(), (7,))


def check_pipeline():
    with connect(autocommit=True) as one, connect(autocommit=True) as holder:
        for number in range(10):
            with one.pipeline() as pipeline, holder.transaction():
                holder.execute("select 1")
                cursors = [one.execute("select %s::int * 2", (n,)) for n in range(50)]
                pipeline.sync()
                cursors += [one.execute("select %s::text", ("t%d" % n,)) for n in range(50)]
                equal([c.fetchone()[0] for c in cursors], [n * 2 for n in range(50)] + ["t%d" % n for n in range(50)])
            try:
                with one.pipeline():
                    one.execute("select 1")
                    bad = one.execute("select 1 / %s::int", (0,))
                    one.execute("select 2")  # the server skips it
                    bad.fetchone()
            except ERRORS.DivisionByZero:
                pass
            else:
                raise AssertionError("no error")
            equal(one.execute("select %s::int", (number,)).fetchone(), (number,))
        with one.cursor() as cursor:
            cursor.executemany("insert into items values (%s, %s)", [(n, "name %d" % n) for n in range(200)])
        equal(one.execute("select count(*) from items").fetchone(), (200,))
        one.execute("delete from items")


def check_cursor():
    with connect() as one:
        with one.cursor("pieces") as cursor:
            cursor.itersize = 100
            cursor.execute("select n from generate_series(1, 1000) n")
            equal([row[0] for row in cursor], list(range(1, 1001)))


def check_copy():
    with connect(autocommit=True) as one:
        rows = [(n, "name %d\t\\ %s" % (n, TEXT)) for n in range(2000)]
        for options in ("", " (format binary)"):
            with one.cursor().copy("copy items (id, name) from stdin" + options) as copy:
                if options:
                    copy.set_types(["int4", "text"])
                for row in rows:
                    copy.write_row(row)
            with one.cursor().copy("copy (select id, name from items order by id) to stdout" + options) as copy:
                copy.set_types(["int4", "text"])
                equal(list(copy.rows()), rows)
            one.execute("delete from items")
        try:
            with one.cursor().copy("copy items (id, name) from stdin") as copy:
                copy.write("1\tone\nx\tbad\n")
        except ERRORS.InvalidTextRepresentation:
            pass
        else:
            raise AssertionError("bad rows were taken")
        try:
            with one.cursor().copy("copy items (id, name) from stdin") as copy:
                copy.write_row((1, "one"))
                raise KeyError("the source fails")
        except ERRORS.QueryCanceled:  # what the server makes of CopyFail
            pass
        else:
            raise AssertionError("half a COPY was taken")
        equal(one.execute("select count(*) from items").fetchone(), (0,))


def check_cancel():
    with connect(autocommit=True) as one, connect(autocommit=True) as other:
        def cancel():
            while other.execute(SLEEPING).fetchone()[0] == 0:
                time.sleep(0.02)
            one.cancel()
        thread = threading.Thread(target=cancel)
        thread.start()
        started = time.monotonic()
        expect(ERRORS.QueryCanceled, one, "select pg_sleep(20)")
        thread.join()
        assert time.monotonic() - started < 10
        equal(one.execute("select 7").fetchone(), (7,))


def check_large():
    text = large_text()
    with connect() as one:
        equal(one.execute("select %s::text, 1", (text,)).fetchone(), (text, 1))
        data = bytes(range(256)) * (LARGE // 256)
        equal(one.execute("select %b::bytea", (data,), binary=True).fetchone()[0], data)
        equal(one.execute("select length(%s::text)", (text,)).fetchone(), (LARGE,))


def check_load():
    def work(token, more):
        committed = number = 0
        with connect(autocommit=True) as one:
            while more():
                number += 1
                equal(one.execute("select %s::text, %s::int", (token, number)).fetchone(), (token, number))
                try:
                    with one.transaction() as transaction:
                        equal(one.execute("insert into load values (%s, %s) returning token, seq", (token, committed)).fetchone(),
                              (token, committed))
                        equal(one.execute("select count(*) from load where token = %s", (token,)).fetchone(), (committed + 1,))
                        if number % 7 == 0:
                            one.execute("select 1 / (%s::int - %s::int)", (number, number))
                        if number % 5 == 0:
                            raise psycopg.Rollback(transaction)
                    committed += number % 5 != 0
                except ERRORS.DivisionByZero:
                    assert number % 7 == 0
                if number % 3 == 0:
                    with one.pipeline():
                        cursors = [one.execute("select %s::text || %s", (token, str(n))) for n in range(5)]
                        equal([c.fetchone()[0] for c in cursors], [token + str(n) for n in range(5)])
                rows = one.execute("select %s || n::text from generate_series(1, 50) n", (token,)).fetchall()
                equal(rows, [(token + str(n),) for n in range(1, 51)])
            equal(one.execute("select count(*) from load where token = %s", (token,)).fetchone(), (committed,))
        return committed
    return harness.load_in_threads(work)


print("version psycopg %s (%s, libpq %s)" % (psycopg.__version__, psycopg.pq.__impl__, psycopg.pq.version() // 10000))
harness.run([check_connect, check_types, check_prepared, check_transactions, check_errors, check_pipeline, check_cursor, check_copy,
             check_cancel, check_large, check_load])
