// Drizzle ORM at its defaults, on node-postgres: its queries are unnamed statements, .prepare(name) makes named ones.
// Where to connect comes from PG* variables. Prints a line for each check, as tests/drivers/run wants it.
import { count, eq, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { bigint, boolean, customType, doublePrecision, integer, jsonb, numeric, pgTable, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import pg from 'pg'
import { check, equal, expect, largeBytes, largeText, load, STAMP, TEXT, version } from './harness.mjs'

const bytea = customType({ dataType: () => 'bytea' })
const items = pgTable('items', { id: integer().primaryKey(), name: text().notNull(), amount: numeric() })
const loadTable = pgTable('load', { token: text().notNull(), seq: integer().notNull() }, table => [primaryKey({ columns: [table.token, table.seq] })])
const values = pgTable('drizzle_values', {
  a: integer(), b: bigint({ mode: 'bigint' }), c: text(), d: doublePrecision(), e: boolean(), f: timestamp({ withTimezone: true }), g: bytea(),
  h: numeric(), i: text(), j: integer().array(), k: text().array(), l: jsonb(), m: timestamp()
})

async function connected(work, options = {}) {
  const pool = new pg.Pool(options)
  try {
    return await work(drizzle({ client: pool }))
  } finally {
    await pool.end()
  }
}

console.log(`version Drizzle ORM ${version('drizzle-orm')} (node-postgres ${version('pg')})`)

await check('connect', () => connected(async db => {
  equal((await db.execute(sql`select current_user, current_database()`)).rows, [{ current_user: process.env.PGUSER, current_database: process.env.PGDATABASE }])
  await expect('28P01', connected(wrong => wrong.execute(sql`select 1`), { password: 'wrong' }))
}))

await check('types', () => connected(async db => {
  await db.execute(sql`create table drizzle_values (a int, b bigint, c text, d float8, e bool, f timestamptz, g bytea, h numeric, i text,
    j int[], k text[], l jsonb, m timestamp)`)
  try {
    const row = { a: -42, b: 9007199254740993n, c: TEXT, d: -1e300, e: true, f: STAMP, g: Buffer.from([0, 1, 127, 255]),
      h: '12345678901234567890.123456789', i: null, j: [1, -2, 3], k: ['a', 'b c', '"'], l: { a: [1, 2.5, null] }, m: STAMP }
    equal(await db.insert(values).values(row).returning(), [row])
    equal(await db.select().from(values).where(eq(values.b, row.b)), [row])
  } finally {
    await db.execute(sql`drop table drizzle_values`)
  }
}))

await check('prepared', () => connected(db => connected(async other => {
  await db.insert(items).values([{ id: 1, name: 'one' }, { id: 2, name: 'two' }])
  const mine = db.select().from(items).where(eq(items.id, sql.placeholder('id'))).prepare('find')
  for (let round = 0; round < 15; round++) {
    await other.transaction(async held => { // takes the server that `db` had
      const theirs = held.select({ twice: sql`${items.id} * 2` }).from(items).where(eq(items.id, sql.placeholder('id'))).prepare('find')
      for (let id = 1; id <= 2; id++) {
        equal(await theirs.execute({ id }), [{ twice: id * 2 }]) // same name, another text
        equal(await mine.execute({ id }), [{ id, name: id === 1 ? 'one' : 'two', amount: null }])
      }
    })
    equal(await mine.execute({ id: 2 }), [{ id: 2, name: 'two', amount: null }])
  }
  await db.delete(items)
}, { max: 1 }), { max: 1 }))

await check('transactions', () => connected(async db => {
  await db.transaction(async one => {
    await one.insert(items).values({ id: 1, name: 'one' })
    equal(await db.$count(items), 0)
  })
  equal(await db.$count(items), 1)
  await expect('mine', db.transaction(async one => {
    await one.insert(items).values({ id: 2, name: 'two' })
    throw Object.assign(new Error('back'), { code: 'mine' })
  }, { isolationLevel: 'serializable' }))
  equal(await db.$count(items), 1)
  await db.transaction(async one => {
    await one.insert(items).values({ id: 3, name: 'three' })
    await expect('23505', one.transaction(inner => inner.insert(items).values({ id: 3, name: 'again' }))) // a savepoint
    await one.insert(items).values({ id: 4, name: 'four' })
  })
  equal(await db.$count(items), 3)
  await expect('25006', db.transaction(one => one.delete(items), { accessMode: 'read only' }))
  await db.delete(items)
}))

await check('errors', () => connected(async db => {
  await expect('42601', db.execute(sql`selec 1`))
  await expect('42601', db.execute(sql`selec ${1}`))
  await db.insert(items).values({ id: 1, name: 'one' })
  await expect('23505', db.insert(items).values({ id: 1, name: 'again' }))
  await expect('23502', db.insert(items).values({ id: 2, name: sql`null` }))
  equal(await db.insert(items).values({ id: 1, name: 'again' }).onConflictDoUpdate({ target: items.id, set: { amount: '5' } }).returning(),
    [{ id: 1, name: 'one', amount: '5' }])
  await db.delete(items)
  for (let round = 0; round < 10; round++) {
    await expect('25P02', db.transaction(async one => {
      await expect('22012', one.execute(sql`select 1 / ${0}::int`))
      await one.execute(sql`select 1`)
    }))
    equal((await db.execute(sql`select 7 / ${1}::int as n`)).rows, [{ n: 7 }])
  }
}, { max: 1 }))

await check('pipeline', () => connected(async db => { // many rows in one insert, many queries given at once, several in one
  const rows = Array.from({ length: 500 }, (_, id) => ({ id, name: `name ${id}`, amount: null }))
  await db.insert(items).values(rows)
  equal(await Promise.all(rows.slice(0, 100).map(row => db.select().from(items).where(eq(items.id, row.id)))), rows.slice(0, 100).map(row => [row]))
  await db.execute(sql.raw('delete from items; select 1; select 2'))
  equal(await db.select({ value: count() }).from(items), [{ value: 0 }])
}))

await check('cursor', () => connected(async db => { // DECLARE and FETCH: Drizzle has no call of its own for it
  await db.transaction(async one => {
    await one.execute(sql`declare pieces cursor for select n from generate_series(1, 1000) n`)
    for (let fetched = 0; fetched <= 1000; fetched += 100) {
      const { rows } = await one.execute(sql`fetch 100 from pieces`)
      equal(rows.map(row => row.n), Array.from({ length: fetched < 1000 ? 100 : 0 }, (_, n) => fetched + n + 1))
    }
  })
  await expect('34000', db.execute(sql`fetch 1 from pieces`)) // it ended with its transaction
}))

for (const absent of ['copy', 'cancel']) console.log(`n/a ${absent}`)

await check('large', () => connected(async db => {
  const name = largeText()
  const [row] = await db.insert(items).values({ id: 1, name }).returning()
  equal(row.name === name, true)
  const bytes = largeBytes()
  equal(bytes.equals((await db.execute(sql`select ${bytes}::bytea as bytes`)).rows[0].bytes), true)
  await db.delete(items)
}))

await check('load', () => connected(db => {
  const find = db.select({ value: count() }).from(loadTable).where(eq(loadTable.token, sql.placeholder('token'))).prepare('count')
  return load(async (token, more) => {
    let committed = 0
    for (let number = 1; more(); number++) {
      equal((await db.execute(sql`select ${token}::text as token, ${number}::int as number`)).rows, [{ token, number }])
      const back = {}
      try {
        await db.transaction(async one => {
          equal(await one.insert(loadTable).values({ token, seq: committed }).returning(), [{ token, seq: committed }])
          equal(await one.select({ value: count() }).from(loadTable).where(eq(loadTable.token, token)), [{ value: committed + 1 }])
          if (number % 7 === 0) await one.execute(sql`select 1 / (${number}::int - ${number}::int)`)
          if (number % 5 === 0) throw back
        })
        committed++
      } catch (error) {
        if (error !== back && (error.code ?? error.cause?.code) !== '22012') throw error
      }
      equal(await find.execute({ token }), [{ value: committed }])
      const rows = (await db.execute(sql`select ${token}::text || n as value from generate_series(1, 50) n`)).rows
      equal(rows.map(row => row.value), Array.from({ length: 50 }, (_, n) => `${token}${n + 1}`))
    }
    return committed
  })
}, { max: Number(process.env.WORKERS) }))
