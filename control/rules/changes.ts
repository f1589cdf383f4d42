/**
 * What has changed about which service since somebody last brought the rules in force. Plain data: it
 * says where to look, what is wanted stands in the rules themselves.
 */
import type { Move } from './scheduler-state.ts'

export interface Change {
  /** New, perhaps in the place of one with the same identity that the maps still hold. */
  readonly created: boolean
  /** The real servers, their weights or the scheduler differ. */
  readonly reschedule: boolean
  /** Nothing is known about what the maps hold of it: all of it is to be compared. */
  readonly all: boolean
  /** Identities of the real servers that were added, edited or removed; not of a new service, of which all are looked at. */
  readonly servers: ReadonlySet<string>
  /** What the changes do to the scheduler's cursor, in order. */
  readonly moves: readonly Move[]
}

/** To look at everything, as after a change of the plane. */
export const LOOK_AT_ALL: Change = {
  created: false,
  reschedule: false,
  all: true,
  servers: new Set(),
  moves: [],
}

interface Noted {
  created: boolean
  reschedule: boolean
  all: boolean
  readonly servers: Set<string>
  readonly moves: Move[]
}

const fresh = (): Noted => ({
  created: false,
  reschedule: false,
  all: false,
  servers: new Set(),
  moves: [],
})

function add(noted: Noted, later: Change): void {
  noted.created ||= later.created
  noted.reschedule ||= later.reschedule
  noted.all ||= later.all
  for (const key of later.servers) noted.servers.add(key)
  for (const move of later.moves) addMove(noted.moves, move)
}

/** The same weights twice in a row move a cursor once: adding 100,000 equal real servers is one move. */
function addMove(moves: Move[], move: Move): void {
  const last = moves.at(-1)
  const same =
    move.move === 'reweighted' &&
    last?.move === 'reweighted' &&
    move.step === last.step &&
    move.max === last.max
  if (!same) moves.push(move)
}

/** Two changes, one after the other, as one. */
export function together(earlier: Change | undefined, later: Change): Change {
  // Nothing of what a service was before it was made anew is left to be looked at.
  if (earlier === undefined || later.created) return later
  const noted = fresh()
  add(noted, earlier)
  add(noted, later)
  return noted
}

/** By identity of the service, in the order in which they changed first. A removed one is in it, too. */
export class ChangeLog {
  readonly #noted = new Map<string, Noted>()

  get size(): number {
    return this.#noted.size
  }

  has(service: string): boolean {
    return this.#noted.has(service)
  }

  /** Made since the rules were last brought in force: it has counted nothing yet. */
  created(service: string): boolean {
    return this.#noted.get(service)?.created ?? false
  }

  keys(): IterableIterator<string> {
    return this.#noted.keys()
  }

  take(service: string): Change | undefined {
    const noted = this.#noted.get(service)
    this.#noted.delete(service)
    return noted
  }

  clear(): void {
    this.#noted.clear()
  }

  noteCreated(service: string, move: Move): void {
    this.#noted.set(service, { ...fresh(), created: true, reschedule: true, moves: [move] })
  }

  noteEdited(service: string, bound: Move | null): void {
    const noted = this.#of(service)
    if (bound === null) return
    noted.reschedule = true
    addMove(noted.moves, bound)
  }

  noteRemoved(service: string): void {
    this.#noted.set(service, fresh())
  }

  noteServer(service: string, server: string, move: Move | null): void {
    const noted = this.#of(service)
    noted.reschedule = true
    if (!noted.created) noted.servers.add(server)
    if (move !== null) addMove(noted.moves, move)
  }

  noteAll(service: string): void {
    this.#of(service).all = true
  }

  /** What another log noted comes after what this one has. */
  append(later: ChangeLog): void {
    for (const [service, noted] of later.#noted) {
      if (noted.created || !this.#noted.has(service)) this.#noted.set(service, noted)
      else add(this.#of(service), noted)
    }
  }

  #of(service: string): Noted {
    let noted = this.#noted.get(service)
    if (noted === undefined) {
      noted = fresh()
      this.#noted.set(service, noted)
    }
    return noted
  }
}
