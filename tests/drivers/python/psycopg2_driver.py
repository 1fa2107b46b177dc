"""psycopg2 at its defaults: values are put into the SQL text by the client, every query is a simple one."""
import io
import threading
import time

import psycopg2
import psycopg2.errors
import psycopg2.extras

import harness
from harness import BYTES, JSON, LARGE, NUMERIC, SLEEPING, STAMP, STAMP_UTC, TEXT, Absent, equal, large_text

ERRORS = psycopg2.errors


def connect(**more):
    connection = psycopg2.connect("", **more)
    return connection


def rows(connection, sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def execute(connection, sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def expect(kind, connection, sql, values=None):
    try:
        execute(connection, sql, values)
    except kind:
        return
    raise AssertionError("%s expected of %s" % (kind.__name__, sql))


def check_connect():
    one = connect()
    equal(rows(one, "select current_user, current_database()"), [(one.info.user, one.info.dbname)])
    equal(one.encoding, "UTF8")
    one.close()
    try:
        connect(password="wrong")
    except psycopg2.OperationalError as error:
        assert "authentication failed" in str(error), str(error)
    else:
        raise AssertionError("a wrong password was accepted")


def check_types():
    with connect() as one:
        sent = (42, 9007199254740993, TEXT, 0.1, -1e300, True, False, STAMP, STAMP_UTC, BYTES, NUMERIC, None, [1, -2, 3],
                ["a", "b c", '"'], psycopg2.extras.Json(JSON))
        row = rows(one, "select %s::int4, %s::int8, %s::text, %s::float8, %s::float8, %s::bool, %s::bool, %s::timestamp,"
                   " %s::timestamptz, %s::bytea, %s::numeric, %s::text, %s::int[], %s::text[], %s::jsonb", sent)[0]
        equal(row[:9] + (bytes(row[9]),) + row[10:14], sent[:-1])
        equal(row[14], JSON)


def check_prepared():
    raise Absent


def check_transactions():
    one, other = connect(), connect()
    other.autocommit = True
    count = lambda: rows(other, "select count(*) from items")[0][0]  # noqa: E731
    with one:
        execute(one, "insert into items values (1, 'one')")
        equal(count(), 0)
    equal(count(), 1)
    execute(one, "insert into items values (2, 'two')")
    one.rollback()
    equal(count(), 1)
    with one:
        execute(one, "insert into items values (3, 'three')")
        execute(one, "savepoint before")
        expect(ERRORS.UniqueViolation, one, "insert into items values (3, 'again')")
        execute(one, "rollback to savepoint before")
        execute(one, "insert into items values (4, 'four')")
    equal(count(), 3)
    one.set_session(isolation_level="SERIALIZABLE", readonly=True)
    expect(ERRORS.ReadOnlySqlTransaction, one, "insert into items values (5, 'five')")
    one.rollback()
    execute(other, "delete from items")
    one.close()
    other.close()


def check_errors():
    one = connect()
    one.autocommit = True
    expect(ERRORS.SyntaxError, one, "selec 1")
    execute(one, "insert into items values (1, 'one')")
    expect(ERRORS.UniqueViolation, one, "insert into items values (1, %s)", ("again",))
    expect(ERRORS.NotNullViolation, one, "insert into items values (2, %s)", (None,))
    execute(one, "delete from items")
    one.autocommit = False
    expect(ERRORS.DivisionByZero, one, "select 1 / %s", (0,))
    expect(ERRORS.InFailedSqlTransaction, one, "select 1")
    one.rollback()
    equal(rows(one, "select 7"), [(7,)])
    one.close()


def check_pipeline():
    """It has batches: many statements, or many rows, in one simple query."""
    with connect() as one:
        with one.cursor() as cursor:
            psycopg2.extras.execute_batch(cursor, "insert into items values (%s, %s)", [(n, "name %d" % n) for n in range(500)])
            got = psycopg2.extras.execute_values(cursor, "insert into items values %s returning id",
                                                 [(n, "name %d" % n) for n in range(500, 1000)], fetch=True)
            equal(got, [(n,) for n in range(500, 1000)])
            cursor.execute("select 1; select 2; select count(*) from items")
            equal(cursor.fetchall(), [(1000,)])
        expect(ERRORS.DivisionByZero, one, "select 1; select 1 / 0; select 3")
        one.rollback()
        equal(rows(one, "select count(*) from items"), [(0,)])


def check_cursor():
    with connect() as one, one.cursor("pieces") as cursor:
        cursor.itersize = 100
        cursor.execute("select n from generate_series(1, 1000) n")
        equal([row[0] for row in cursor], list(range(1, 1001)))


def check_copy():
    with connect() as one, one.cursor() as cursor:
        text = "".join("%d\tname %d\n" % (n, n) for n in range(5000))
        cursor.copy_expert("copy items (id, name) from stdin", io.StringIO(text))
        out = io.StringIO()
        cursor.copy_expert("copy (select id, name from items order by id) to stdout", out)
        equal(out.getvalue(), text)
        cursor.execute("delete from items")
        one.commit()
        try:
            cursor.copy_expert("copy items (id, name) from stdin", io.StringIO("1\tone\nx\tbad\n"))
        except ERRORS.InvalidTextRepresentation:
            one.rollback()
        else:
            raise AssertionError("bad rows were taken")
        cursor.execute("select count(*) from items")
        equal(cursor.fetchall(), [(0,)])


def check_cancel():
    one, other = connect(), connect()
    other.autocommit = True

    def cancel():
        while rows(other, SLEEPING)[0][0] == 0:
            time.sleep(0.02)
        one.cancel()
    thread = threading.Thread(target=cancel)
    thread.start()
    started = time.monotonic()
    expect(ERRORS.QueryCanceled, one, "select pg_sleep(20)")
    thread.join()
    assert time.monotonic() - started < 10
    one.rollback()
    equal(rows(one, "select 7"), [(7,)])
    one.close()
    other.close()


def check_large():
    text = large_text()
    with connect() as one:
        equal(rows(one, "select %s, 1", (text,)), [(text, 1)])
        data = bytes(range(256)) * (LARGE // 256)
        equal(bytes(rows(one, "select %s::bytea", (data,))[0][0]), data)


def check_load():
    def work(token, more):
        committed = number = 0
        one = connect()
        while more():
            number += 1
            equal(rows(one, "select %s, %s", (token, number)), [(token, number)])
            one.commit()
            try:
                equal(rows(one, "insert into load values (%s, %s) returning token, seq", (token, committed)), [(token, committed)])
                equal(rows(one, "select count(*) from load where token = %s", (token,)), [(committed + 1,)])
                if number % 7 == 0:
                    execute(one, "select 1 / (%s - %s)", (number, number))
                if number % 5 == 0:
                    one.rollback()
                else:
                    one.commit()
                    committed += 1
            except ERRORS.DivisionByZero:
                assert number % 7 == 0
                one.rollback()
            equal(rows(one, "select %s || n::text from generate_series(1, 50) n", (token,)),
                  [(token + str(n),) for n in range(1, 51)])
            one.commit()
        equal(rows(one, "select count(*) from load where token = %s", (token,)), [(committed,)])
        one.close()
        return committed
    return harness.load_in_threads(work)


print("version psycopg2 %s, libpq %d" % (psycopg2.__version__.split(" ")[0], psycopg2.extensions.libpq_version() // 10000))
harness.run([check_connect, check_types, check_prepared, check_transactions, check_errors, check_pipeline, check_cursor, check_copy,
             check_cancel, check_large, check_load])
