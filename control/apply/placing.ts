/**
 * Brings what the network adds to real servers up to date, for all of them or those of some addresses, in
 * slices: there may be a hundred thousand, and requests wait meanwhile.
 */
import type { IpAddress } from '../../net/address.ts'

/** Which real servers: null for all. */
export type Which = ReadonlySet<IpAddress> | null

/** Longest stretch of work in one go. */
const BURST_MS = 3

/** A browser has no `setImmediate`. */
function soon(action: () => void): void {
  if (typeof setImmediate === 'function') setImmediate(action).unref()
  else setTimeout(action)
}

export class Placing<Service> {
  readonly #services: (which: Which) => Iterable<Service | null>
  readonly #place: (service: Service, which: Which) => Iterable<void>
  readonly #later: (action: () => void) => void
  readonly #nowMs: () => number
  #which: Which = new Set()
  #left: Iterator<void> | null = null
  #current: Which = null
  #waiting = false
  #stopped = false

  /**
   * `services` are those that it may be about, null where it has to look for long; some of them may be gone
   * when their turn comes.
   * `place` does some of a service's work with every step, and must bear with a service that is gone by then,
   * or another when it goes on.
   */
  constructor(
    services: (which: Which) => Iterable<Service | null>,
    place: (service: Service, which: Which) => Iterable<void>,
    later: (action: () => void) => void = soon,
    nowMs: () => number = () => performance.now(),
  ) {
    this.#services = services
    this.#place = place
    this.#later = later
    this.#nowMs = nowMs
  }

  /** A few are done when this returns; the rest follows by itself. */
  renew(which: Which): void {
    this.#which = which === null || this.#which === null ? null : new Set([...this.#which, ...which])
    if (!this.#waiting) this.#slice()
  }

  /** The maps are about to go: nothing of what is left is done. */
  stop(): void {
    this.#stopped = true
  }

  #slice(): void {
    if (this.#stopped) return
    const stop = this.#nowMs() + BURST_MS
    do {
      if (this.#left === null && !this.#next()) return
      if (this.#left?.next().done === true) this.#left = null
    } while (this.#nowMs() < stop)
    this.#waiting = true
    this.#later(() => {
      this.#waiting = false
      this.#slice()
    })
  }

  /** The next round, over the services as they are now. */
  #next(): boolean {
    if (this.#which !== null && this.#which.size === 0) return false
    this.#current = this.#which
    this.#which = new Set()
    this.#left = this.#round(this.#services(this.#current), this.#current)
    return true
  }

  *#round(services: Iterable<Service | null>, which: Which): Generator<void> {
    for (const service of services) {
      if (service !== null) yield* this.#place(service, which)
      yield
    }
  }
}
