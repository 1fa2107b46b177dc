// postgres.js at its defaults: every query with values is a named statement, queries of one connection are pipelined, the
// array types are fetched at connect. Where to connect comes from PG* variables. Prints a line for each check, as
// tests/drivers/run wants it.
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import postgres from 'postgres'
import { check, equal, expect, largeBytes, largeText, load, SLEEPING, STAMP, TEXT, version, wait } from './harness.mjs'

async function connected(work, options = {}) {
  const sql = postgres({ onnotice: () => {}, ...options })
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
}

console.log(`version postgres.js ${version('postgres')} (Node ${process.versions.node})`)

await check('connect', () => connected(async sql => {
  equal([...await sql`select current_user, current_database()`], [{ current_user: process.env.PGUSER, current_database: process.env.PGDATABASE }])
  await expect('28P01', connected(wrong => wrong`select 1`, { password: 'wrong' }))
}))

await check('types', () => connected(async sql => {
  const bytes = Buffer.from([0, 1, 127, 255])
  const [row] = await sql`select ${-42}::int4 as a, ${'9007199254740993'}::int8 as b, ${TEXT}::text as c, ${-1e300}::float8 as d,
    ${true}::bool as e, ${STAMP}::timestamptz as f, ${bytes}::bytea as g, ${'12345678901234567890.123456789'}::numeric as h,
    ${null}::text as i, ${[1, -2, 3]}::int[] as j, ${['a', 'b c', '"']}::text[] as k, ${sql.json({ a: [1, 2.5, null] })}::jsonb as l`
  equal(row, { a: -42, b: '9007199254740993', c: TEXT, d: -1e300, e: true, f: STAMP, g: bytes, h: '12345678901234567890.123456789', i: null,
    j: [1, -2, 3], k: ['a', 'b c', '"'], l: { a: [1, 2.5, null] } })
  equal((await sql`select ${1}::int as n`.describe()).columns[0].name, 'n')
}))

await check('prepared', () => connected(sql => connected(async other => {
  for (let round = 0; round < 15; round++) {
    await other.begin(async held => { // takes the server that `sql` had
      await held`select 1`
      for (let number = 0; number < 3; number++) {
        equal((await sql`select ${number}::int + 1 as n`)[0].n, number + 1)
        equal((await held`select ${number}::int + 1000 as n`)[0].n, number + 1000)
      }
    })
    equal((await sql`select ${round}::int + 1 as n`)[0].n, round + 1)
  }
  for (let round = 0; round < 3; round++) {
    for (let number = 0; number < 250; number++) equal((await sql.unsafe(`select $1::int + ${number} as n`, [round], { prepare: true }))[0].n, number + round)
  }
}, { max: 1 }), { max: 1 }))

await check('transactions', () => connected(async sql => {
  const count = async () => (await sql`select count(*)::int as n from items`)[0].n
  await sql.begin(async one => {
    await one`insert into items values (1, 'one')`
    equal(await count(), 0)
  })
  equal(await count(), 1)
  await expect('mine', sql.begin('isolation level serializable', async one => {
    await one`insert into items ${one({ id: 2, name: 'two' })}`
    throw Object.assign(new Error('back'), { code: 'mine' })
  }))
  equal(await count(), 1)
  await sql.begin(async one => {
    await one`insert into items values (${3}, ${'three'})`
    await expect('23505', one.savepoint(inner => inner`insert into items values (${3}, ${'again'})`))
    await one`insert into items values (${4}, ${'four'})`
  })
  equal(await count(), 3)
  await sql`delete from items`
}))

await check('errors', () => connected(async sql => {
  await expect('42601', sql`selec 1`)
  await expect('42601', sql`selec ${1}`)
  await sql`insert into items values (1, 'one')`
  await expect('23505', sql`insert into items values (${1}, 'again')`)
  await expect('23502', sql`insert into items values (2, ${null})`)
  await sql`delete from items`
  for (let round = 0; round < 10; round++) {
    await expect('22012', sql.begin(async one => {
      await expect('22012', one`select 1 / ${0}::int`)
      await expect('25P02', one`select 1`)
    }))
    equal((await sql`select 7 / ${1}::int as n`)[0].n, 7)
  }
}, { max: 1 }))

await check('pipeline', () => connected(async sql => { // it pipelines by itself what one connection is given
  for (let round = 0; round < 10; round++) {
    const wrong = expect('22012', sql`select 1 / ${0}::int`)
    const values = Array.from({ length: 200 }, (_, n) => n)
    const results = await Promise.all(values.map(n => n % 2 ? sql`select ${n}::int * 2 as n` : sql`select ${n}::int * 2 as n, 'even'`))
    equal(results.map(rows => rows[0].n), values.map(n => n * 2))
    await wrong
    const [a, b] = await sql.begin(one => [one`select ${1}::int as n`, one`select ${2}::int as n`])
    equal([a[0].n, b[0].n], [1, 2])
  }
  equal((await sql.unsafe('select 1 as a; select 2 as b').simple()).map(rows => [...rows]), [[{ a: 1 }], [{ b: 2 }]])
}, { max: 1 }))

await check('cursor', () => connected(async sql => { // a portal, executed in pieces
  const numbers = []
  for await (const piece of sql`select n from generate_series(1, ${1000}::int) n`.cursor(100)) numbers.push(...piece.map(row => row.n))
  equal(numbers, Array.from({ length: 1000 }, (_, n) => n + 1))
  await sql`select n from generate_series(1, 1000) n`.cursor(100, () => sql.CLOSE) // only its beginning
  equal([...await sql`select 7 as n`], [{ n: 7 }])
  let seen = 0
  await sql`select n from generate_series(1, 1000) n`.forEach(() => { seen++ })
  equal(seen, 1000)
}, { max: 1 }))

await check('copy', () => connected(async sql => {
  const lines = Array.from({ length: 20000 }, (_, n) => `${n}\tname ${n}\n`)
  await pipeline(Readable.from([lines.join('')]), await sql`copy items (id, name) from stdin`.writable())
  equal((await sql`select count(*)::int as n from items where name = 'name ' || id`)[0].n, 20000)
  // Out only what fits a stream's buffer (16 KiB): past that postgres.js may leave its socket paused for good.
  const pieces = []
  for await (const piece of await sql`copy (select id, name from items order by id limit 500) to stdout`.readable()) pieces.push(piece)
  equal(Buffer.concat(pieces).toString(), lines.slice(0, 500).join(''))
  await sql`delete from items`
  // Bad rows are not tried: postgres.js never ends the stream when the server refuses them at its end.
  async function * failing() {
    yield '1\tone\n'
    throw Object.assign(new Error('the source fails'), { code: 'mine' })
  }
  await expect('mine', pipeline(Readable.from(failing()), await sql`copy items (id, name) from stdin`.writable()))
  equal((await sql`select count(*)::int as n from items`)[0].n, 0)
}))

await check('cancel', () => connected(sql => connected(async other => {
  const query = sql`select pg_sleep(20)`
  const done = expect('57014', query)
  while ((await other.unsafe(SLEEPING))[0].count === 0) await wait(20)
  await query.cancel()
  await done
  equal([...await sql`select 7 as n`], [{ n: 7 }])
}), { max: 1 }))

await check('large', () => connected(async sql => {
  const [text, bytes] = [largeText(), largeBytes()]
  const [row] = await sql`select ${text}::text as text, ${bytes}::bytea as bytes`
  equal(row.text === text, true)
  equal(bytes.equals(row.bytes), true)
}))

await check('load', () => connected(sql => load(async (token, more) => {
  let committed = 0
  for (let number = 1; more(); number++) {
    equal([...await sql`select ${token}::text as token, ${number}::int as number`], [{ token, number }])
    const back = {}
    try {
      await sql.begin(async one => {
        equal([...await one`insert into load values (${token}, ${committed}) returning token, seq`], [{ token, seq: committed }])
        equal([...await one`select count(*)::int as n from load where token = ${token}`], [{ n: committed + 1 }])
        if (number % 7 === 0) await one`select 1 / (${number}::int - ${number}::int)`
        if (number % 5 === 0) throw back
      })
      committed++
    } catch (error) {
      if (error !== back && error.code !== '22012') throw error
    }
    const rows = await sql`select ${token}::text || n as value from generate_series(1, 50) n`
    equal(rows.map(row => row.value), Array.from({ length: 50 }, (_, n) => `${token}${n + 1}`))
  }
  equal([...await sql`select count(*)::int as n from load where token = ${token}`], [{ n: committed }])
  return committed
}), { max: Number(process.env.WORKERS) }))
