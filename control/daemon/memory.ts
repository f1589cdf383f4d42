/**
 * Gives memory back after large answers. V8 keeps what a listing of 100,000 real servers left behind until
 * it needs room for something else, which in a daemon that is mostly idle may be never.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Growth that is worth a collection of some ten milliseconds (bytes). */
const GROWTH_MIN = 64 * 2 ** 20
/** Requests have paused this long (ms). */
const QUIET_MS = 1000

let collector: (() => void) | null = null

/** A full collection, now. */
export function collectGarbage(): void {
  if (collector === null) {
    setFlagsFromString('--expose-gc')
    const found: unknown = runInNewContext('gc')
    collector = typeof found === 'function' ? () => void found() : () => {}
  }
  collector()
}

/** Asked at every request: process.memoryUsage() would read /proc each time. */
function heapUsed(): number {
  return getHeapStatistics().used_heap_size
}

/** To be told of every request; collects in the pause after those that left much behind. */
export class Tidy {
  #timer: NodeJS.Timeout | null = null
  /** Heap in use after the last collection (bytes). */
  #floor = heapUsed()

  requested(): void {
    if (this.#timer !== null) this.#timer.refresh()
    else if (heapUsed() - this.#floor > GROWTH_MIN) {
      this.#timer = setTimeout(() => this.#collect(), QUIET_MS).unref()
    }
  }

  #collect(): void {
    this.#timer = null
    collectGarbage()
    this.#floor = heapUsed()
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
  }
}
