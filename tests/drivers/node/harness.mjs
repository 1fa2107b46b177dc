// What the three Node programs share: the lines that tests/drivers/run reads, and the load's frame. Each driver's own file
// does everything else in that driver's idiom, at its defaults.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { randomBytes } from 'node:crypto'

export const TEXT = "grüße ☃ 😀 'quoted' \\ \t\n"
export const STAMP = new Date(Date.UTC(2024, 1, 29, 12, 34, 56, 789))
export const LARGE = 8 << 20
export const SLEEPING = "select count(*)::int as count from pg_stat_activity where state = 'active' and query like 'select pg_sleep(20)%'"
export const largeText = () => '0123456789abcdef'.repeat(LARGE / 16)
export const largeBytes = () => Buffer.alloc(LARGE, Buffer.from(Array.from({ length: 256 }, (_, i) => i)))
export const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))
export const equal = (got, expected) => assert.deepEqual(got, expected)

export function version(name) {
  let directory = dirname(createRequire(import.meta.url).resolve(name))
  for (;;) {
    try {
      const found = JSON.parse(readFileSync(join(directory, 'package.json')))
      if (found.version) return found.version
    } catch { /* not here */ }
    directory = dirname(directory)
  }
}

export async function expect(sqlstate, promise) {
  try {
    await promise
  } catch (error) {
    const found = error.code ?? error.cause?.code
    if (found === sqlstate) return
    throw error
  }
  throw new Error(`${sqlstate} expected`)
}

export async function check(name, work) {
  try {
    console.log(`ok ${name} ${(await work()) ?? ''}`.trim())
  } catch (error) {
    const line = /(?:pg|postgresjs|drizzle)\.mjs:(\d+)/.exec(error.stack)?.[1]
    const cause = error.cause ? ` (${error.cause.message})` : ''
    if (process.env.TRACE) console.log(error)
    console.log(`fail ${name} line ${line}: ${`${error.message}${cause}`.replace(/\s+/g, ' ').slice(0, 500)}`)
  }
}

/** work(token, more) for each connection of the load; more() is true while there is time, and once at least. Returns the sum of the results. */
export async function load(work) {
  const until = Date.now() + 1000 * Number(process.env.SECONDS)
  const workers = Array.from({ length: Number(process.env.WORKERS) }, (_, number) => {
    let rounds = 0
    return work(`w${number}-${randomBytes(6).toString('hex')}`, () => rounds++ === 0 || Date.now() < until)
  })
  return (await Promise.all(workers)).reduce((sum, committed) => sum + committed, 0)
}
