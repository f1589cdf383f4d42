/**
 * The map `egress`: what keeps frames of ours from leaving by an interface, and whether what came in by it leaves
 * otherwise then. Slot = (ifindex + i) % PM_EGRESSES
 * with PM_EGRESS_PROBES tries; a search ends at a slot that was never used, so a record stays in its place
 * when nothing is to be said of its interface any more, and may then be given to another.
 */
import type { MapMemory } from './dataplane.ts'
import { EgressFlag, PM_EGRESS_PROBES, PM_EGRESSES } from './layout/layout.gen.ts'

/**
 * Brings the table in line: `wanted` has the flags (`EgressFlag`) by ifindex, the others have none. Returns
 * the interfaces for which there was no room: the program takes them for ways out without limits.
 */
export function publishEgress(map: MapMemory, wanted: ReadonlyMap<number, number>): readonly number[] {
  for (let slot = 0; slot < map.entries; slot++) {
    const [ifindex, flags] = recordAt(map, slot)
    if (flags !== 0 && (wanted.get(ifindex) ?? 0) === 0) store(map, slot, ifindex, 0)
  }
  const crowded: number[] = []
  for (const [ifindex, flags] of wanted) {
    if (flags === 0) continue
    const slot = slotFor(map, ifindex)
    if (slot === null) crowded.push(ifindex)
    else store(map, slot, ifindex, flags)
  }
  return crowded
}

/**
 * Says of exactly these interfaces that traffic control sends beside XDP there (`EgressFlag.Relay`); the other flags stay.
 * One for which there is no room is as if it had nobody beside.
 */
export function publishRelayed(map: MapMemory, relayed: ReadonlySet<number>): void {
  for (let slot = 0; slot < map.entries; slot++) {
    const [ifindex, flags] = recordAt(map, slot)
    if ((flags & EgressFlag.Relay) !== 0 && !relayed.has(ifindex))
      store(map, slot, ifindex, flags & ~EgressFlag.Relay)
  }
  for (const ifindex of relayed) {
    const slot = slotFor(map, ifindex)
    if (slot !== null) store(map, slot, ifindex, egressFlagsIn(map, ifindex) | EgressFlag.Relay)
  }
}

/** What the program reads of an interface. */
export function egressFlagsIn(map: MapMemory, ifindex: number): number {
  for (const slot of probes(ifindex)) {
    const [found, flags] = recordAt(map, slot)
    if (found === ifindex) return flags
    if (found === 0) break
  }
  return 0
}

/** Its own record, else the first that may be written. */
function slotFor(map: MapMemory, ifindex: number): number | null {
  let free: number | null = null
  for (const slot of probes(ifindex)) {
    const [found, flags] = recordAt(map, slot)
    if (found === ifindex) return slot
    if (flags === 0) free ??= slot
    if (found === 0) break
  }
  return free
}

function probes(ifindex: number): number[] {
  return Array.from({ length: PM_EGRESS_PROBES }, (_, i) => (ifindex + i) % PM_EGRESSES)
}

/** ifindex and flags, which are one 64-bit word: the program never sees half of a change. */
function recordAt(map: MapMemory, slot: number): readonly [number, number] {
  return [map.u32[slot * 2]!, map.u32[slot * 2 + 1]!]
}

function store(map: MapMemory, slot: number, ifindex: number, flags: number): void {
  Atomics.store(map.u64, slot, (BigInt(flags) << 32n) | BigInt(ifindex))
}
