/**
 * Numbers of taps. A worker knows by the byte beside every job which of its sources a frame came from:
 * 1 to 255, and none twice while it is in use.
 */
import { DataplaneError } from '../dataplane.ts'
import { TAPS_MAX } from './worker/messages.ts'

export class TapNumbers {
  readonly #used = new Set<number>()
  #last = 0

  /** One that nobody has; those given back rest as long as there are others. */
  take(): number {
    for (let tried = 0; tried < TAPS_MAX; tried++) {
      this.#last = (this.#last % TAPS_MAX) + 1
      if (this.#used.has(this.#last)) continue
      this.#used.add(this.#last)
      return this.#last
    }
    throw new DataplaneError(
      `Cannot take packets from more queues: all ${TAPS_MAX} numbers of a worker are in use; with fewer interfaces, or fewer queues (ethtool -L NAME combined N), there are enough`,
    )
  }

  give(number: number): void {
    this.#used.delete(number)
  }
}
