/** Long work on the daemon's only thread: others get their turn every few milliseconds. */
import { setImmediate as nextTurn } from 'node:timers/promises'

/** Longest stretch of work in one go (ms). */
const STRETCH_MS = 4

export class Turns {
  #until = performance.now() + STRETCH_MS

  /** Whether it is time to let others go first. */
  get over(): boolean {
    return performance.now() >= this.#until
  }

  async pass(): Promise<void> {
    await nextTurn()
    this.#until = performance.now() + STRETCH_MS
  }
}
