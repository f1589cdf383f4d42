import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { egressFlagsIn, publishEgress, publishRelayed } from '../../dataplane/egress-table.ts'
import { EgressFlag, PM_EGRESS_PROBES, PM_EGRESSES } from '../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../dataplane/memory.ts'
import fc from '../property.ts'

const fresh = () => new MemoryDataplane(SMALL_SIZES).map('egress')

describe('the table of ways out', () => {
  test('says what was published last, of any set of interfaces, and nothing of others', () => {
    const flags = fc.integer({ min: 0, max: 15 })
    // Few chains of slots, so that they run into each other.
    const ifindex = fc
      .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 3 }))
      .map(([low, high]) => low + high * PM_EGRESSES)
    const tables = fc.array(fc.array(fc.tuple(ifindex, flags), { maxLength: 12 }), { maxLength: 6 })
    fc.assert(
      fc.property(tables, (steps) => {
        const map = fresh()
        for (const step of steps) {
          const wanted = new Map(step)
          const crowded = publishEgress(map, wanted)
          for (let low = 1; low <= 6; low++) {
            for (let high = 0; high <= 3; high++) {
              const at = low + high * PM_EGRESSES
              const expected = crowded.includes(at) ? 0 : (wanted.get(at) ?? 0)
              assert.equal(egressFlagsIn(map, at), expected)
            }
          }
        }
      }),
    )
  })

  test('names the interfaces that find no room', () => {
    const map = fresh()
    const same = Array.from({ length: PM_EGRESS_PROBES + 1 }, (_, i) => 5 + i * PM_EGRESSES)
    const crowded = publishEgress(map, new Map(same.map((ifindex) => [ifindex, EgressFlag.NoRedirect])))
    assert.deepEqual(crowded, same.slice(-1))
  })

  test('beside whom traffic control sends is said of exactly those, and changes nothing else that is said', () => {
    const map = fresh()
    const flags = new Map([
      [1, EgressFlag.NoTurn],
      [1 + PM_EGRESSES, EgressFlag.NoRedirect],
      [2, EgressFlag.NoTurn],
    ])
    publishEgress(map, flags)
    const relays = [new Set([1, 3]), new Set([3, 1 + PM_EGRESSES]), new Set<number>()]
    for (const relayed of relays) {
      publishRelayed(map, relayed)
      for (const ifindex of [1, 1 + PM_EGRESSES, 2, 3]) {
        const expected = (flags.get(ifindex) ?? 0) | (relayed.has(ifindex) ? EgressFlag.Relay : 0)
        assert.equal(egressFlagsIn(map, ifindex), expected, `interface ${ifindex}`)
      }
    }
  })

  test('a place is free again for another interface when nothing is to be said of the first', () => {
    const map = fresh()
    for (let round = 0; round < 4 * PM_EGRESS_PROBES; round++) {
      const ifindex = 7 + round * PM_EGRESSES
      assert.deepEqual(publishEgress(map, new Map([[ifindex, EgressFlag.NoTurn]])), [])
      assert.equal(egressFlagsIn(map, ifindex), EgressFlag.NoTurn)
    }
  })
})
