/** Long work on the daemon's only thread: others get their turn every few milliseconds. */

/** A browser has no `setImmediate`. */
const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    if (typeof setImmediate === 'function') setImmediate(resolve)
    else setTimeout(resolve)
  })

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
