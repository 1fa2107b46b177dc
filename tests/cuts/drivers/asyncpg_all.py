"""asyncpg: prepared statements, a transaction, a cursor, executemany, binary COPY, and its reset on release."""
import asyncio

import asyncpg


async def main():
    pool = await asyncpg.create_pool(min_size=1, max_size=1)
    async with pool.acquire() as client:
        await client.fetch("select a, b from cut where a < $1", 6)
        await client.fetchval("select $1::text", "text")
        statement = await client.prepare("select b from cut where a = $1")
        for number in range(3):
            await statement.fetchval(number)
        async with client.transaction():
            await client.execute("insert into cut values ($1, $2)", 5001, "asyncpg")
            try:
                async with client.transaction():
                    await client.fetch("select 1/$1::int", 0)
            except asyncpg.DivisionByZeroError:
                pass
            async for _ in client.cursor("select a from cut where a < 30", prefetch=10):
                pass
        await client.executemany("insert into cut values ($1, $2)", [(5100 + n, "many") for n in range(4)])
        await client.copy_records_to_table("cut", records=[(5200 + n, "copied") for n in range(5)])
        await client.execute("delete from cut where a > 1000")
    await pool.close()

asyncio.run(main())
