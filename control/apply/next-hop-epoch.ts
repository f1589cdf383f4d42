/**
 * When all connections have to ask for their next hop again: a look at the routing table each, and a write
 * to their line. So not for what cannot concern them, and seldom for what hardly ever does.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { bumpNextHopEpoch } from '../compile/settings.ts'
import type { HostChange } from '../rules/host.ts'

/** Least time between two bumps for routes to elsewhere, by which clients of NAT services may be reached. */
const OTHERS_REST_MS = 1000

export class NextHopEpoch {
  readonly #dataplane: Dataplane
  readonly #usesNat: () => boolean
  #lastMs = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | null = null

  /** `usesNat`: answers leave by us, so that ways to clients matter. */
  constructor(dataplane: Dataplane, usesNat: () => boolean) {
    this.#dataplane = dataplane
    this.#usesNat = usesNat
  }

  changed({ nextHops = 'kept' }: Pick<HostChange, 'nextHops'>): void {
    if (nextHops === 'kept') this.#bump()
    if (nextHops !== 'others' || this.#timer !== null || !this.#usesNat()) return
    const waitMs = this.#lastMs + OTHERS_REST_MS - performance.now()
    if (waitMs <= 0) this.#bump()
    else this.#timer = setTimeout(() => this.#bump(), waitMs).unref()
  }

  /** The maps are about to go. */
  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  #bump(): void {
    this.stop()
    this.#lastMs = performance.now()
    bumpNextHopEpoch(this.#dataplane.map('settings'))
  }
}
