import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Ledger } from '../../../control/plan/ledger.ts'
import { blockSize, RangeAllocator } from '../../../control/plan/ranges.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'

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
            const first = ranges.find(count)
            assert.equal(ranges.find(count), first, 'looking takes nothing')
            if (first === null) continue
            assert.ok(ranges.reserve(first, count))
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
        assert.equal(ranges.find(256), 0)
      }),
    )
  })

  test('a range given back waits until packets have left it', () => {
    const ledger = new Ledger({ ...SMALL_SIZES, members: 8 })
    const range = { first: 0, count: 8 }
    assert.deepEqual(ledger.freeRange(8), range)
    ledger.commit(
      [
        { claim: 'take-service', slot: 0, key: 'a' },
        { claim: 'switch', slot: 0, schedule: 1, range, before: null },
      ],
      0,
    )
    assert.equal(ledger.freeRange(1), null)
    assert.equal(ledger.comingMs(), null)
    ledger.commit(
      [{ claim: 'switch', slot: 0, schedule: 0, range: { first: 0, count: 0 }, before: null }],
      10,
    )
    // Packets that had begun by then are through, but not those that began in the same moment.
    ledger.release(10)
    assert.equal(ledger.freeRange(8), null)
    assert.notEqual(ledger.comingMs(), null)
    ledger.release(10.001)
    assert.deepEqual(ledger.freeRange(8), range)
  })
})

describe('slots', () => {
  test('the one that has been free for longest is used first', () => {
    const ledger = new Ledger({ ...SMALL_SIZES, services: 3 })
    const take = (key: string): number => {
      const slot = ledger.freeService()!
      ledger.commit([{ claim: 'take-service', slot, key }], 0)
      return slot
    }
    const [a, b, c] = ['a', 'b', 'c'].map(take) as [number, number, number]
    assert.equal(ledger.freeService(), null)
    for (const slot of [b, a]) ledger.commit([{ claim: 'free-service', slot }], 0)
    // Counted at once, to be had when no packet can be reading their records.
    assert.equal(ledger.servicesFree, 2)
    assert.equal(ledger.freeService(), null)
    ledger.release(1)
    assert.equal(ledger.servicesFree, 2)
    assert.deepEqual([take('d'), take('e')], [b, a])
    assert.equal(ledger.serviceOfKey('c')?.slot, c)
    assert.equal(ledger.servicesFree, 0)
  })

  test('whatever is taken and given back, each free one is offered once', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 9 }), { maxLength: 60 }), (steps) => {
        const ledger = new Ledger({ ...SMALL_SIZES, reals: 10 })
        ledger.commit([{ claim: 'take-service', slot: 0, key: 'a' }], 0)
        const used = new Set<number>()
        for (const real of steps) {
          if (used.delete(real)) ledger.commit([{ claim: 'free-real', real }], 0)
          else {
            used.add(real)
            ledger.commit([{ claim: 'take-real', real, slot: 0, key: `${real}` }], 0)
          }
          const free = ledger.freeReals(10)
          assert.equal(new Set([...free, ...used]).size, 10)
          assert.equal(free.length, 10 - used.size)
          assert.deepEqual(ledger.freeReals(3), free.slice(0, 3))
        }
      }),
    )
  })
})
