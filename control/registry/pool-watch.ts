/**
 * One pool of real servers as a registry has it: what was heard last that can be used. A registry that is away,
 * answers nonsense or has lost its data must not take a site down, so what is good stays until something good
 * takes its place, and a set that has shrunk too far too fast waits for somebody to say that it is meant.
 */
import type { PoolState } from '../model/pool.ts'
import { ENTRIES_MAX, type Entry, type Follower, type Heard, type Member } from './registry.ts'
import { keepFollowing } from './retry.ts'

export interface PoolLimits {
  /** Share of the real servers that may leave within `WINDOW_MS`. */
  readonly maxRemoval: number
  readonly allowEmpty: boolean
}

export interface PoolWatchOptions {
  readonly follower: Follower
  readonly limits: PoolLimits
  /** What was in force before; null: nothing is known. */
  readonly before: readonly Member[] | null
  /** Others are the members. */
  readonly changed: () => void
  /** Something else about it is different. */
  readonly told: () => void
  readonly nowMs: () => number
}

/** The time in which at most `maxRemoval` may leave. */
export const WINDOW_MS = 60_000
/** A burst has ended when nothing more is heard for so long, */
const QUIET_MS = 5
/** but nobody waits longer than this. */
const GATHER_MS_MAX = 50
/** Named in lists; all are counted. */
const BAD_NAMED_MAX = 10

export class PoolWatch {
  readonly #options: PoolWatchOptions
  readonly #stop = new AbortController()
  #entries = new Map<string, Entry>()
  #members: readonly Member[] | null
  #text: string
  /** Sizes that the set in force has had, and until when. */
  #sizes: { readonly size: number; readonly untilMs: number }[] = []
  #held: PoolState['held'] = null
  #away: PoolState['away'] = null
  #bad: { readonly count: number; readonly named: PoolState['bad'] } = { count: 0, named: [] }
  #heardMs: number | null = null
  #changedMs: number | null = null
  #quiet: NodeJS.Timeout | null = null
  #latest: NodeJS.Timeout | null = null
  #window: NodeJS.Timeout | null = null
  readonly #firsts = new Set<() => void>()

  constructor(options: PoolWatchOptions) {
    this.#options = options
    this.#members = options.before
    this.#text = textOf(options.before ?? [])
    void keepFollowing(
      options.follower,
      { heard: (heard) => this.#hear(heard), away: (why) => this.#lose(why) },
      this.#stop.signal,
    )
  }

  /** null: nothing has ever been heard. */
  get members(): readonly Member[] | null {
    return this.#members
  }

  get state(): PoolState {
    return {
      servers: this.#members?.length ?? null,
      heardMs: this.#away === null && this.#heardMs !== null ? this.#options.nowMs() : this.#heardMs,
      changedMs: this.#changedMs,
      away: this.#away,
      held: this.#held,
      badCount: this.#bad.count,
      bad: this.#bad.named,
    }
  }

  /** Settles when something is known, or cannot be had, and at the latest after the time. */
  async first(limitMs: number): Promise<void> {
    if (this.#members !== null) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs)
      this.#firsts.add(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  close(): void {
    this.#stop.abort()
    for (const timer of [this.#quiet, this.#latest, this.#window]) if (timer !== null) clearTimeout(timer)
    this.#settleFirsts()
  }

  /** What is there now is what is meant. */
  accept(): void {
    if (this.#held !== null) this.#publish(this.#good())
  }

  #hear(heard: Heard): void {
    const back = this.#away !== null
    this.#away = null
    this.#heardMs = this.#options.nowMs()
    if (heard.kind === 'current') {
      if (back) this.#options.told()
      return
    }
    if (heard.kind === 'whole') this.#entries = new Map(heard.entries)
    else {
      for (const [key, entry] of heard.changes) {
        if (entry === null) this.#entries.delete(key)
        else this.#entries.set(key, entry)
      }
    }
    if (back) this.#options.told()
    if (this.#quiet !== null) clearTimeout(this.#quiet)
    this.#quiet = setTimeout(() => this.#judge(), QUIET_MS)
    this.#latest ??= setTimeout(() => this.#judge(), GATHER_MS_MAX)
  }

  #lose(why: string): void {
    if (this.#away?.why === why) return
    this.#away = { sinceMs: this.#away?.sinceMs ?? this.#options.nowMs(), why }
    this.#options.told()
    this.#settleFirsts()
  }

  #judge(): void {
    if (this.#quiet !== null) clearTimeout(this.#quiet)
    if (this.#latest !== null) clearTimeout(this.#latest)
    this.#quiet = null
    this.#latest = null
    const before = JSON.stringify([this.#held, this.#bad])
    const good = this.#good()
    const why = this.#whyNot(good)
    if (why === null) this.#publish(good)
    else this.#held = { sinceMs: this.#held?.sinceMs ?? this.#options.nowMs(), servers: good.length, why }
    if (why !== null) this.#judgeLater()
    if (JSON.stringify([this.#held, this.#bad]) !== before) this.#options.told()
  }

  /** What was too much within one window may not be too much once it is over. */
  #judgeLater(): void {
    this.#window ??= setTimeout(() => {
      this.#window = null
      if (this.#held !== null) this.#judge()
    }, WINDOW_MS + 1)
    this.#window.unref()
  }

  /** Why a set is not to be believed; null: it is. */
  #whyNot(good: readonly Member[]): string | null {
    const { maxRemoval, allowEmpty } = this.#options.limits
    const inForce = this.#members?.length ?? 0
    if (inForce === 0) return null
    if (good.length === 0) {
      return allowEmpty
        ? null
        : `it has become empty, ${inForce} stay: set allow_empty: true if that is meant`
    }
    if (good.length >= inForce) return null
    const nowMs = this.#options.nowMs()
    this.#sizes = this.#sizes.filter(({ untilMs }) => untilMs > nowMs - WINDOW_MS)
    const most = this.#sizes.reduce((size, one) => Math.max(size, one.size), inForce)
    if (most - good.length <= most * maxRemoval) return null
    const share = Math.round(maxRemoval * 100)
    return `it has shrunk from ${most} to ${good.length}, ${inForce} stay: more than max_removal, ${share}%, within a minute`
  }

  #publish(good: readonly Member[]): void {
    this.#held = null
    const text = textOf(good)
    const first = this.#members === null
    if (!first && text === this.#text) return
    const nowMs = this.#options.nowMs()
    if (this.#members !== null) this.#sizes.push({ size: this.#members.length, untilMs: nowMs })
    this.#text = text
    this.#members = good
    this.#changedMs = nowMs
    this.#settleFirsts()
    this.#options.changed()
  }

  #settleFirsts(): void {
    for (const settle of this.#firsts) settle()
    this.#firsts.clear()
  }

  /** In the order of their keys, so that the same set is the same list. */
  #good(): readonly Member[] {
    const good: Member[] = []
    const named: { key: string; why: string }[] = []
    let count = 0
    const skip = (key: string, why: string): void => {
      count++
      if (named.length < BAD_NAMED_MAX) named.push({ key, why })
    }
    const taken = new Map<string, string>()
    for (const key of [...this.#entries.keys()].sort()) {
      const entry = this.#entries.get(key)!
      if ('bad' in entry) {
        skip(key, entry.bad)
        continue
      }
      const other = taken.get(entry.address)
      if (other !== undefined) skip(key, `${entry.address} is there already, as ${other}`)
      else if (good.length >= ENTRIES_MAX) skip(key, `there are more than ${ENTRIES_MAX}`)
      else {
        taken.set(entry.address, key)
        good.push(entry)
      }
    }
    this.#bad = { count, named }
    return good
  }
}

function textOf(members: readonly Member[]): string {
  return members.map(({ address, weight }) => `${address} ${weight}`).join('\n')
}
