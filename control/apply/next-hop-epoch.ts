/**
 * When all connections have to ask for their next hop again: a look at the routing table each, and a write
 * to their line. So not for what cannot concern them, and seldom for what hardly ever does.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { bumpNextHopEpoch } from '../compile/settings.ts'
import type { HostChange } from '../rules/host.ts'

/** Least time between two bumps for routes to elsewhere, by which clients of NAT services may be reached. */
const OTHERS_REST_MS = 1000
/**
 * Bumps there may be at once, and how long each is in coming back. Connections know a few bits of an epoch only:
 * with more of them than bpf/connection.h reckons with (PM_EPOCH_MEMORY), an old one would look like the present.
 */
const AT_ONCE = 8
const COMES_BACK_MS = 1000

export class NextHopEpoch {
  readonly #dataplane: Dataplane
  readonly #usesNat: () => boolean
  #lastMs = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | null = null
  /** Of `AT_ONCE`, at `#lastMs`. */
  #left = AT_ONCE

  /** `usesNat`: answers leave by us, so that ways to clients matter. */
  constructor(dataplane: Dataplane, usesNat: () => boolean) {
    this.#dataplane = dataplane
    this.#usesNat = usesNat
  }

  changed({ nextHops = 'kept' }: Pick<HostChange, 'nextHops'>): void {
    if (nextHops === 'none') return
    const sinceMs = performance.now() - this.#lastMs
    const left = Math.min(AT_ONCE, this.#left + sinceMs / COMES_BACK_MS)
    const spareMs = (1 - left) * COMES_BACK_MS
    if (nextHops === 'kept') this.#bumpAfter(spareMs, left)
    else if (this.#timer === null && this.#usesNat())
      this.#bumpAfter(Math.max(spareMs, OTHERS_REST_MS - sinceMs), left)
  }

  #bumpAfter(waitMs: number, left: number): void {
    if (waitMs <= 0) {
      this.#bump(left - 1)
    } else {
      this.stop()
      this.#timer = setTimeout(() => this.#bump(Math.max(0, left - 1)), waitMs).unref()
    }
  }

  /** The maps are about to go. */
  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  #bump(left: number): void {
    this.stop()
    this.#left = left
    this.#lastMs = performance.now()
    bumpNextHopEpoch(this.#dataplane.map('settings'))
  }
}
