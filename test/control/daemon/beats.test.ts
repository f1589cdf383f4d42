/** How much of a CPU's time expiry takes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { expiry } from '../../../control/daemon/beats.ts'

/** Sweeps of so many slices of a millisecond, rung every second for ten minutes: ms worked, and sweeps. */
function tenMinutes(slices: number): { readonly worked: number; readonly sweeps: number } {
  let now = 0
  let left = slices
  let worked = 0
  let sweeps = 0
  const run = expiry(
    {
      sweepIsDue: () => true,
      sweepSlice: () => {
        now++
        worked++
        left--
        if (left > 0) return false
        left = slices
        sweeps++
        return true
      },
    },
    () => now,
  )
  while (now < 600_000) now += run() ?? 1000 - (now % 1000)
  return { worked, sweeps }
}

test('a small table is swept every second, a large one so seldom that it takes a hundredth of the time', () => {
  assert.ok(tenMinutes(1).sweeps >= 599)
  assert.ok(tenMinutes(9).sweeps >= 599)
  const large = tenMinutes(40)
  assert.ok(large.worked <= 6000, `${large.worked} ms of 600 s`)
  assert.ok(large.sweeps >= 100, `${large.sweeps} sweeps`)
  assert.ok(tenMinutes(2000).sweeps >= 20, 'and no table for ever')
})
