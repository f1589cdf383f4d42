/** What has happened, for whoever listens and for those who come a little later. */
export type HealthEvent = {
  /** Counts up; from one daemon to the next it goes on by the clock, so that none is met twice. */
  readonly id: number
  /** Wall clock, ms. */
  readonly atMs: number
  /** A check, a real server, or a whole service (its quorum). */
  readonly about: 'check' | 'server' | 'service'
  /** `tcp 192.0.2.10:80`; null: of several. */
  readonly service: string | null
  readonly server: string | null
  readonly check: string | null
  readonly state: 'up' | 'down'
  /** Why, in words. */
  readonly words: string
}

/** A check that flaps ten times a second fills this in minutes, and no more than this. */
const KEPT_MAX = 1024

export class Events {
  readonly #kept: HealthEvent[] = []
  readonly #listeners = new Set<(event: HealthEvent) => void>()
  readonly #wallMs: () => number
  #lastId: number

  constructor(wallMs: () => number) {
    this.#wallMs = wallMs
    this.#lastId = wallMs() * 1000
  }

  add(event: Omit<HealthEvent, 'id' | 'atMs'>): HealthEvent {
    const atMs = this.#wallMs()
    this.#lastId++
    const added = { id: this.#lastId, atMs, ...event }
    this.#kept.push(added)
    if (this.#kept.length > KEPT_MAX) this.#kept.shift()
    for (const listener of this.#listeners) listener(added)
    return added
  }

  /** Those later than the one of this id, oldest first. */
  since(id: number): readonly HealthEvent[] {
    return this.#kept.filter((event) => event.id > id)
  }

  /** Calls back for each from now on; the way to stop. */
  follow(listener: (event: HealthEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
