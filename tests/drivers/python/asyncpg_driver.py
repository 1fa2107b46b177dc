"""asyncpg at its defaults: every statement is prepared under a name and kept (statement_cache_size 100)."""
import asyncio
import io
import json
import os
import time

import asyncpg

import harness
from harness import BYTES, JSON, LARGE, NUMERIC, SECONDS, STAMP, STAMP_UTC, TEXT, WORKERS, equal, large_text


async def expect(kind, awaitable):
    try:
        await awaitable
    except kind:
        return
    raise AssertionError("%s expected" % kind.__name__)


class Connection:
    """async with: connects by the PG* variables, closes at the end."""

    async def __aenter__(self):
        self.connection = await asyncpg.connect()
        return self.connection

    async def __aexit__(self, *_):
        await self.connection.close()


async def check_connect():
    async with Connection() as one:
        equal(tuple(await one.fetchrow("select current_user, current_database()::text")), (os.environ["PGUSER"], os.environ["PGDATABASE"]))
        equal(one.get_settings().client_encoding.upper(), "UTF8")
    await expect(asyncpg.InvalidPasswordError, asyncpg.connect(password="wrong"))


async def check_types():
    async with Connection() as one:
        sent = [42, 9007199254740993, TEXT, 0.1, -1e300, True, False, STAMP, STAMP_UTC, BYTES, NUMERIC, None, [1, -2, 3],
                ["a", "b c", '"'], json.dumps(JSON)]
        row = await one.fetchrow(
            "select $1::int4, $2::int8, $3::text, $4::float8, $5::float8, $6::bool, $7::bool, $8::timestamp, $9::timestamptz,"
            " $10::bytea, $11::numeric, $12::text, $13::int[], $14::text[], $15::jsonb", *sent)
        equal(list(row)[:-1], sent[:-1])
        equal(json.loads(row[-1]), JSON)
        # A type it does not know makes it read the catalogs by a query of its own.
        await one.execute("drop type if exists mood; create type mood as enum ('sad', 'happy')")
        equal(await one.fetchval("select $1::mood", "happy"), "happy")
        equal(await one.fetchval("select array['sad']::mood[]"), ["sad"])


async def check_prepared():
    async with Connection() as one, Connection() as other:
        mine = await one.prepare("select $1::int + 1, 'mine'")
        holding = None
        for number in range(40):
            if number % 3 == 0:  # takes the server that `one` had
                holding = other.transaction()
                await holding.start()
            equal(tuple(await mine.fetchrow(number)), (number + 1, "mine"))
            equal(await one.fetchval("select $1::text || 'cached'", str(number)), "%dcached" % number)
            if number % 3 == 1:
                equal(await other.fetchval("select $1::text || 'other'", "x"), "xother")
                await holding.rollback()
        await holding.rollback()
        for number in range(150):  # more than the cache holds: the oldest are closed
            equal(await one.fetchval("select $1::int + %d" % number, 1), number + 1)
        equal(tuple(await mine.fetchrow(7)), (8, "mine"))
        # The table changes under a cached statement: asyncpg hears of it by the server's 0A000, and prepares anew.
        await one.execute("create table changing (a int); insert into changing values (1111)")
        try:
            for _ in range(3):
                equal(await one.fetchval("select a from changing"), 1111)
            await other.execute("alter table changing alter a type text")
            equal(await one.fetchval("select a from changing"), "1111")
            await other.execute("alter table changing add b int default 7")
            equal(tuple(await one.fetchrow("select * from changing")), ("1111", 7))
            await other.execute("alter table changing drop b")
            equal(tuple(await one.fetchrow("select * from changing")), ("1111",))
        finally:
            await one.execute("drop table changing")


async def check_transactions():
    async with Connection() as one, Connection() as other:
        async def count():
            return await other.fetchval("select count(*) from items")
        async with one.transaction():
            await one.execute("insert into items values (1, 'one')")
            equal(await count(), 0)
        equal(await count(), 1)
        try:
            async with one.transaction():
                await one.execute("insert into items values (2, 'two')")
                raise KeyError
        except KeyError:
            pass
        equal(await count(), 1)
        async with one.transaction(isolation="repeatable_read"):
            await one.execute("insert into items values ($1, $2)", 3, "three")
            try:
                async with one.transaction():  # a savepoint
                    await one.execute("insert into items values ($1, $2)", 3, "again")
            except asyncpg.UniqueViolationError:
                pass
            await one.execute("insert into items values ($1, $2)", 4, "four")
        equal(await count(), 3)
        await one.execute("delete from items")


async def check_errors():
    async with Connection() as one:
        await expect(asyncpg.PostgresSyntaxError, one.execute("selec 1"))
        await expect(asyncpg.PostgresSyntaxError, one.fetch("selec $1::int", 1))
        await one.execute("insert into items values (1, 'one')")
        await expect(asyncpg.UniqueViolationError, one.execute("insert into items values (1, $1)", "again"))
        await expect(asyncpg.NotNullViolationError, one.execute("insert into items values (2, $1)", None))
        await one.execute("delete from items")
        for number in range(10):
            transaction = one.transaction()
            await transaction.start()
            await expect(asyncpg.DivisionByZeroError, one.fetchval("select 1 / $1::int", 0))
            await expect(asyncpg.InFailedSQLTransactionError, one.fetchval("select 1"))
            await transaction.rollback()
            equal(await one.fetchval("select 7 / $1::int", 1), 7)


async def check_pipeline():
    """It has executemany: all Binds and Executes in one batch, in an implicit transaction."""
    async with Connection() as one:
        await one.executemany("insert into items values ($1, $2)", [(n, "name %d" % n) for n in range(3000)])
        equal(await one.fetchval("select count(*) from items"), 3000)
        await expect(asyncpg.UniqueViolationError,
                     one.executemany("insert into items values ($1, $2)", [(n, "name") for n in (4000, 4001, 1, 4002)]))
        equal(await one.fetchval("select count(*) from items"), 3000)
        await one.execute("delete from items; select 1; select 2")


async def check_cursor():
    async with Connection() as one, one.transaction():
        got = [row[0] async for row in one.cursor("select n from generate_series(1, $1::int) n", 1000, prefetch=100)]
        equal(got, list(range(1, 1001)))
        cursor = await one.cursor("select n from generate_series(1, 100) n")  # a portal, fetched in pieces
        equal([row[0] for row in await cursor.fetch(10)], list(range(1, 11)))
        await cursor.forward(10)
        equal((await cursor.fetchrow())[0], 21)


async def check_copy():
    async with Connection() as one:
        rows = [(n, "name %d\t\\ %s" % (n, TEXT)) for n in range(2000)]
        await one.copy_records_to_table("items", records=rows, columns=["id", "name"])
        equal([tuple(row) for row in await one.fetch("select id, name from items order by id")], rows)
        out = io.BytesIO()
        await one.copy_from_query("select id, name from items where id < $1 order by id", 3, output=out, format="csv")
        equal(out.getvalue().decode().startswith('0,"name 0'), True)
        await one.execute("delete from items")
        text = "".join("%d\tname %d\n" % (n, n) for n in range(5000)).encode()
        await one.copy_to_table("items", source=io.BytesIO(text), columns=["id", "name"])
        out = io.BytesIO()
        await one.copy_from_query("select id, name from items order by id", output=out)
        equal(out.getvalue(), text)
        await one.execute("delete from items")
        await expect(asyncpg.InvalidTextRepresentationError,
                     one.copy_to_table("items", source=io.BytesIO(b"1\tone\nx\tbad\n"), columns=["id", "name"]))

        async def failing():
            yield b"1\tone\n"
            raise KeyError("the source fails")
        await expect(KeyError, one.copy_to_table("items", source=failing(), columns=["id", "name"]))
        equal(await one.fetchval("select count(*) from items"), 0)


async def check_cancel():
    async with Connection() as one:
        started = time.monotonic()
        await expect(asyncio.TimeoutError, one.fetchval("select pg_sleep(20)", timeout=0.5))
        equal(await one.fetchval("select 7"), 7)  # waits until the cancel is over
        task = asyncio.ensure_future(one.execute("select pg_sleep(20)"))
        await asyncio.sleep(0.5)
        task.cancel()
        await expect(asyncio.CancelledError, task)
        equal(await one.fetchval("select 7"), 7)
        assert time.monotonic() - started < 10


async def check_large():
    text = large_text()
    async with Connection() as one:
        equal(tuple(await one.fetchrow("select $1::text, 1", text)), (text, 1))
        data = bytes(range(256)) * (LARGE // 256)
        equal(await one.fetchval("select $1::bytea", data), data)


async def work(number, deadline):
    token = "w%d-%s" % (number, os.urandom(6).hex())
    committed = number = 0
    async with Connection() as one:
        while number == 0 or time.monotonic() < deadline:  # once at least, however busy the machine is
            number += 1
            equal(tuple(await one.fetchrow("select $1::text, $2::int", token, number)), (token, number))
            try:
                transaction = one.transaction()
                await transaction.start()
                equal(tuple(await one.fetchrow("insert into load values ($1, $2) returning token, seq", token, committed)),
                      (token, committed))
                equal(await one.fetchval("select count(*) from load where token = $1", token), committed + 1)
                if number % 7 == 0:
                    await one.execute("select 1 / ($1::int - $2::int)", number, number)
                if number % 5 == 0:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    committed += 1
            except asyncpg.DivisionByZeroError:
                assert number % 7 == 0
                await transaction.rollback()
            rows = await one.fetch("select $1::text || n from generate_series(1, 50) n", token)
            equal([row[0] for row in rows], [token + str(n) for n in range(1, 51)])
        equal(await one.fetchval("select count(*) from load where token = $1", token), committed)
    return committed


async def check_load():
    deadline = time.monotonic() + SECONDS
    return str(sum(await asyncio.gather(*(work(number, deadline) for number in range(WORKERS)))))


def alone(check):
    """Each check in an event loop of its own."""
    def function():
        return asyncio.run(asyncio.wait_for(check(), 60 + SECONDS))
    function.__name__ = check.__name__
    return function


print("version asyncpg " + asyncpg.__version__)
harness.run([alone(check) for check in (
    check_connect, check_types, check_prepared, check_transactions, check_errors, check_pipeline, check_cursor, check_copy,
    check_cancel, check_large, check_load)])
