/** The next hop of a real server as packets read it: a record of the map `hops`. */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { HopRecord, RealRecord } from '../../dataplane/layout/layout.gen.ts'
import type { HostHop } from '../rules/host.ts'

const WORDS = HopRecord.size / 4
const VERSION = HopRecord.offsets.version / 4
const IFINDEX = HopRecord.offsets.ifindex / 4
const REAL_ADDRESS = RealRecord.offsets.addr
const NO_MAC = new Uint8Array(6)
const image = new Uint32Array(WORDS)
const imageView = new DataView(image.buffer)

/**
 * Writes the next hop of the real server that has this index; null: it is not known. A reader that comes in
 * between sees that by the version, and does without.
 */
export function writeHop(dataplane: Dataplane, real: number, hop: HostHop | null): void {
  const { u32 } = dataplane.map('hops')
  const base = real * WORDS
  const version = u32[base + VERSION]!
  // Nothing known of one of whom nothing was: of a hundred thousand new ones all, at first.
  if (hop === null && u32[base + IFINDEX] === 0 && (version & 1) === 0) return
  const { bytes } = dataplane.map('reals')
  const at = real * RealRecord.size + REAL_ADDRESS
  HopRecord.write(imageView, 0, {
    version: 0,
    ifindex: hop?.ifindex ?? 0,
    dmac: hop?.dmac ?? NO_MAC,
    smac: hop?.smac ?? NO_MAC,
    mtu: hop?.mtu ?? 0,
    addr: bytes.subarray(at, at + 16),
  })
  let isSame = true
  for (let i = 0; i < WORDS && isSame; i++) isSame = i === VERSION || u32[base + i] === image[i]
  if (isSame && (version & 1) === 0) return
  Atomics.store(u32, base + VERSION, version | 1)
  for (let i = 0; i < WORDS; i++) if (i !== VERSION) Atomics.store(u32, base + i, image[i]!)
  Atomics.store(u32, base + VERSION, ((version | 1) + 1) >>> 0)
}

export function isHopKnown(dataplane: Dataplane, real: number): boolean {
  return dataplane.map('hops').u32[real * WORDS + IFINDEX] !== 0
}
