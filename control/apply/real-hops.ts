/**
 * Next hops of real servers as this host knows them, written to the map `hops`: where packets to them leave
 * (bpf/next-hop.h). There may be a hundred thousand of them, and requests wait meanwhile: so it is done in
 * slices, and only for those it concerns.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import type { IpAddress } from '../../net/address.ts'
import type { HopSource, HostHop } from '../rules/host.ts'
import { isHopKnown, writeHop } from './hop-record.ts'
import type { ServerAddresses } from './server-addresses.ts'

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
  #generation = Number.NaN
  #round: Iterator<void> | null = null
  #rounds = 0

  constructor(dataplane: Dataplane, addresses: ServerAddresses, source: HopSource) {
    this.#dataplane = dataplane
    this.#addresses = addresses
    this.#source = source
  }

  /** A real server has come to this index, has left it, or is another. */
  touch(real: number): void {
    this.#touched.add(real)
  }

  /** Nothing stands there any more that an earlier process has written. */
  get isOurs(): boolean {
    return this.#rounds > 0
  }

  /**
   * Writes what is not what it was, until `until` (ms, `performance.now`); costs nothing while nothing has
   * changed. True when all is written.
   */
  renew(until: number): boolean {
    for (;;) {
      this.#round ??= this.#next()
      if (this.#round === null) return true
      while (this.#round.next().done !== true) if (performance.now() >= until) return false
      this.#round = null
      this.#rounds++
      if (performance.now() >= until) return false
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
    for (const real of indices(this.#dataplane.sizes.reals)) {
      if (!isHopKnown(this.#dataplane, real)) yield real
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
    writeHop(this.#dataplane, real, hop)
    return true
  }
}

function* indices(count: number): Generator<number> {
  for (let index = 0; index < count; index++) yield index
}
