/**
 * All keys below a prefix: listed once at one revision, then watched from the next one on. After a broken
 * connection the watch goes on from the last revision, with any server; what the servers no longer keep is
 * listed anew.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { TooLargeError } from '../http.ts'
import { ENTRIES_MAX, type Follower, type Heard } from '../registry.ts'
import type { EtcdGateway, WatchAnswer } from './gateway.ts'

const PAGE = 2000
/** A server that hangs ends no connection: it is asked something small so often. */
const PROBE_MS = 3000

export interface FollowLimits {
  /** More keys are not listed. */
  readonly entries: number
  readonly probeMs: number
}

const LIMITS: FollowLimits = { entries: ENTRIES_MAX, probeMs: PROBE_MS }

export class EtcdFollower<T> implements Follower<T> {
  readonly #gateway: EtcdGateway
  readonly #prefix: string
  readonly #read: (value: string, name: string) => T
  /** The last one of which all is known; null: nothing is. */
  #revision: number | null = null
  readonly #keys = new Set<string>()
  /** There are more of them than are listed. */
  #partial = false
  readonly #cut: number
  readonly #limits: FollowLimits

  /** @param read what a value is, with what of its key is behind the prefix */
  constructor(
    gateway: EtcdGateway,
    prefix: string,
    read: (value: string, name: string) => T,
    limits: FollowLimits = LIMITS,
  ) {
    this.#limits = limits
    this.#gateway = gateway
    this.#read = read
    this.#prefix = prefix
    this.#cut = prefix.length
  }

  async attempt(report: (heard: Heard<T>) => void, signal: AbortSignal): Promise<never> {
    try {
      this.#revision ??= await this.#list(report, signal)
      return await this.#watch(report, signal)
    } catch (error) {
      // Whoever failed may go on failing; all members of a cluster know the same.
      this.#gateway.next()
      throw error
    }
  }

  #name(key: string): string {
    return key.slice(this.#cut)
  }

  /** Pages of one revision: nothing moves meanwhile. */
  async #list(report: (heard: Heard<T>) => void, signal: AbortSignal): Promise<number> {
    const entries = new Map<string, T>()
    let revision: number | undefined
    let from: string | undefined
    let limit = Math.min(PAGE, this.#limits.entries + 1)
    this.#keys.clear()
    this.#partial = false
    for (;;) {
      const asked = { key: this.#prefix, prefix: true, limit }
      const place = {
        ...(from === undefined ? {} : { from }),
        ...(revision === undefined ? {} : { revision }),
      }
      try {
        const answer = await this.#gateway.range({ ...asked, ...place }, signal)
        revision ??= answer.revision
        for (const { key, value } of answer.kvs) {
          this.#keys.add(key)
          entries.set(this.#name(key), this.#read(value, this.#name(key)))
        }
        const last = answer.kvs.at(-1)
        this.#partial = answer.more && entries.size > this.#limits.entries
        if (!answer.more || last === undefined || this.#partial) break
        from = `${last.key}\0`
      } catch (error) {
        // Values as large as a server allows: fewer at once.
        if (!(error instanceof TooLargeError) || limit === 1) throw error
        limit = Math.max(1, Math.floor(limit / 8))
      }
    }
    report({ kind: 'whole', entries })
    return revision
  }

  async #watch(report: (heard: Heard<T>) => void, signal: AbortSignal): Promise<never> {
    // Either one that fails ends the other.
    const end = new AbortController()
    const both = AbortSignal.any([signal, end.signal])
    try {
      return await Promise.race([this.#listen(report, both), this.#probe(report, both)])
    } finally {
      end.abort()
    }
  }

  async #listen(report: (heard: Heard<T>) => void, signal: AbortSignal): Promise<never> {
    const from = this.#revision! + 1
    for await (const answer of this.#gateway.watch(this.#prefix, from, signal)) {
      this.#take(answer, report)
    }
    throw new Error(`${this.#gateway.endpoints.url} has ended the watch`)
  }

  #take(answer: WatchAnswer, report: (heard: Heard<T>) => void): void {
    if (answer.compacted) {
      this.#revision = null
      throw new Error(`${this.#gateway.endpoints.url} no longer keeps what has changed since: listing anew`)
    }
    if (answer.cancelled !== null) throw new Error(`${this.#gateway.endpoints.url}: ${answer.cancelled}`)
    const changes = new Map<string, T | null>()
    let revision = this.#revision ?? 0
    for (const { key, value, modRevision } of answer.events) {
      revision = Math.max(revision, modRevision)
      if (value === null) this.#keys.delete(key)
      else this.#keys.add(key)
      changes.set(this.#name(key), value === null ? null : this.#read(value, this.#name(key)))
    }
    this.#revision = revision
    report(changes.size === 0 ? { kind: 'current' } : { kind: 'changes', changes })
  }

  /** Whether the server still answers, and knows no other state than we do. */
  async #probe(report: (heard: Heard<T>) => void, signal: AbortSignal): Promise<never> {
    let odd = 0
    for (;;) {
      await sleep(this.#limits.probeMs * (0.8 + Math.random() * 0.4), undefined, { signal })
      const before = this.#revision!
      const answer = await this.#gateway.range({ key: this.#prefix, prefix: true, countOnly: true }, signal)
      const url = this.#gateway.endpoints.url
      if (answer.revision < before) {
        this.#revision = null
        throw new Error(
          `${url} has another history (revision ${answer.revision}, known ${before}): listing anew`,
        )
      }
      const told = this.#partial ? answer.count > this.#limits.entries : answer.count === this.#keys.size
      // Events of this moment may be on their way; twice in a row they are not.
      odd = told || this.#revision !== before ? 0 : odd + 1
      if (odd > 1) {
        this.#revision = null
        throw new Error(`${url} has ${answer.count} entries and has told of ${this.#keys.size}: listing anew`)
      }
      report({ kind: 'current' })
    }
  }
}
