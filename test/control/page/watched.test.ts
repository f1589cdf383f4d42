/** The short form of `npm run soak -- --watched`. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { growth, runWatched } from '../../soak/watched.ts'
import { skip } from './stage.ts'

test('a day of samples, a browser left open and a scraper every second: memory is flat', {
  skip,
}, async (t) => {
  assert.deepEqual(await runWatched({ looks: 120, tell: (line) => t.diagnostic(line) }), [])
})

test('memory that grows is noticed, and what a collector leaves lying about is not', () => {
  const parts = Array.from({ length: 12 }, (_, i) => i)
  const flat = (i: number): number => 50e6 + (i % 3) * 4e6
  const seen = parts.map((i) => ({ director: flat(i), page: flat(i + 1), nodes: 4000 + (i % 2) * 500 }))
  assert.deepEqual(growth(seen), [])
  assert.match(
    growth(seen.map((one, i) => ({ ...one, page: one.page + i * 2e6 }))).join(),
    /^the page grew by/,
  )
  assert.match(growth(seen.map((one, i) => ({ ...one, director: 1e6 * i }))).join(), /^the director grew/)
  assert.match(growth(seen.map((one, i) => ({ ...one, nodes: 1000 * i }))).join(), /nodes more/)
})
