/**
 * The map `interfaces`: whose frames the packet program takes, by ifindex. Slot = (ifindex + i) %
 * PM_INTERFACES with PM_INTERFACE_PROBES tries; the program looks at all of them, so gaps are harmless.
 */

import type { Link } from '../linux/netlink/rtnetlink.ts'
import { DataplaneError, type MapMemory } from './dataplane.ts'
import {
  InterfaceRecord,
  PM_INTERFACE_MACS,
  PM_INTERFACE_PROBES,
  PM_INTERFACES,
} from './layout/layout.gen.ts'

/** MAC addresses of one interface that the program can know; frames for further ones are passed. */
export const ADDRESSES_MAX = 1 + PM_INTERFACE_MACS

/**
 * Adds an interface or refreshes what is known of it; packets may be arriving meanwhile. `addresses`: all
 * MAC addresses under which frames are for this host, its own among them.
 */
export function putInterface(
  map: MapMemory,
  device: Pick<Link, 'name' | 'ifindex' | 'mac' | 'mtu'>,
  addresses: readonly Uint8Array[] = [],
): void {
  const slots = probes(device.ifindex)
  const slot =
    slots.find((at) => ifindexAt(map, at) === device.ifindex) ?? slots.find((at) => ifindexAt(map, at) === 0)
  if (slot === undefined) {
    throw new DataplaneError(
      `Cannot take packets from ${device.name}: the table of ${PM_INTERFACES} interfaces has no slot left for ifindex ${device.ifindex}`,
    )
  }
  const at = slot * map.entrySize
  const more = addresses.filter((mac) => Buffer.compare(mac, device.mac) !== 0).slice(0, PM_INTERFACE_MACS)
  for (const [index, mac] of more.entries()) InterfaceRecord.setMore(map.view, at, index, macWord(mac))
  InterfaceRecord.setMacs(map.view, at, more.length)
  map.bytes.set(device.mac, at + InterfaceRecord.offsets.mac)
  InterfaceRecord.setMtu(map.view, at, device.mtu)
  // Last: from now on the program believes the rest.
  Atomics.store(map.u32, (at + InterfaceRecord.offsets.ifindex) / 4, device.ifindex)
}

/** Addresses under which frames that arrive there are for the host; null where they are not taken at all. */
export function knownAddresses(map: MapMemory, ifindex: number): readonly Uint8Array[] | null {
  const slot = probes(ifindex).find((at) => ifindexAt(map, at) === ifindex)
  if (slot === undefined) return null
  const at = slot * map.entrySize
  const own = at + InterfaceRecord.offsets.mac
  const more = at + InterfaceRecord.offsets.more
  const count = InterfaceRecord.getMacs(map.view, at)
  return [
    map.bytes.slice(own, own + 6),
    ...Array.from({ length: count }, (_, i) => map.bytes.slice(more + 8 * i, more + 8 * i + 6)),
  ]
}

export function removeInterface(map: MapMemory, ifindex: number): void {
  for (const slot of probes(ifindex)) {
    const word = (slot * map.entrySize + InterfaceRecord.offsets.ifindex) / 4
    Atomics.compareExchange(map.u32, word, ifindex, 0)
  }
}

/** As the packet program loads the six bytes: the first lowest. */
function macWord(mac: Uint8Array): bigint {
  return mac.reduceRight((word, byte) => (word << 8n) | BigInt(byte), 0n)
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
