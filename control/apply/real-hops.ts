/**
 * Next hops of real servers as this host knows them, written to the map `hops`: what the packet program uses
 * where the kernel's FIB refuses to answer because forwarding is off (bpf/next-hop.h). There may be a hundred
 * thousand of them, and requests wait meanwhile: so it is done in slices, and only for those it concerns.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { HopRecord, RealRecord } from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import type { HopSource, HostHop } from '../rules/host.ts'
import type { ServerAddresses } from './server-addresses.ts'

const WORDS = HopRecord.size / 4
const VERSION = HopRecord.offsets.version / 4
const IFINDEX = HopRecord.offsets.ifindex / 4
const REAL_ADDRESS = RealRecord.offsets.addr
const NO_MAC = new Uint8Array(6)
/** Real servers between two looks at the clock. */
const STRIDE = 32
/** Indices without one between two looks at the clock. */
const PASSED = 1024

export class RealHops {
  readonly #dataplane: Dataplane
  readonly #addresses: ServerAddresses
  readonly #source: HopSource
  /** Indices that may stand for another address than when they were looked at. */
  readonly #touched = new Set<number>()
  readonly #image = new Uint32Array(WORDS)
  readonly #imageView = new DataView(this.#image.buffer)
  #generation = Number.NaN
  #round: Iterator<void> | null = null
  #moved = false

  constructor(dataplane: Dataplane, addresses: ServerAddresses, source: HopSource) {
    this.#dataplane = dataplane
    this.#addresses = addresses
    this.#source = source
  }

  /** A real server has come to this index, has left it, or is another. */
  touch(real: number): void {
    this.#touched.add(real)
  }

  /**
   * Writes what is not what it was, until `until` (ms, `performance.now`); costs nothing while nothing has
   * changed. `moved`: packets may have kept something that is no longer so.
   */
  renew(until: number): { readonly done: boolean; readonly moved: boolean } {
    for (;;) {
      this.#round ??= this.#next()
      if (this.#round === null) return { done: true, moved: false }
      while (this.#round.next().done !== true)
        if (performance.now() >= until) return { done: false, moved: false }
      this.#round = null
      // Every connection asks again after a move, so that is said once for all that moved.
      const moved = this.#moved
      this.#moved = false
      if (moved || performance.now() >= until) return { done: false, moved }
    }
  }

  /** The round that is due: over all, or over those it concerns. */
  #next(): Iterator<void> | null {
    const generation = this.#source.generation()
    const learnt = this.#source.takeLearnt()
    const all = generation !== this.#generation
    this.#generation = generation
    if (all) {
      this.#touched.clear()
      return this.#look(indices(this.#dataplane.sizes.reals))
    }
    const some = new Set(this.#touched)
    this.#touched.clear()
    if (learnt === null) return this.#look(this.#hoplessAnd(some))
    // Many come to be known one after the other: to look at all that are missing for each would never end.
    for (const address of learnt) for (const real of this.#addresses.of(address)) some.add(real)
    return some.size === 0 ? null : this.#look(some)
  }

  /** A neighbour that many are behind has become known. */
  *#hoplessAnd(some: Iterable<number>): Generator<number> {
    yield* some
    const { u32 } = this.#dataplane.map('hops')
    for (const real of indices(this.#dataplane.sizes.reals)) {
      if (u32[real * WORDS + IFINDEX] === 0) yield real
    }
  }

  *#look(reals: Iterable<number>): Generator<void> {
    const hops = new Map<IpAddress, HostHop | null>()
    let left = PASSED
    for (const real of reals) {
      left -= this.#lookAt(real, hops) ? PASSED / STRIDE : 1
      if (left > 0) continue
      left = PASSED
      yield
    }
  }

  /** False if nobody is there: nobody chooses one that was removed. */
  #lookAt(real: number, hops: Map<IpAddress, HostHop | null>): boolean {
    const address = this.#addresses.at(real)
    if (address === undefined) return false
    let hop = hops.get(address)
    if (hop === undefined) {
      hop = this.#source.to(address)
      hops.set(address, hop)
    }
    if (this.#write(real, hop)) this.#moved = true
    return true
  }

  /** A reader that comes in between sees that by the version, and does without. True: it was another hop. */
  #write(real: number, hop: HostHop | null): boolean {
    const { u32 } = this.#dataplane.map('hops')
    const base = real * WORDS
    const version = u32[base + VERSION]!
    // Nothing known of one of whom nothing was: of a hundred thousand new ones all, at first.
    if (hop === null && u32[base + IFINDEX] === 0 && (version & 1) === 0) return false
    const { bytes } = this.#dataplane.map('reals')
    const at = real * RealRecord.size + REAL_ADDRESS
    const image = this.#image
    HopRecord.write(this.#imageView, 0, {
      version: 0,
      ifindex: hop?.ifindex ?? 0,
      dmac: hop?.dmac ?? NO_MAC,
      smac: hop?.smac ?? NO_MAC,
      mtu: hop?.mtu ?? 0,
      addr: bytes.subarray(at, at + 16),
    })
    let isSame = true
    for (let i = 0; i < WORDS && isSame; i++) isSame = i === VERSION || u32[base + i] === image[i]
    if (isSame && (version & 1) === 0) return false
    const hadOne = u32[base + IFINDEX] !== 0
    Atomics.store(u32, base + VERSION, version | 1)
    for (let i = 0; i < WORDS; i++) if (i !== VERSION) Atomics.store(u32, base + i, image[i]!)
    Atomics.store(u32, base + VERSION, ((version | 1) + 1) >>> 0)
    return hadOne
  }
}

function* indices(count: number): Generator<number> {
  for (let index = 0; index < count; index++) yield index
}
