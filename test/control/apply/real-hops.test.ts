/** Next hops of real servers as the packet program reads them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MapApplier } from '../../../control/apply/map-applier.ts'
import type { HostHop } from '../../../control/rules/host.ts'
import { HopRecord, RealRecord, SettingsRecord, Slot } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import type { IpAddress } from '../../../net/address.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'

/** Ends by itself, however little is done at once. */
function renewHops(applier: MapApplier): number {
  let slices = 1
  while (!applier.renewHops(0)) slices++
  return slices
}

function scene(sizes = SMALL_SIZES) {
  const known = new Map<string, HostHop>()
  let generation = 0
  let learnt: Set<IpAddress> | null = new Set()
  let asked = 0
  const hops = {
    generation: () => generation,
    takeLearnt: () => {
      const taken = learnt
      learnt = new Set()
      return taken
    },
    to: (address: string) => {
      asked++
      return known.get(address) ?? null
    },
  }
  const dataplane = new MemoryDataplane(sizes, 1000)
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
      if (known.has(address)) generation++
      else if (learnt !== null) learnt.add(address as IpAddress)
      known.set(address, { ifindex: 3, smac: Uint8Array.of(2, 0, 0, 0, 1, 1), dmac: mac, mtu: 1400 })
    },
    epoch: () => SettingsRecord.getNextHopEpoch(dataplane.map('settings').view, 0),
    asked: () => asked,
    learnSomebody: () => {
      learnt = null
    },
  }
}

test('a next hop is written once it is known, and again when it moves; nobody has to ask anew', async () => {
  const { director, applier, record, learn, epoch, asked } = scene()
  const web = service('tcp 192.0.2.100:80', { scheduler: 'rr' })
  director.addService(web)
  director.addServer(web.id, server('10.0.0.1:8080'))
  await director.settle()
  renewHops(applier)
  assert.equal(record('10.0.0.1').ifindex, 0)
  const before = epoch()
  learn('10.0.0.1', 7)
  renewHops(applier)
  const { version, ifindex, mtu, dmac, addr } = record('10.0.0.1')
  assert.deepEqual([version % 2, ifindex, mtu, dmac[5]], [0, 3, 1400, 7])
  assert.deepEqual([...addr.slice(0, 4)], [10, 0, 0, 1])
  learn('10.0.0.1', 8)
  renewHops(applier)
  assert.equal(record('10.0.0.1').dmac[5], 8)
  assert.notEqual(record('10.0.0.1').version, version)
  assert.equal(epoch(), before, 'packets look there each time')
  const questions = asked()
  renewHops(applier)
  assert.equal(asked(), questions, 'nothing has changed')
})

test('a thousand are looked at in slices, and only those that something has become of', async () => {
  const { director, applier, learn, asked } = scene({ ...SMALL_SIZES, reals: 2048, members: 8192 })
  const web = service('tcp 192.0.2.100:80', { scheduler: 'rr' })
  director.addService(web)
  const address = (i: number): string => `10.0.${i >> 8}.${i & 255}`
  for (let i = 1; i <= 1000; i++) director.addServer(web.id, server(`${address(i)}:80`))
  await director.settle()
  assert.ok(renewHops(applier) > 20, 'not in one go')
  assert.equal(asked(), 1000)

  for (let i = 1; i <= 999; i++) learn(address(i), i)
  renewHops(applier)
  assert.equal(asked(), 1999)
  learn(address(1000), 1)
  renewHops(applier)
  assert.equal(asked(), 2000, 'only the one that was missing')
  director.addServer(web.id, server('10.0.9.9:80'))
  await director.settle()
  renewHops(applier)
  assert.equal(asked(), 2001, 'only the one that has come')

  for (let i = 1; i <= 1000; i++) learn(address(i), i + 1)
  renewHops(applier)
  assert.equal(asked(), 3002)
})

test('of many that become known one after the other, each is looked at once', async () => {
  const { director, applier, learn, learnSomebody, asked } = scene({
    ...SMALL_SIZES,
    ...{ reals: 2048, members: 8192 },
  })
  const web = service('tcp 192.0.2.100:80', { scheduler: 'rr' })
  director.addService(web)
  const address = (i: number): string => `10.0.${i >> 8}.${i & 255}`
  for (let i = 1; i <= 500; i++) director.addServer(web.id, server(`${address(i)}:80`))
  await director.settle()
  renewHops(applier)
  for (let i = 1; i <= 400; i++) {
    learn(address(i), 1)
    renewHops(applier)
  }
  assert.equal(asked(), 900)
  director.deleteServer(web.id, server(`${address(500)}:80`).id)
  await director.settle()
  learnSomebody()
  renewHops(applier)
  assert.equal(asked(), 999, 'those that are there and have none')
})
