/**
 * What is due again and again, as one table of beats over one timer: waking up is what an idle daemon
 * costs, so beats whose times meet share a wake-up.
 */

export interface Beat {
  readonly name: string
  /** From one time to the next, counted from when the clockwork was made; null: only when it is rung. */
  readonly everyMs: number | null
  /** Rung in bursts it is still no sooner than this after the last time. */
  readonly restMs?: number
  /** One slice of work: after how long it wants to go on (ms), null when it is done for now. */
  run(): number | null
}

/** Time, monotonic; tests have their own. */
export interface Clock {
  nowMs(): number
  /** Calls back once; the way to call it off. */
  after(ms: number, action: () => void): () => void
}

const machineClock: Clock = {
  nowMs: () => performance.now(),
  after(ms, action) {
    // Waiting for a beat keeps no process alive.
    const timer = setTimeout(action, ms).unref()
    return () => clearTimeout(timer)
  },
}

interface Running {
  readonly beat: Beat
  dueMs: number
  lastMs: number
}

export class Clockwork {
  readonly #clock: Clock
  readonly #failed: (beat: string, error: unknown) => void
  readonly #startedMs: number
  readonly #running = new Set<Running>()
  #cancel: (() => void) | null = null
  #wakeMs = Number.POSITIVE_INFINITY

  /** @param failed told of a beat that threw; the beat goes on at its next time */
  constructor(failed: (beat: string, error: unknown) => void, clock: Clock = machineClock) {
    this.#clock = clock
    this.#failed = failed
    this.#startedMs = clock.nowMs()
  }

  /** Sets beats going; the way to take them out again. */
  add(beats: readonly Beat[]): () => void {
    const added = beats.map((beat): Running => {
      return { beat, dueMs: this.#regular(beat), lastMs: Number.NEGATIVE_INFINITY }
    })
    for (const running of added) this.#running.add(running)
    this.#arm()
    return () => {
      for (const running of added) this.#running.delete(running)
    }
  }

  /** The beats of this name are due now, or when they have rested. */
  ring(name: string): void {
    const nowMs = this.#clock.nowMs()
    for (const running of this.#running) {
      if (running.beat.name !== name) continue
      running.dueMs = Math.min(running.dueMs, Math.max(nowMs, running.lastMs + (running.beat.restMs ?? 0)))
    }
    this.#arm()
  }

  stop(): void {
    this.#running.clear()
    this.#cancel?.()
    this.#cancel = null
    this.#wakeMs = Number.POSITIVE_INFINITY
  }

  /** The next time a beat is due by itself. */
  #regular({ everyMs }: Beat): number {
    if (everyMs === null) return Number.POSITIVE_INFINITY
    const elapsedMs = this.#clock.nowMs() - this.#startedMs
    return this.#startedMs + everyMs * (Math.floor(elapsedMs / everyMs) + 1)
  }

  #arm(): void {
    let wakeMs = Number.POSITIVE_INFINITY
    for (const { dueMs } of this.#running) wakeMs = Math.min(wakeMs, dueMs)
    if (wakeMs === this.#wakeMs) return
    this.#cancel?.()
    this.#wakeMs = wakeMs
    this.#cancel = null
    if (wakeMs === Number.POSITIVE_INFINITY) return
    this.#cancel = this.#clock.after(Math.max(0, wakeMs - this.#clock.nowMs()), () => this.#wake())
  }

  #wake(): void {
    this.#cancel = null
    this.#wakeMs = Number.POSITIVE_INFINITY
    for (const running of this.#running) {
      // Timers may come a little early: what is due within a millisecond is due.
      if (running.dueMs < this.#clock.nowMs() + 1) this.#run(running)
    }
    this.#arm()
  }

  #run(running: Running): void {
    const { beat } = running
    // Rung by its own work it is due again.
    running.dueMs = Number.POSITIVE_INFINITY
    running.lastMs = this.#clock.nowMs()
    let onMs: number | null = null
    try {
      onMs = beat.run()
    } catch (error) {
      this.#failed(beat.name, error)
    }
    // Looked at after the work: a beat that took longer than its time does not catch up.
    const nextMs = onMs === null ? this.#regular(beat) : this.#clock.nowMs() + onMs
    running.dueMs = Math.min(running.dueMs, nextMs)
  }
}
