/** Next hops of real servers as the packet program reads them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDirector } from '../../../control/apply/open.ts'
import type { HostHop } from '../../../control/rules/host.ts'
import { HopRecord, RealRecord, SettingsRecord, Slot } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { server, service, testHost } from '../support.ts'

function scene() {
  const known = new Map<string, HostHop>()
  let generation = 0
  let asked = 0
  const hops = {
    generation: () => generation,
    to: (address: string) => {
      asked++
      return known.get(address) ?? null
    },
  }
  const dataplane = new MemoryDataplane(SMALL_SIZES, 1000)
  const { director, applier, rules } = openDirector({ dataplane, host: { ...testHost(), hops } })
  return {
    director,
    applier,
    record: (address: string) => {
      assert.equal([...rules.entries()].length, 1)
      const [first] = [...Array(SMALL_SIZES.reals).keys()].filter((real) => {
        const { slot, addr } = RealRecord.read(dataplane.map('reals').view, real * RealRecord.size)
        return slot === Slot.Live && addr.slice(0, 4).join('.') === address
      })
      return HopRecord.read(dataplane.map('hops').view, first! * HopRecord.size)
    },
    learn: (address: string, last: number) => {
      const mac = Uint8Array.of(2, 0, 0, 0, 0, last)
      known.set(address, { ifindex: 3, smac: Uint8Array.of(2, 0, 0, 0, 1, 1), dmac: mac, mtu: 1400 })
      generation++
    },
    epoch: () => SettingsRecord.getNextHopEpoch(dataplane.map('settings').view, 0),
    asked: () => asked,
  }
}

test('a next hop is written once it is known, and again when it moves; then packets ask anew', async () => {
  const { director, applier, record, learn, epoch, asked } = scene()
  const web = service('tcp 192.0.2.100:80', { scheduler: 'rr' })
  director.addService(web)
  director.addServer(web.id, server('10.0.0.1:8080'))
  await director.settle()
  applier.renewHops()
  assert.equal(record('10.0.0.1').ifindex, 0)
  const before = epoch()
  learn('10.0.0.1', 7)
  applier.renewHops()
  const { version, ifindex, mtu, dmac, addr } = record('10.0.0.1')
  assert.deepEqual([version % 2, ifindex, mtu, dmac[5]], [0, 3, 1400, 7])
  assert.deepEqual([...addr.slice(0, 4)], [10, 0, 0, 1])
  assert.equal(epoch(), before, 'nobody can have kept anything')
  learn('10.0.0.1', 8)
  applier.renewHops()
  assert.equal(record('10.0.0.1').dmac[5], 8)
  assert.notEqual(record('10.0.0.1').version, version)
  assert.equal(epoch(), before + 1)
  const questions = asked()
  applier.renewHops()
  assert.equal(asked(), questions, 'nothing has changed')
})
