import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Capacity } from '../../../control/plan/capacity.ts'
import { Ledger } from '../../../control/plan/ledger.ts'
import { type ServiceEntry, serviceEntry } from '../../../control/rules/entries.ts'
import type { MapMemory } from '../../../dataplane/dataplane.ts'
import { LiveRecord } from '../../../dataplane/layout/layout.gen.ts'
import { service } from '../support.ts'

const SIZES = {
  ...{ services: 4, serviceBuckets: 4, reals: 16, members: 64 },
  ...{ connections4: 16, connections6: 16, cpus: 1 },
}

/** Maps in which so many services are held that nobody wants, each by a connection of its one real server. */
function held(count: number): { ledger: Ledger; capacity: Capacity; looks: () => number } {
  const ledger = new Ledger(SIZES)
  const u32 = new Uint32Array((SIZES.reals * LiveRecord.size) / 4)
  for (let slot = 0; slot < count; slot++) {
    ledger.adoptService(slot, `gone ${slot}`, 'gone')
    ledger.adoptReal(slot, slot, 'server', 0)
    u32[(slot * LiveRecord.size + LiveRecord.offsets.active) / 4] = 1
  }
  let looks = 0
  const holdings = ledger.holdings.bind(ledger)
  ledger.holdings = () => {
    looks++
    return holdings()
  }
  const capacity = new Capacity(ledger, { u32 } as MapMemory, () => 0)
  return { ledger, capacity, looks: () => looks }
}

const entry = (key: string): [string, ServiceEntry] => [
  key,
  serviceEntry(key, service('tcp 10.0.0.1:80'), 1, 'manual'),
]

describe('room for a service', () => {
  test('is taken by removed ones as long as they have connections', () => {
    const { capacity } = held(3)
    assert.equal(capacity.admitsService('new', new Map()), true)
    assert.equal(capacity.admitsService('newer', new Map([entry('new')])), false)
  })

  test('is there for one that comes back: it has its place still', () => {
    const { capacity } = held(3)
    const wanted = new Map([entry('new')])
    assert.equal(capacity.admitsService('gone 1', wanted), true)
    wanted.set(...entry('gone 1'))
    assert.equal(capacity.admitsService('newer', wanted), false)
  })

  test('is counted once for all that come at a time, not for each of ten thousand', () => {
    const { capacity, looks } = held(2)
    const wanted = new Map([entry('a'), entry('b')])
    for (const key of ['c', 'd', 'e']) capacity.admitsService(key, wanted)
    assert.equal(looks(), 1)
  })
})
