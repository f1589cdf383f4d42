/**
 * What has happened, for whoever listens and for those who come a little later: checks and health, rules and
 * who changed them, sources, data plane, daemon.
 */
export const EVENT_KINDS = ['health', 'rules', 'source', 'dataplane', 'daemon'] as const
export type EventKind = (typeof EVENT_KINDS)[number]

export interface JournalEvent {
  /** Counts up; from one daemon to the next it goes on by the clock, so that none is met twice. */
  readonly id: number
  /** Wall clock, ms. */
  readonly atMs: number
  readonly kind: EventKind
  /** What of its kind: `check`, `server`, `service`; `settings`, `restore`; `interface`, ... */
  readonly about: string
  /** `tcp 192.0.2.10:80`; null: of none, or of several. */
  readonly service: string | null
  readonly server: string | null
  readonly check: string | null
  /** Of health. */
  readonly state: 'up' | 'down' | null
  /** What, or why, in words. */
  readonly words: string
  /** Who asked for it; null: nobody, it came about. */
  readonly by: string | null
}

export type NewEvent = Pick<JournalEvent, 'kind' | 'about' | 'words'> &
  Partial<Pick<JournalEvent, 'service' | 'server' | 'check' | 'state' | 'by'>>

/** A check that flaps ten times a second fills this in minutes, and no more than this. */
const KEPT_MAX = 1024
/** A name may be long, a thousand of them may not be too much. */
const WORDS_MAX = 1000

export class Journal {
  readonly #kept: JournalEvent[] = []
  readonly #listeners = new Set<(event: JournalEvent) => void>()
  readonly #wallMs: () => number
  #lastId: number

  /** @param earlier of an earlier daemon, oldest first */
  constructor(wallMs: () => number, earlier: readonly JournalEvent[] = []) {
    this.#wallMs = wallMs
    this.#kept.push(...earlier.slice(-KEPT_MAX))
    // A clock that was put back has no event come before those that are known.
    this.#lastId = Math.max(wallMs() * 1000, this.#kept.at(-1)?.id ?? 0)
  }

  add({ words, ...event }: NewEvent): JournalEvent {
    const atMs = this.#wallMs()
    this.#lastId++
    const added: JournalEvent = {
      id: this.#lastId,
      atMs,
      ...{ service: null, server: null, check: null, state: null, by: null },
      ...event,
      words: words.length > WORDS_MAX ? `${words.slice(0, WORDS_MAX)}…` : words,
    }
    this.#kept.push(added)
    if (this.#kept.length > KEPT_MAX) this.#kept.shift()
    for (const listener of this.#listeners) listener(added)
    return added
  }

  /** Those later than the one of this id, oldest first. */
  since(id: number): readonly JournalEvent[] {
    return this.#kept.filter((event) => event.id > id)
  }

  /** Calls back for each from now on; the way to stop. */
  follow(listener: (event: JournalEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
