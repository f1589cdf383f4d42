import assert from 'node:assert/strict'
import test from 'node:test'
import { DataplaneError } from '../../dataplane/dataplane.ts'
import {
  crowdTrap,
  knownAddresses,
  listInterfaces,
  putInterface,
  removeInterface,
} from '../../dataplane/interface-table.ts'
import {
  InterfaceRecord,
  MAP_NAMES,
  MAPS,
  PM_INTERFACE_PROBES,
  PM_LAYOUT_VERSION,
  SettingsRecord,
} from '../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../dataplane/memory.ts'
import { checkSizes, limitsOf, mapEntries, sizesOfEntries } from '../../dataplane/sizes.ts'

test('memory: every map has the size that was asked for and views of the same bytes', () => {
  const plane = new MemoryDataplane()
  const entries = mapEntries(SMALL_SIZES)
  for (const name of MAP_NAMES) {
    const map = plane.map(name)
    assert.equal(map.entries, entries[name], name)
    assert.equal(map.bytes.length, entries[name] * MAPS[name].entrySize, name)
    map.u32[0] = 0xfffffffe
    assert.equal(map.i32[0], -2)
    assert.equal(map.view.getUint32(0, true), 0xfffffffe)
    assert.equal(map.u64[0]! & 0xffffffffn, 0xfffffffen)
  }
  assert.equal(plane.map('counters').entries, SMALL_SIZES.reals * SMALL_SIZES.cpus)
  assert.equal(plane.map('schedules').entries, SMALL_SIZES.services * 2)
})

test('memory: a new plane knows its layout, records its calls and keeps the clock it is given', async () => {
  const plane = new MemoryDataplane()
  assert.equal(SettingsRecord.getLayout(plane.map('settings').view, 0), PM_LAYOUT_VERSION)
  plane.setTicks(-1)
  assert.equal(plane.nowTicks(), 0xffffffff)
  await plane.attach(['eth0', 'eth1'])
  assert.deepEqual(
    plane.interfaces().map(({ name }) => name),
    ['eth0', 'eth1'],
  )
  await plane.detach()
  await plane.close()
  assert.deepEqual(plane.interfaces(), [])
  assert.deepEqual(plane.calls, ['attach eth0 eth1', 'detach', 'close'])
})

test('sizes: entries lead back to the sizes, and masks are one less than a power of two', () => {
  assert.deepEqual(sizesOfEntries(mapEntries(SMALL_SIZES)), SMALL_SIZES)
  assert.deepEqual(limitsOf(SMALL_SIZES, 1), {
    cpus: 2,
    conn4Mask: 255,
    conn6Mask: 255,
    serviceMask: 31,
    natMask: 31,
    filterMask: 1023,
    ownRows: 1,
  })
})

const badSizes = [
  { name: 'no services', sizes: { services: 0 }, want: /sizes.services is 0/ },
  { name: 'half a real server', sizes: { reals: 1.5 }, want: /sizes.reals is 1.5/ },
  {
    name: 'buckets that are no power of two',
    sizes: { serviceBuckets: 48 },
    want: /sizes.serviceBuckets is 48, expected a power of two/,
  },
  {
    name: 'fewer lines than one set',
    sizes: { connections4: 2 },
    want: /sizes.connections4 is 2, expected a power of two of at least 4/,
  },
  { name: 'an odd number of lines', sizes: { connections6: 1000 }, want: /sizes.connections6 is 1000/ },
]
for (const { name, sizes, want } of badSizes) {
  test(`sizes: ${name} is refused`, () => {
    assert.throws(() => checkSizes({ ...SMALL_SIZES, ...sizes }), want)
  })
}

test('interfaces: stand within the probes of their index, and a gap before them does not hide them', () => {
  const plane = new MemoryDataplane()
  const map = plane.map('interfaces')
  const device = (ifindex: number) => ({
    name: `eth${ifindex}`,
    ifindex,
    mac: Uint8Array.of(2, 0, 0, 0, 0, ifindex),
    mtu: 1500,
  })
  putInterface(plane, device(3))
  putInterface(plane, device(67))
  assert.equal(InterfaceRecord.getIfindex(map.view, 4 * map.entrySize), 67, 'the next slot')
  putInterface(plane, { ...device(67), mtu: 9000 })
  removeInterface(plane, 3)
  putInterface(plane, { ...device(67), mtu: 1400 })
  assert.deepEqual(listInterfaces(map), [67], 'refreshed where it stands')
  assert.equal(InterfaceRecord.getMtu(map.view, 4 * map.entrySize), 1400)
})

test('interfaces: one more than there are probes is refused', () => {
  const plane = new MemoryDataplane()
  const mac = new Uint8Array(6)
  for (let i = 0; i < PM_INTERFACE_PROBES; i++)
    putInterface(plane, { name: 'a', ifindex: 1 + i * 64, mac, mtu: 1500 })
  assert.throws(
    () => putInterface(plane, { name: 'late', ifindex: 1 + 4 * 64, mac, mtu: 1500 }),
    DataplaneError,
  )
})

test('interfaces: further MAC addresses are kept beside the own one, those of hundreds of VRRP instances, too', () => {
  const plane = new MemoryDataplane()
  const map = plane.map('interfaces')
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1)
  const vrrp = Uint8Array.of(0, 0, 0x5e, 0, 1, 0x33)
  const device = { name: 'eth0', ifindex: 3, mac, mtu: 1500 }
  const at = 3 * map.entrySize
  putInterface(plane, device, [mac, vrrp])
  assert.equal(InterfaceRecord.getMacs(map.view, at), 1)
  assert.equal(InterfaceRecord.getMore(map.view, at, 0), 0x33_01_00_5e_00_00n)
  // RFC 5798 §7.3: all instances of both families, on each of seven interfaces.
  const all = [1, 2].flatMap((family) =>
    Array.from({ length: 255 }, (_, i) => Uint8Array.of(0, 0, 0x5e, 0, family, i + 1)),
  )
  const devices = [3, 4, 5, 6, 7, 8, 9].map((ifindex) => ({ ...device, ifindex }))
  const sorted = (macs: readonly Uint8Array[] | null) =>
    macs?.map((one) => Buffer.from(one).toString('hex')).sort()
  for (const one of devices) assert.equal(putInterface(plane, one, [mac, ...all]), 0)
  for (const { ifindex } of devices) {
    assert.deepEqual(sorted(knownAddresses(plane, ifindex)), sorted([mac, ...all]), `${ifindex}`)
  }
  const fewer = [mac, ...all.slice(100)]
  putInterface(plane, device, fewer)
  assert.deepEqual(sorted(knownAddresses(plane, 3)), sorted(fewer))
  putInterface(plane, device, [mac])
  assert.equal(InterfaceRecord.getMacs(map.view, at), 0)
  assert.deepEqual(knownAddresses(plane, 4)?.length, 511, "another interface's stay")
  for (const { ifindex } of devices) removeInterface(plane, ifindex)
  assert.ok(plane.map('macs').u64.every((entry) => entry === 0n))

  const crowd = Array.from({ length: 9000 }, (_, i) => Uint8Array.of(2, 0, 0, 1, i >> 8, i & 255))
  const left = putInterface(plane, device, [mac, ...crowd])
  assert.ok(left >= 9000 - 14 - 8192 && left < 4500, `${left}`)
  assert.match(
    crowdTrap('eth0', left) ?? '',
    /^frames for \d+ of the MAC addresses on eth0 are left to the host/,
  )
})

test('interfaces: an address that stays is known at every moment while others come and go', (t) => {
  const plane = new MemoryDataplane()
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1)
  const device = { name: 'eth0', ifindex: 3, mac, mtu: 1500 }
  const hex = (one: Uint8Array) => Buffer.from(one).toString('hex')
  const all = Array.from({ length: 40 }, (_, i) => Uint8Array.of(0, 0, 0x5e, 0, 1, i))
  putInterface(plane, device, [mac, ...all])
  let staying: readonly Uint8Array[] = []
  let looks = 0
  const look = () => {
    looks++
    const known = new Set(knownAddresses(plane, 3)?.map(hex))
    assert.deepEqual(
      staying.map(hex).filter((one) => !known.has(one)),
      [],
    )
  }
  const { store } = Atomics
  t.mock.method(Atomics, 'store', (...words: Parameters<typeof store>) => {
    const stored = store(...words)
    look()
    return stored
  })
  const { setMore } = InterfaceRecord
  t.mock.method(InterfaceRecord, 'setMore', (...words: Parameters<typeof setMore>) => {
    setMore(...words)
    look()
  })
  const change = (from: readonly Uint8Array[], to: readonly Uint8Array[]) => {
    staying = to.filter((one) => from.includes(one))
    putInterface(plane, device, [mac, ...to])
    staying = to
    look()
    assert.equal(knownAddresses(plane, 3)?.length, to.length + 1)
  }
  change(all, all.slice(3))
  change(all.slice(3), all)
  change(all, all.slice(30))
  change(all.slice(30), all.slice(32).toReversed())
  change(all.slice(32), all.slice(20))
  assert.ok(looks > 50, `${looks}`)
})
