import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { NatIndex, type NatMaps } from '../../../control/compile/nat-index.ts'
import { bucketsOf, entrySlot, serviceHash } from '../../../control/compile/service-index.ts'
import type { Director } from '../../../control/model/director.ts'
import {
  Method,
  PM_BUCKET,
  RealRecord,
  ServiceRecord,
  Setting,
  SettingsRecord,
  Slot,
} from '../../../dataplane/layout/layout.gen.ts'
import { mapMemory } from '../../../dataplane/map-memory.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { addressToBytes } from '../../../net/address.ts'
import { until } from '../../dataplane/private-network.ts'
import fc from '../../property.ts'
import { openDirector } from '../opened-director.ts'
import { memoryState, server, service, testHost } from '../support.ts'

const TCP = 6
const UDP = 17

function open(dataplane = new MemoryDataplane(), stateFile = memoryState()) {
  return { dataplane, stateFile, ...openDirector({ dataplane, host: testHost(), stateFile }) }
}

/** The real server the packet program would find for a packet from there (`pm_find_nat_real`), or null. */
function find(maps: NatMaps, protocol: number, text: string): RealRecord | null {
  const { address, family, port } = server(text).id
  const key = new Uint8Array(ServiceRecord.size)
  const view = new DataView(key.buffer)
  ServiceRecord.setFamily(view, 0, family)
  ServiceRecord.setProtocol(view, 0, protocol)
  ServiceRecord.setPort(view, 0, port)
  key.set(addressToBytes(address), ServiceRecord.offsets.addr)
  const addr = key.slice(ServiceRecord.offsets.addr, ServiceRecord.offsets.addr + 16)
  const hash = serviceHash(new Uint32Array(key.buffer), 0)
  for (const bucket of bucketsOf(hash, maps.natIndex.entries - 1)) {
    for (let at = bucket * PM_BUCKET; at < (bucket + 1) * PM_BUCKET; at++) {
      const entry = maps.natIndex.u64[at]!
      if (Number(entry & 0xffffffffn) !== (hash | 1) >>> 0) continue
      const real = RealRecord.read(maps.reals.view, entrySlot(entry) * RealRecord.size)
      const offered = ServiceRecord.getProtocol(maps.services.view, real.service * ServiceRecord.size)
      if (
        real.slot === Slot.Live &&
        real.method === Method.Nat &&
        real.family === family &&
        real.port === port &&
        offered === protocol &&
        Buffer.compare(real.addr, addr) === 0
      ) {
        return real
      }
    }
  }
  return null
}

function mapsOf(dataplane: MemoryDataplane): NatMaps {
  return {
    natIndex: dataplane.map('nat_index'),
    reals: dataplane.map('reals'),
    services: dataplane.map('services'),
  }
}

const entries = (dataplane: MemoryDataplane): number =>
  dataplane.map('nat_index').u64.filter((entry) => entry !== 0n).length
const published = (dataplane: MemoryDataplane): boolean =>
  (SettingsRecord.getFlags(dataplane.map('settings').view, 0) & Setting.NatIcmpSend) !== 0

const web = service('tcp 10.0.0.1:80', { scheduler: 'rr' })
const other = service('tcp 10.0.0.2:80', { scheduler: 'rr' })
const names = service('udp 10.0.0.1:53', { scheduler: 'rr' })
const marked = service('fwmark 7', { scheduler: 'rr' })
const web6 = service('tcp [2001:db8::1]:80', { scheduler: 'rr' })

/** What a packet could come from: protocol and real server of each rule by NAT, none twice. */
function wanted(director: Director): Set<string> {
  const found = new Set<string>()
  for (const { service, servers } of director.rules()) {
    if (service.id.kind !== 'address') continue
    for (const { method, id } of servers) {
      if (method === 'nat') found.add(`${service.id.protocol === 'udp' ? UDP : TCP} ${id.address} ${id.port}`)
    }
  }
  return found
}

describe('the index of NAT real servers', () => {
  test('is filled when nat_icmp_send is switched on, and empty when it is off', async () => {
    const { dataplane, director } = open()
    director.addService(web)
    director.addServer(web.id, server('10.1.0.9:80'))
    director.addServer(web.id, server('10.1.0.2:80', { method: 'tunnel' }))
    director.addServer(web.id, server('10.1.0.3:80', { method: 'direct-routing' }))
    director.addService(web6)
    director.addServer(web6.id, server('[2001:db8:1::9]:8080'))
    await director.settle()
    assert.equal(entries(dataplane), 0)
    assert.equal(published(dataplane), false)

    director.setSysctl('nat_icmp_send', 1)
    await director.settle()
    const maps = mapsOf(dataplane)
    assert.equal(published(dataplane), true)
    assert.equal(entries(dataplane), 2)
    const ours = Buffer.of(192, 168, 77, 1)
    await until(
      () => ours.equals(find(maps, TCP, '10.1.0.9:80')?.source.subarray(0, 4) ?? Buffer.of()),
      'our address towards it',
    )
    assert.notEqual(find(maps, TCP, '[2001:db8:1::9]:8080'), null)
    assert.equal(find(maps, UDP, '10.1.0.9:80'), null)
    assert.equal(find(maps, TCP, '10.1.0.9:81'), null)
    assert.equal(find(maps, TCP, '10.1.0.3:80'), null)

    director.setSysctl('nat_icmp_send', 0)
    await director.settle()
    assert.equal(published(dataplane), false)
    assert.equal(entries(dataplane), 0)
    const { view, entries: count } = maps.reals
    const records = () =>
      Array.from({ length: count }, (_, real) => RealRecord.read(view, real * RealRecord.size))
    // In slices, and others have their turns.
    await until(
      () =>
        records().every(({ method, source }) => method !== Method.Nat || source.every((byte) => byte === 0)),
      'nobody has our address any more',
    )
  })

  test('follows real servers that come, change their method, are drained and go', async () => {
    const { dataplane, director } = open()
    const maps = mapsOf(dataplane)
    director.setSysctl('nat_icmp_send', 1)
    director.addService(web)
    director.addServer(web.id, server('10.1.0.9:80'))
    await director.settle()
    assert.notEqual(find(maps, TCP, '10.1.0.9:80'), null)
    director.editServer(web.id, server('10.1.0.9:80', { method: 'direct-routing' }))
    await director.settle()
    assert.equal(entries(dataplane), 0)
    director.editServer(web.id, server('10.1.0.9:80', { weight: 0 }))
    await director.settle()
    assert.notEqual(find(maps, TCP, '10.1.0.9:80'), null, 'weight 0 is in the service all the same')
    director.deleteServer(web.id, server('10.1.0.9:80').id)
    await director.settle()
    assert.equal(entries(dataplane), 0)
    director.addServer(web.id, server('10.1.0.9:80'))
    await director.settle()
    assert.notEqual(find(maps, TCP, '10.1.0.9:80'), null, 'revived in its old index')
    director.flush()
    await director.settle()
    assert.equal(entries(dataplane), 0)
  })

  test('has one entry for a real server of several services, until the last of them lets it go', async () => {
    const { dataplane, director } = open()
    const maps = mapsOf(dataplane)
    director.setSysctl('nat_icmp_send', 1)
    for (const one of [web, other, names]) {
      director.addService(one)
      director.addServer(one.id, server('10.1.0.9:80'))
    }
    await director.settle()
    assert.equal(entries(dataplane), 2, 'TCP and UDP')
    director.deleteServer(web.id, server('10.1.0.9:80').id)
    await director.settle()
    assert.notEqual(find(maps, TCP, '10.1.0.9:80'), null)
    director.deleteService(other.id)
    await director.settle()
    assert.equal(find(maps, TCP, '10.1.0.9:80'), null)
    assert.notEqual(find(maps, UDP, '10.1.0.9:80'), null)
  })

  test('leaves out real servers of firewall marks', async () => {
    const { dataplane, director } = open()
    director.setSysctl('nat_icmp_send', 1)
    director.addService(marked)
    director.addServer(marked.id, server('10.1.0.9:80'))
    await director.settle()
    assert.equal(entries(dataplane), 0)
  })

  test('is taken over by the next director as it is, and cleared of what is wrong', async () => {
    const first = open()
    first.director.setSysctl('nat_icmp_send', 1)
    first.director.addService(web)
    for (const last of [7, 8, 9]) first.director.addServer(web.id, server(`10.1.0.${last}:80`))
    await first.director.settle()
    const { u64 } = first.dataplane.map('nat_index')
    const before = u64.slice()
    const reals = first.dataplane.map('reals').bytes.slice()

    const second = open(first.dataplane, first.stateFile)
    assert.deepEqual(u64, before, 'nothing moves before the first settle')
    assert.deepEqual(first.dataplane.map('reals').bytes, reals, 'source addresses neither')
    await second.director.settle()
    assert.deepEqual(u64, before)

    u64[u64.indexOf(0n)] = 0x0000_0001_dead_beefn
    u64[u64.lastIndexOf(0n)] = 0x7fff_ffff_0000_0001n
    const third = open(first.dataplane, first.stateFile)
    await third.director.settle()
    assert.deepEqual(u64, before)
    third.director.deleteService(web.id)
    await third.director.settle()
    assert.equal(entries(first.dataplane), 0)
  })

  test('holds what the rules say after any changes, restarts and flips of the setting', async () => {
    const step = fc.record({
      what: fc.constantFrom('add', 'add', 'add', 'method', 'remove', 'drop', 'flip', 'restart', 'settle'),
      service: fc.constantFrom(web, other, names, marked, web6),
      last: fc.integer({ min: 1, max: 4 }),
      method: fc.constantFrom('nat' as const, 'nat' as const, 'direct-routing' as const, 'tunnel' as const),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
        const dataplane = new MemoryDataplane()
        const stateFile = memoryState()
        let { director } = open(dataplane, stateFile)
        for (const { what, service, last, method } of steps) {
          const text = service === web6 ? `[2001:db8:1::${last}]:80` : `10.1.0.${last}:80`
          director.addService(service)
          if (what === 'add') director.addServer(service.id, server(text, { method }))
          if (what === 'method') director.editServer(service.id, server(text, { method }))
          if (what === 'remove') director.deleteServer(service.id, server(text).id)
          if (what === 'drop') director.deleteService(service.id)
          if (what === 'flip')
            director.setSysctl('nat_icmp_send', 1 - (director.sysctls().nat_icmp_send ?? 0))
          if (what === 'settle' || what === 'restart') await director.settle()
          if (what === 'restart') director = open(dataplane, stateFile).director
        }
        await director.settle()
        const on = director.sysctls().nat_icmp_send === 1
        const all = on ? wanted(director) : new Set<string>()
        assert.equal(published(dataplane), on)
        assert.equal(entries(dataplane), all.size)
        for (const one of all) {
          const [protocol = '', address = '', port = ''] = one.split(' ')
          const text = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
          assert.notEqual(find(mapsOf(dataplane), Number(protocol), text), null, one)
        }
      }),
      { numRuns: 150 },
    )
  })

  test('moves entries to make room, and does without those that find none', () => {
    const REALS = 40
    const natIndex = mapMemory('nat_index', 4, new ArrayBuffer(4 * PM_BUCKET * 8))
    const dataplane = new MemoryDataplane({ ...SMALL_SIZES, reals: REALS })
    const maps = { ...mapsOf(dataplane), natIndex }
    ServiceRecord.setProtocol(maps.services.view, 0, TCP)
    for (let real = 0; real < REALS; real++) {
      RealRecord.setSlot(maps.reals.view, real * RealRecord.size, Slot.Live)
      RealRecord.setFamily(maps.reals.view, real * RealRecord.size, 4)
      RealRecord.setPort(maps.reals.view, real * RealRecord.size, 80)
      maps.reals.bytes.set([10, 1, 0, real], real * RealRecord.size + RealRecord.offsets.addr)
    }
    const index = new NatIndex(maps)
    index.fill()
    const found = Array.from({ length: REALS }, (_, real) => find(maps, TCP, `10.1.0.${real}:80`) !== null)
    assert.ok(found.filter(Boolean).length >= 30, 'nearly all of 32 entries are used')
    for (let real = 0; real < REALS; real++) {
      RealRecord.setSlot(maps.reals.view, real * RealRecord.size, Slot.Gone)
      index.touch(real)
    }
    index.update()
    assert.ok(natIndex.u64.every((entry) => entry === 0n))
    assert.equal(index.size, 0)
  })
})
