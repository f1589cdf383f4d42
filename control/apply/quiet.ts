/**
 * Until when packets may be reading what has gone out of their sight. Ranges, indices and schedules are used
 * again only after every packet is through that may have seen what they were: the plane says when, because
 * no number of milliseconds does (a virtual CPU stops for seconds, a thread without budget sleeps).
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import type { Clock } from './clock.ts'

/** After a plane could not say it. */
const AGAIN_MS = 500

export class Quiet {
  readonly #quiesce: (() => Promise<void>) | null
  readonly #clock: Clock
  readonly #warn: (message: string) => void
  #ms: number
  #asking = false
  /** Something went out of sight after the round that is under way had begun. */
  #again = false
  #warned = false
  #stopped = false

  /** @param warn told once when the plane cannot say it, until it can again */
  constructor(dataplane: Dataplane, clock: Clock, warn: (message: string) => void) {
    this.#quiesce = dataplane.quiesce?.bind(dataplane) ?? null
    this.#clock = clock
    this.#warn = warn
    this.#ms = this.#quiesce === null ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY
  }

  /** No packet is under way that had begun before this moment (milliseconds, monotonic). */
  get ms(): number {
    return this.#ms
  }

  /** The plane could not say it when it was last asked. */
  get unsaid(): boolean {
    return this.#warned
  }

  /** Something has gone out of packets' sight: the moment will come to be later than this one. */
  await(): void {
    if (this.#quiesce === null || this.#stopped) return
    this.#again = true
    if (!this.#asking) void this.#ask(this.#quiesce)
  }

  stop(): void {
    this.#stopped = true
  }

  async #ask(quiesce: () => Promise<void>): Promise<void> {
    this.#asking = true
    while (this.#again && !this.#stopped) {
      this.#again = false
      const beganMs = this.#clock.nowMs()
      try {
        await quiesce()
        this.#ms = beganMs
        this.#warned = false
      } catch (error) {
        this.#again = true
        if (!this.#warned && !this.#stopped) {
          this.#warn(`${(error as Error).message}; until it does, what was removed is not used again`)
        }
        this.#warned = true
        await new Promise<void>((resolve) => void this.#clock.after(AGAIN_MS, resolve))
      }
    }
    this.#asking = false
  }
}
