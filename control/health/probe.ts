/**
 * One question that is asked again and again, and what its answers come to: several in a row have to say the
 * same before they are believed. Whoever wants the same asked of the same shares it.
 */
import type { CheckTiming } from '../model/check.ts'
import type { WeightChange } from './checker/protocol.ts'
import type { Answered, Asking, Prober } from './checker-link.ts'

export type ProbeState = 'unknown' | 'up' | 'down'

export interface ProbeChange {
  readonly atMs: number
  readonly state: 'up' | 'down'
  readonly words: string
}

/** What is known of a probe from before. */
export interface ProbeMemory {
  readonly state: ProbeState
  readonly sinceMs: number
  readonly words: string
  readonly weight: WeightChange | null
  readonly changes: readonly ProbeChange[]
}

export interface ProbeTools {
  readonly prober: Prober
  /** Calls back once; the way to call it off. */
  readonly after: (ms: number, action: () => void) => () => void
  readonly nowMs: () => number
  readonly wallMs: () => number
  /** 0 to 1. */
  readonly random: () => number
  /** Its state, or what it makes of weights, is another one. */
  readonly changed: (probe: Probe) => void
}

const CHANGES_MAX = 16

export class Probe {
  readonly key: string
  readonly name: string
  readonly asking: Asking
  readonly timing: CheckTiming
  readonly #tools: ProbeTools
  #state: ProbeState = 'unknown'
  #sinceMs: number
  #goods = 0
  #bads = 0
  #last: (Answered & { readonly atMs: number }) | null = null
  /** Of the last good or bad answer. */
  #words = ''
  #weight: WeightChange | null = null
  #changes: ProbeChange[] = []
  #cancel: (() => void) | null = null
  #stopped = false

  constructor(
    key: string,
    name: string,
    asking: Asking,
    timing: CheckTiming,
    tools: ProbeTools,
    before: ProbeMemory | null,
  ) {
    this.key = key
    this.name = name
    this.asking = asking
    this.timing = timing
    this.#tools = tools
    this.#sinceMs = before?.sinceMs ?? tools.wallMs()
    if (before === null) return
    this.#state = before.state
    this.#words = before.words
    this.#weight = before.weight
    this.#changes = [...before.changes]
  }

  get state(): ProbeState {
    return this.#state
  }

  /** Since when (wall clock). */
  get sinceMs(): number {
    return this.#sinceMs
  }

  get words(): string {
    return this.#words
  }

  get weight(): WeightChange | null {
    return this.#weight
  }

  /** Also one that says nothing. */
  get last(): (Answered & { readonly atMs: number }) | null {
    return this.#last
  }

  get changes(): readonly ProbeChange[] {
    return this.#changes
  }

  memory(): ProbeMemory {
    return {
      state: this.#state,
      sinceMs: this.#sinceMs,
      words: this.#words,
      weight: this.#weight,
      changes: this.#changes,
    }
  }

  start(): void {
    this.#cancel = this.#tools.after(this.#tools.random() * this.timing.startJitterMs, () => this.#ask())
  }

  stop(): void {
    this.#stopped = true
    this.#cancel?.()
  }

  #ask(): void {
    const beganMs = this.#tools.nowMs()
    void this.#tools.prober.ask(this.asking).then((answer) => {
      if (this.#stopped) return
      this.#hear(answer)
      // From question to question, but never before the answer to the last.
      const everyMs = answer.state === 'good' ? this.timing.intervalMs : this.timing.retryIntervalMs
      const waitMs = beganMs + everyMs - this.#tools.nowMs()
      this.#cancel = this.#tools.after(Math.max(waitMs, PAUSE_MS), () => this.#ask())
    })
  }

  #hear(answer: Answered): void {
    this.#last = { ...answer, atMs: this.#tools.wallMs() }
    // Not to have asked says nothing, neither way.
    if (answer.state === 'void') return
    const good = answer.state === 'good'
    this.#goods = good ? this.#goods + 1 : 0
    this.#bads = good ? 0 : this.#bads + 1
    this.#words = answer.words
    const weight = good ? (answer.weight ?? null) : this.#weight
    const reweighed = JSON.stringify(weight) !== JSON.stringify(this.#weight)
    this.#weight = weight
    const { rise, fall } = this.timing
    if (good && this.#state !== 'up' && this.#goods >= rise) this.#become('up')
    else if (!good && this.#state !== 'down' && this.#bads >= fall) this.#become('down')
    else if (reweighed) this.#tools.changed(this)
  }

  #become(state: 'up' | 'down'): void {
    this.#state = state
    this.#sinceMs = this.#tools.wallMs()
    this.#changes.push({ atMs: this.#sinceMs, state, words: this.#words })
    if (this.#changes.length > CHANGES_MAX) this.#changes.shift()
    this.#tools.changed(this)
  }
}

/** Between an answer that took longer than its interval and the next question. */
const PAUSE_MS = 5
