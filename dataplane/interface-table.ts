/**
 * The map `interfaces`: whose frames the packet program takes, by ifindex. Slot = (ifindex + i) %
 * PM_INTERFACES with PM_INTERFACE_PROBES tries; the program looks at all of them, so gaps are harmless.
 */

import type { Link } from '../linux/netlink/rtnetlink.ts'
import { DataplaneError, type MapMemory } from './dataplane.ts'
import { InterfaceRecord, PM_INTERFACE_PROBES, PM_INTERFACES } from './layout/layout.gen.ts'

/** Adds an interface or refreshes its MAC and MTU; packets may be arriving meanwhile. */
export function putInterface(map: MapMemory, device: Pick<Link, 'name' | 'ifindex' | 'mac' | 'mtu'>): void {
  const slots = probes(device.ifindex)
  const slot =
    slots.find((at) => ifindexAt(map, at) === device.ifindex) ?? slots.find((at) => ifindexAt(map, at) === 0)
  if (slot === undefined) {
    throw new DataplaneError(
      `Cannot take packets from ${device.name}: the table of ${PM_INTERFACES} interfaces has no slot left for ifindex ${device.ifindex}`,
    )
  }
  const at = slot * map.entrySize
  map.bytes.set(device.mac, at + InterfaceRecord.offsets.mac)
  InterfaceRecord.setMtu(map.view, at, device.mtu)
  // Last: from now on the program believes the rest.
  Atomics.store(map.u32, (at + InterfaceRecord.offsets.ifindex) / 4, device.ifindex)
}

export function removeInterface(map: MapMemory, ifindex: number): void {
  for (const slot of probes(ifindex)) {
    const word = (slot * map.entrySize + InterfaceRecord.offsets.ifindex) / 4
    Atomics.compareExchange(map.u32, word, ifindex, 0)
  }
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
