// node-postgres at its defaults, with its companions pg-cursor and pg-copy-streams; a query with a name is a named
// statement. Where to connect comes from PG* variables. Prints a line for each check, as tests/drivers/run wants it.
import { pipeline } from 'node:stream/promises'
import { PassThrough, Readable } from 'node:stream'
import pg from 'pg'
import Cursor from 'pg-cursor'
import { from, to } from 'pg-copy-streams'
import { check, equal, expect, largeBytes, largeText, load, SLEEPING, STAMP, TEXT, version, wait } from './harness.mjs'

async function connected(count, work, options = {}) {
  const clients = await Promise.all(Array.from({ length: count }, async () => {
    const client = new pg.Client(options)
    await client.connect()
    return client
  }))
  try {
    return await work(...clients)
  } finally {
    await Promise.all(clients.map(client => client.end()))
  }
}
const rows = async (client, text, values, name) => (await client.query({ text, values, name, rowMode: 'array' })).rows
const one = async (client, text, values, name) => (await rows(client, text, values, name))[0][0]

console.log(`version node-postgres ${version('pg')} (Node ${process.versions.node})`)

await check('connect', () => connected(1, async client => {
  equal(await rows(client, 'select current_user, current_database()'), [[process.env.PGUSER, process.env.PGDATABASE]])
  await expect('28P01', new pg.Client({ password: 'wrong' }).connect())
}))

await check('types', () => connected(1, async client => {
  const bytes = Buffer.from([0, 1, 127, 255])
  const row = (await rows(client, `select $1::int4, $2::int8, $3::text, $4::float8, $5::bool, $6::timestamptz, $7::bytea, $8::numeric,
    $9::text, $10::int[], $11::text[], $12::jsonb, '2024-02-29 12:34:56.789'::timestamp`,
    [-42, '9007199254740993', TEXT, -1e300, true, STAMP, bytes, '12345678901234567890.123456789', null, [1, -2, 3], ['a', 'b c', '"', null],
      { a: [1, 2.5, null] }]))[0]
  equal(row, [-42, '9007199254740993', TEXT, -1e300, true, STAMP, bytes, '12345678901234567890.123456789', null, [1, -2, 3],
    ['a', 'b c', '"', null], { a: [1, 2.5, null] }, new Date(2024, 1, 29, 12, 34, 56, 789)])
  equal((await client.query({ text: 'select $1::int4 as n', values: [7], binary: true })).rows, [{ n: 7 }])
}))

await check('prepared', () => connected(2, async (client, other) => {
  for (let number = 0; number < 40; number++) {
    if (number % 3 === 0) await other.query('begin') // takes the server that `client` had
    equal(await one(client, 'select $1::int + 1', [number], 'plus'), number + 1)
    equal(await one(other, "select 'other ' || $1::text", [number], 'plus'), `other ${number}`) // same name, another text
    if (number % 3 === 1) await other.query('rollback')
  }
  await other.query('rollback')
  for (let round = 0; round < 3; round++) {
    for (let number = 0; number < 250; number++) equal(await one(client, `select $1::int + ${number}`, [round], `s${number}`), number + round)
  }
  await expect('42601', one(client, 'selec $1', [1], 'bad'))
  equal(await one(client, 'select $1::int + 1', [7], 'plus'), 8)
}))

await check('transactions', () => connected(2, async (client, other) => {
  const count = () => one(other, 'select count(*)::int from items')
  await client.query('begin')
  await client.query("insert into items values (1, 'one')")
  equal(await count(), 0)
  await client.query('commit')
  equal(await count(), 1)
  await client.query('begin isolation level serializable')
  await client.query('insert into items values ($1, $2)', [2, 'two'])
  await client.query('rollback')
  await client.query('begin')
  await client.query('insert into items values ($1, $2)', [3, 'three'])
  await client.query('savepoint before')
  await expect('23505', client.query('insert into items values ($1, $2)', [3, 'again']))
  await client.query('rollback to before')
  await client.query('commit')
  equal(await count(), 2)
  await client.query('delete from items')
}))

await check('errors', () => connected(1, async client => {
  await expect('42601', client.query('selec 1'))
  await expect('42601', client.query('selec $1', [1]))
  await client.query("insert into items values (1, 'one')")
  await expect('23505', client.query("insert into items values ($1, 'again')", [1]))
  await expect('23502', client.query('insert into items values (2, $1)', [null]))
  await client.query('delete from items')
  for (let round = 0; round < 10; round++) {
    await client.query('begin')
    await expect('22012', client.query('select 1 / $1::int', [0]))
    await expect('25P02', client.query('select 1'))
    await client.query('rollback')
    equal(await one(client, 'select 7 / $1::int', [1]), 7)
  }
}))

await check('pipeline', () => connected(1, async client => { // every query is sent at once, each with its own Sync
  for (let round = 0; round < 10; round++) {
    const values = Array.from({ length: 100 }, (_, n) => n)
    const wrong = expect('22012', client.query('select 1 / $1::int', [0]))
    const results = await Promise.all(values.map(n => one(client, 'select $1::int * 2', [n], n % 2 ? 'twice' : undefined)))
    equal(results, values.map(n => n * 2))
    await wrong
  }
  const several = await client.query('select 1 as a; select 2 as b; select 3 as c')
  equal(several.map(result => result.rows), [[{ a: 1 }], [{ b: 2 }], [{ c: 3 }]])
  await expect('22012', client.query("insert into items values (1, 'one'); select 1/0; select 3"))
  equal(await one(client, 'select count(*)::int from items'), 0)
}, { pipeline: true }))

await check('cursor', () => connected(1, async client => { // pg-cursor: a portal, executed in pieces
  await client.query('begin')
  for (let round = 0; round < 3; round++) {
    const cursor = client.query(new Cursor('select n from generate_series(1, $1::int) n', [1000]))
    const numbers = []
    for (let piece; (piece = await cursor.read(100)).length > 0;) {
      numbers.push(...piece.map(row => row.n))
      if (round === 2 && numbers.length === 300) break // only its beginning
    }
    equal(numbers, Array.from({ length: round === 2 ? 300 : 1000 }, (_, n) => n + 1))
    await cursor.close()
  }
  await client.query('commit')
}))

await check('copy', () => connected(1, async client => { // pg-copy-streams
  const text = Array.from({ length: 20000 }, (_, n) => `${n}\tname ${n}\n`).join('')
  await pipeline(Readable.from([text]), client.query(from('copy items (id, name) from stdin')))
  const out = new PassThrough()
  const pieces = []
  out.on('data', piece => pieces.push(piece))
  await pipeline(client.query(to('copy (select id, name from items order by id) to stdout')), out)
  equal(Buffer.concat(pieces).toString() === text, true)
  await client.query('delete from items')
  await expect('22P02', pipeline(Readable.from(['1\tone\nx\tbad\n']), client.query(from('copy items (id, name) from stdin'))))
  async function * failing() {
    yield '1\tone\n'
    throw Object.assign(new Error('the source fails'), { code: 'mine' })
  }
  await expect('mine', pipeline(Readable.from(failing()), client.query(from('copy items (id, name) from stdin'))))
  equal(await one(client, 'select count(*)::int from items'), 0)
}))

await check('cancel', () => connected(2, async (client, other) => {
  const query = new pg.Query('select pg_sleep(20)')
  const done = new Promise((resolve, reject) => { query.on('end', resolve); query.on('error', reject) })
  done.catch(() => {})
  client.query(query)
  while ((await one(other, SLEEPING)) === 0) await wait(20)
  // Its cancel() compares with client.activeQuery, which is deprecated but there.
  new pg.Client().cancel(client, query)
  await expect('57014', done)
  equal(await one(client, 'select 7'), 7)
}))

await check('large', () => connected(1, async client => {
  const [text, bytes] = [largeText(), largeBytes()]
  const row = (await rows(client, 'select $1::text, $2::bytea', [text, bytes]))[0]
  equal(row[0] === text, true)
  equal(bytes.equals(row[1]), true)
}))

await check('load', async () => {
  const pool = new pg.Pool({ max: Number(process.env.WORKERS) })
  try {
    return await load(async (token, more) => {
      const client = await pool.connect()
      let committed = 0
      for (let number = 1; more(); number++) {
        equal(await rows(client, 'select $1::text, $2::int', [token, number]), [[token, number]])
        await client.query('begin')
        equal(await rows(client, 'insert into load values ($1, $2) returning token, seq', [token, committed], 'insert'), [[token, committed]])
        equal(await one(client, 'select count(*)::int from load where token = $1', [token], 'count'), committed + 1)
        if (number % 7 === 0) await expect('22012', client.query('select 1 / ($1::int - $2::int)', [number, number]))
        const keep = number % 7 !== 0 && number % 5 !== 0
        await client.query(keep ? 'commit' : 'rollback')
        committed += keep ? 1 : 0
        equal((await rows(client, 'select $1::text || n from generate_series(1, 50) n', [token], 'series')).map(row => row[0]),
          Array.from({ length: 50 }, (_, n) => `${token}${n + 1}`))
      }
      equal(await one(client, 'select count(*)::int from load where token = $1', [token]), committed)
      client.release()
      return committed
    })
  } finally {
    await pool.end()
  }
})
