/** The short form of `npm run soak`: mixed traffic, every event once, everything accounted for. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runSoak } from '../soak/soak.ts'
import { missingFor } from './scene.ts'

/** Two lives of the daemon, each long enough to tell whether its memory grows. */
const MINUTES = 1

test('userspace: mixed traffic under changes: nothing is lost without a name, memory is flat', {
  skip: missingFor('userspace'),
}, async (t) => {
  const { problems, summary } = await runSoak({
    plane: 'userspace',
    minutes: MINUTES,
    tell: (line) => console.log(line), // shown when the test fails
    signal: t.signal,
  })
  for (const line of summary) console.log(line)
  assert.deepEqual(problems, [])
})
