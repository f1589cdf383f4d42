/**
 * Whose frames the packet program takes, by ifindex. Map `interfaces`: slot = (ifindex + i) % PM_INTERFACES
 * with PM_INTERFACE_PROBES tries; the program looks at all of them, so gaps are harmless. Map `macs`: further
 * addresses of an interface that has more than its record holds.
 */

import type { Link } from '../linux/netlink/rtnetlink.ts'
import { type Dataplane, DataplaneError, type MapMemory } from './dataplane.ts'
import {
  InterfaceRecord,
  PM_INTERFACE_MACS,
  PM_INTERFACE_PROBES,
  PM_INTERFACES,
  PM_MAC_BUCKET,
  PM_MAC_BUCKETS,
} from './layout/layout.gen.ts'

type Maps = Pick<Dataplane, 'map'>

/**
 * Adds an interface or refreshes what is known of it; packets may be arriving meanwhile. `addresses`: all
 * MAC addresses under which frames are for this host, its own among them. Returns for how many of them there
 * is no room: frames for those are passed to the host.
 */
export function putInterface(
  maps: Maps,
  device: Pick<Link, 'name' | 'ifindex' | 'mac' | 'mtu'>,
  addresses: readonly Uint8Array[] = [],
): number {
  const map = maps.map('interfaces')
  const slots = probes(device.ifindex)
  const slot =
    slots.find((at) => ifindexAt(map, at) === device.ifindex) ?? slots.find((at) => ifindexAt(map, at) === 0)
  if (slot === undefined) {
    throw new DataplaneError(
      `Cannot take packets from ${device.name}: the table of ${PM_INTERFACES} interfaces has no slot left for ifindex ${device.ifindex}`,
    )
  }
  const at = slot * map.entrySize
  const had = ifindexAt(map, slot) === device.ifindex ? InterfaceRecord.getMacs(map.view, at) : 0
  const stand = Array.from({ length: Math.min(had, PM_INTERFACE_MACS) }, (_, i) =>
    InterfaceRecord.getMore(map.view, at, i),
  )
  const others = addresses.filter((mac) => Buffer.compare(mac, device.mac) !== 0)
  const more = inPlace(stand, others.map(macWord))
  const isCrowd = Math.max(had, more.length) > PM_INTERFACE_MACS
  const crowd = new Set(more.slice(PM_INTERFACE_MACS).map((mac) => mac | interfacePart(device.ifindex)))
  // What moves from the one map to the other stands in both meanwhile.
  const late = isCrowd ? addMacs(maps.map('macs'), device.ifindex, crowd) : []
  for (const [index, mac] of more.slice(0, PM_INTERFACE_MACS).entries()) {
    InterfaceRecord.setMore(map.view, at, index, mac)
  }
  InterfaceRecord.setMacs(map.view, at, more.length)
  map.bytes.set(device.mac, at + InterfaceRecord.offsets.mac)
  InterfaceRecord.setMtu(map.view, at, device.mtu)
  // Last: from now on the program believes the rest.
  Atomics.store(map.u32, (at + InterfaceRecord.offsets.ifindex) / 4, device.ifindex)
  if (!isCrowd) return 0
  const macs = maps.map('macs')
  dropMacs(macs, device.ifindex, crowd)
  return late.filter((entry) => !putEntry(macs.u64, entry)).length
}

/** The wanted addresses, those that stand here already where they are if possible: packets look meanwhile. */
function inPlace(stand: readonly bigint[], wanted: readonly bigint[]): bigint[] {
  const fresh = wanted.filter((mac) => !stand.includes(mac))
  const places: (bigint | undefined)[] = stand.map((mac) => (wanted.includes(mac) ? mac : fresh.shift()))
  while (places.includes(undefined)) {
    const last = places.pop()
    if (last !== undefined) places[places.indexOf(undefined)] = last
  }
  return [...places.filter((mac) => mac !== undefined), ...fresh]
}

/** Of an interface with this many addresses for which there is no room; null where there is. */
export function crowdTrap(name: string, left: number): string | null {
  if (left === 0) return null
  return `frames for ${left} of the MAC addresses on ${name} are left to the host: the table of ${PM_MAC_BUCKETS * PM_MAC_BUCKET} is full; use fewer macvlans: ip -d link show type macvlan`
}

/** Addresses under which frames that arrive there are for the host; null where they are not taken at all. */
export function knownAddresses(maps: Maps, ifindex: number): readonly Uint8Array[] | null {
  const map = maps.map('interfaces')
  const slot = probes(ifindex).find((at) => ifindexAt(map, at) === ifindex)
  if (slot === undefined) return null
  const at = slot * map.entrySize
  const own = at + InterfaceRecord.offsets.mac
  const more = at + InterfaceRecord.offsets.more
  const count = InterfaceRecord.getMacs(map.view, at)
  const further = count > PM_INTERFACE_MACS ? entriesOf(maps.map('macs'), ifindex).map(macOf) : []
  return [
    map.bytes.slice(own, own + 6),
    ...Array.from({ length: Math.min(count, PM_INTERFACE_MACS) }, (_, i) =>
      map.bytes.slice(more + 8 * i, more + 8 * i + 6),
    ),
    ...further,
  ]
}

export function removeInterface(maps: Maps, ifindex: number): void {
  const map = maps.map('interfaces')
  for (const slot of probes(ifindex)) {
    const at = slot * map.entrySize
    const word = (at + InterfaceRecord.offsets.ifindex) / 4
    if (Atomics.compareExchange(map.u32, word, ifindex, 0) !== ifindex) continue
    if (InterfaceRecord.getMacs(map.view, at) > PM_INTERFACE_MACS) {
      dropMacs(maps.map('macs'), ifindex, new Set())
    }
  }
}

/** Nobody takes packets by these maps. */
export function clearInterfaces(maps: Maps): void {
  for (const name of ['interfaces', 'macs'] as const) maps.map(name).bytes.fill(0)
}

/** As the packet program loads the six bytes: the first lowest. */
function macWord(mac: Uint8Array): bigint {
  return mac.reduceRight((word, byte) => (word << 8n) | BigInt(byte), 0n)
}

function macOf(entry: bigint): Uint8Array {
  return Uint8Array.from({ length: 6 }, (_, i) => Number((entry >> BigInt(8 * i)) & 0xffn))
}

/** Adds what `macs` has not yet of these entries; those for which there is no room. */
function addMacs({ u64 }: MapMemory, ifindex: number, wanted: ReadonlySet<bigint>): bigint[] {
  const missing = new Set(wanted)
  for (const entry of u64) if (isOf(entry, ifindex)) missing.delete(entry)
  return [...missing].filter((entry) => !putEntry(u64, entry))
}

/** Takes an interface's entries out, but for these. */
function dropMacs({ u64 }: MapMemory, ifindex: number, wanted: ReadonlySet<bigint>): void {
  for (let at = 0; at < u64.length; at++) {
    const entry = u64[at]!
    if (isOf(entry, ifindex) && !wanted.has(entry)) Atomics.store(u64, at, 0n)
  }
}

function isOf(entry: bigint, ifindex: number): boolean {
  return entry !== 0n && (entry & INTERFACE_BITS) === interfacePart(ifindex)
}

function putEntry(u64: BigUint64Array, entry: bigint): boolean {
  const [first, second] = bucketsOf(entry).map((bucket) => {
    const start = bucket * PM_MAC_BUCKET
    return Array.from({ length: PM_MAC_BUCKET }, (_, i) => start + i).filter((at) => u64[at] === 0n)
  })
  const free = (first!.length >= second!.length ? first : second)![0]
  if (free === undefined) return false
  Atomics.store(u64, free, entry)
  return true
}

function entriesOf({ u64 }: MapMemory, ifindex: number): bigint[] {
  const found: bigint[] = []
  for (const entry of u64) if (isOf(entry, ifindex)) found.push(entry)
  return found
}

const INTERFACE_BITS = 0xffffn << 48n

function interfacePart(ifindex: number): bigint {
  return BigInt(ifindex & 0xffff) << 48n
}

/** Shared with pm_in_macs in bpf/lookup.h. */
function bucketsOf(entry: bigint): readonly [number, number] {
  const words = Number(BigInt.asUintN(32, entry)) ^ Number(entry >> 32n)
  const hash = Math.imul(words, 0x9e3779b1) >>> 0
  return [(hash >>> 22) % PM_MAC_BUCKETS, (hash >>> 8) % PM_MAC_BUCKETS]
}

/** ifindex of every interface in the table. */
export function listInterfaces(map: MapMemory): number[] {
  return Array.from({ length: map.entries }, (_, slot) => ifindexAt(map, slot)).filter(
    (ifindex) => ifindex !== 0,
  )
}

function probes(ifindex: number): number[] {
  return Array.from({ length: PM_INTERFACE_PROBES }, (_, i) => (ifindex + i) % PM_INTERFACES)
}

function ifindexAt(map: MapMemory, slot: number): number {
  return InterfaceRecord.getIfindex(map.view, slot * map.entrySize)
}
