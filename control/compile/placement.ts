/** What the network adds to real servers: whether they are this host, and our source address towards them. */
import { RealFlag, RealRecord } from '../../dataplane/layout/layout.gen.ts'
import { addressWords } from '../../net/address.ts'
import type { RealServer } from '../model/server.ts'
import { type Host, isLocalAddress, localAddresses } from '../rules/host.ts'
import { type Placement, REAL_WORDS } from './images.ts'

const FLAGS = RealRecord.offsets.flags / 4
const SOURCE = RealRecord.offsets.source / 4

export class Placements {
  readonly #host: Host
  /** Whether NAT real servers need a source address, too: a question to the kernel for each. */
  natSources = false
  /** The same of DR real servers: for clients that are this host. */
  directSources = false

  constructor(host: Host) {
    this.#host = host
  }

  place(server: RealServer): Placement {
    const local = isLocalAddress(server.id.address, localAddresses(this.#host))
    const sourced =
      server.method === 'tunnel' ||
      (server.method === 'nat' && this.natSources) ||
      (server.method === 'direct-routing' && this.directSources)
    return { source: sourced ? this.#host.resolveSource(server.id.address) : null, local }
  }
}

/** Whether the record at `real` says what `placement` says; cheap, for all real servers in a row. */
export function isPlaced(reals: Uint32Array, real: number, placement: Placement): boolean {
  const base = real * REAL_WORDS
  if ((reals[base + FLAGS]! & RealFlag.Local) !== (placement.local ? RealFlag.Local : 0)) return false
  if (placement.source === null) {
    return (
      reals[base + SOURCE] === 0 &&
      reals[base + SOURCE + 1] === 0 &&
      reals[base + SOURCE + 2] === 0 &&
      reals[base + SOURCE + 3] === 0
    )
  }
  return addressWords(placement.source).every((word, i) => reals[base + SOURCE + i] === swapBytes(word))
}

/** Network order, as a little-endian machine loads it. */
function swapBytes(word: number): number {
  return ((word >>> 24) | ((word >>> 8) & 0xff00) | ((word << 8) & 0xff0000) | (word << 24)) >>> 0
}
