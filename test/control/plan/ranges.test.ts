import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Ledger, QUARANTINE_MS } from '../../../control/plan/ledger.ts'
import { blockSize, RangeAllocator } from '../../../control/plan/ranges.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'

describe('ranges of members', () => {
  test('never overlap, fit, and join again when all are given back', () => {
    const step = fc.record({ take: fc.boolean(), count: fc.integer({ min: 1, max: 70 }), which: fc.nat() })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const total = 300
        const ranges = new RangeAllocator(total)
        const held: { first: number; count: number }[] = []
        for (const { take, count, which } of steps) {
          if (take || held.length === 0) {
            const first = ranges.allocate(count)
            if (first === null) continue
            assert.ok(first + count <= total)
            for (const other of held) {
              assert.ok(
                first >= other.first + blockSize(other.count) || other.first >= first + blockSize(count),
              )
            }
            held.push({ first, count })
          } else {
            const [range] = held.splice(which % held.length, 1)
            ranges.release(range!.first, range!.count)
          }
        }
        // Whoever finds the ranges in the maps can take the same blocks.
        const next = new RangeAllocator(total)
        for (const { first, count } of held) assert.ok(next.reserve(first, count))
        for (const { first, count } of held) assert.ok(!next.reserve(first, count), 'taken already')
        for (const { first, count } of held) ranges.release(first, count)
        assert.equal(ranges.allocate(256), 0)
      }),
    )
  })

  test('a range given back waits until packets have left it', () => {
    const ledger = new Ledger({ ...SMALL_SIZES, members: 8 })
    const range = ledger.takeRange(8, 0)
    assert.ok('first' in range)
    ledger.giveRange(range, 10)
    assert.deepEqual(ledger.takeRange(8, 50), { waitMs: 10 + QUARANTINE_MS - 50 })
    assert.deepEqual(ledger.takeRange(8, 10 + QUARANTINE_MS), { first: 0, count: 8 })
    assert.deepEqual(ledger.takeRange(1, 1000), { waitMs: Number.POSITIVE_INFINITY })
  })
})

describe('slots', () => {
  test('the one that has been free for longest is used first', () => {
    const ledger = new Ledger({ ...SMALL_SIZES, services: 3 })
    const [a, b, c] = ['a', 'b', 'c'].map((key) => ledger.takeService(key)!)
    assert.equal(ledger.takeService('d'), null)
    ledger.dropService(b!)
    ledger.dropService(a!)
    assert.deepEqual([ledger.takeService('d')!.slot, ledger.takeService('e')!.slot], [b!.slot, a!.slot])
    assert.equal(ledger.takeService('c'), c)
    assert.equal(ledger.servicesFree, 0)
  })
})
