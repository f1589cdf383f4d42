/** Next hops that are given and not found: the first records of the map `neighbours`, which packets only read. */
import type { Dataplane } from './dataplane.ts'
import { NeighbourRecord, PM_NEIGHBOUR_OWN, PM_NEIGHBOUR_SERVE } from './layout/layout.gen.ts'

export interface GivenHop {
  readonly ifindex: number
  readonly smac: Uint8Array
  readonly dmac: Uint8Array
  readonly mtu: number
}

const WORDS = NeighbourRecord.size / 4
const VERSION = NeighbourRecord.offsets.version / 4
const NO_MAC = new Uint8Array(6)
const NOWHERE: GivenHop = { ifindex: 0, smac: NO_MAC, dmac: NO_MAC, mtu: 0 }

/** A reader that comes in between sees that by the version, and does without. */
export function giveHop(plane: Pick<Dataplane, 'map'>, index: number, hop: GivenHop): void {
  const { u32, bytes } = plane.map('neighbours')
  const base = index * WORDS
  const image = new Uint32Array(WORDS)
  const version = u32[base + VERSION]!
  NeighbourRecord.write(new DataView(image.buffer), 0, { ...hop, version, epoch: 0, gateway: 0 })
  const present = bytes.subarray(base * 4, (base + WORDS) * 4)
  if ((version & 1) === 0 && Buffer.compare(new Uint8Array(image.buffer), present) === 0) return
  Atomics.store(u32, base + VERSION, version | 1)
  for (let word = NeighbourRecord.offsets.epoch / 4; word < WORDS; word++)
    Atomics.store(u32, base + word, image[word]!)
  Atomics.store(u32, base + VERSION, ((version | 1) + 1) >>> 0)
}

/** The pair of links of the host's own clients is not there. */
export function forgetOwnHops(plane: Pick<Dataplane, 'map'>): void {
  for (const index of [PM_NEIGHBOUR_SERVE, PM_NEIGHBOUR_OWN]) giveHop(plane, index, NOWHERE)
}
