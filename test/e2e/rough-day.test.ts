/** The short form of `npm run soak -- --rough`: every accident once, on both planes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runRoughDay } from '../soak/rough-day.ts'
import { missingFor, PLANES } from './scene.ts'

for (const plane of PLANES) {
  test(`${plane}: on a rough day no open connection breaks, and status says what is so`, {
    skip: missingFor(plane),
  }, async () => {
    const problems = await runRoughDay({ plane, tell: (line) => console.log(line) })
    assert.deepEqual(problems, [])
  })
}
