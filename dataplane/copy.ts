/**
 * Carries rules, connections and counters from one data plane to another of the same sizes: for changing
 * the plane under a running daemon. Neither plane may be handling packets meanwhile, or what happens to
 * connections during the copy is forgotten.
 */
import { type Dataplane, DataplaneError } from './dataplane.ts'
import { forgetOwnHops } from './given-hops.ts'
import { MAP_NAMES, type MapName, SettingsRecord } from './layout/layout.gen.ts'
import { stampLayout } from './layout/stamp.ts'

/** What a plane finds out itself: which interfaces it takes packets from, and what its ways out can do. */
export const FACTS_OF_A_PLANE: readonly MapName[] = ['interfaces', 'macs', 'egress']

export function copyMaps(from: Pick<Dataplane, 'map'>, to: Pick<Dataplane, 'map'>): void {
  for (const name of MAP_NAMES) {
    const source = from.map(name)
    const target = to.map(name)
    if (source.bytes.length !== target.bytes.length) {
      throw new DataplaneError(
        `Cannot carry map ${name} over: it has ${source.entries} entries here and ${target.entries} there`,
      )
    }
  }
  for (const name of MAP_NAMES) {
    if (!FACTS_OF_A_PLANE.includes(name)) to.map(name).bytes.set(from.map(name).bytes)
  }
  // They are of one layout, whatever the source says of itself: the target's next adopter relies on it.
  stampLayout(to.map('settings').view)
  forgetNextHops(to)
  forgetOwnHops(to)
}

/** Has every connection look up its next hop again. */
export function forgetNextHops(plane: Pick<Dataplane, 'map'>): void {
  const word = SettingsRecord.offsets.nextHopEpoch / 4
  Atomics.add(plane.map('settings').u32, word, 1)
}
