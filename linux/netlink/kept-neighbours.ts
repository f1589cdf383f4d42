/**
 * Neighbours that the kernel keeps resolved on our behalf (managed entries, kernel 5.16). Marked as ours in
 * the kernel, so that a later process finds them; entries set by hand (permanent) are left alone.
 */
import type { IpAddress } from '../../net/address.ts'
import type { Answer, Questions } from './questions.ts'
import {
  decodeNeighbour,
  manageNeighbour,
  type Neighbour,
  neighbourQuery,
  useNeighbour,
} from './rtnetlink.ts'

export interface Hop {
  readonly address: IpAddress
  readonly ifindex: number
}

/** Marks the entries that are ours, also after a crash (NDA_PROTOCOL). */
const OWNER = 0x70
/** Neighbours looked after in one go, between which others have their turn. */
const SLICE = 96

export function hopKey({ address, ifindex }: Hop): string {
  return `${ifindex} ${address}`
}

export class KeptNeighbours {
  readonly #questions: Questions
  readonly #kept = new Map<string, Hop>()
  /** Gone while they were being made: events and answers come on two sockets, and the answer may be the older. */
  readonly #goneMeanwhile = new Set<string>()

  constructor(questions: Questions) {
    this.#questions = questions
  }

  /** An entry as an event or a reading tells it: ours from an earlier process, or not what we made of it. */
  saw(entry: Neighbour, gone: boolean): boolean {
    const key = hopKey(entry)
    const ours = !gone && entry.managed && entry.protocol === OWNER
    if (ours) {
      this.#kept.set(key, { address: entry.address, ifindex: entry.ifindex })
      return false
    }
    if (gone) this.#goneMeanwhile.add(key)
    return this.#kept.delete(key)
  }

  /** Those that are kept now; with what is read from here on, `notRead` finds those that are no longer there. */
  get keys(): Set<string> {
    return new Set(this.#kept.keys())
  }

  /** All entries have been read, and these were not among them: true if one was kept. */
  notRead(keys: ReadonlySet<string>): boolean {
    return [...keys].filter((key) => this.#kept.delete(key)).length > 0
  }

  get size(): number {
    return this.#kept.size
  }

  /** Keeps exactly these. False: the kernel has not answered, or refused: to be tried again. */
  async keep(wanted: ReadonlyMap<string, Hop>): Promise<boolean> {
    const dropped = [...this.#kept.values()].filter((hop) => !wanted.has(hopKey(hop)))
    const added = [...wanted.values()].filter((hop) => !this.#kept.has(hopKey(hop)))
    let complete = true
    for (const slice of slices(dropped)) complete = (await this.#release(slice)) && complete
    for (const slice of slices(added)) complete = (await this.#make(slice)) && complete
    return complete
  }

  async #entries(hops: readonly Hop[]): Promise<readonly (Neighbour | 'none' | 'unknown')[]> {
    const answers = await this.#questions.ask(
      hops.map(({ address, ifindex }) => neighbourQuery(address, ifindex)),
    )
    return answers.map((answer) => {
      if (answer === null) return 'unknown'
      return answer.kind === 'message' ? (decodeNeighbour(answer.message) ?? 'none') : 'none'
    })
  }

  async #make(hops: readonly Hop[]): Promise<boolean> {
    this.#goneMeanwhile.clear()
    const entries = await this.#entries(hops)
    const bare = hops.filter((hop, i) => {
      const entry = entries[i]!
      if (typeof entry === 'string') return entry === 'none'
      if (entry.managed && entry.protocol === OWNER) this.#kept.set(hopKey(hop), hop)
      return !entry.permanent && !this.#kept.has(hopKey(hop))
    })
    const answers = await this.#questions.change(
      bare.map(({ address, ifindex }) => manageNeighbour(address, ifindex, OWNER)),
    )
    for (const [i, hop] of bare.entries()) if (isDone(answers[i])) this.#kept.set(hopKey(hop), hop)
    const gone = hops.map(hopKey).filter((key) => this.#goneMeanwhile.has(key))
    for (const key of gone) this.#kept.delete(key)
    return gone.length === 0 && !entries.includes('unknown') && bare.every((_, i) => isDone(answers[i]))
  }

  async #release(hops: readonly Hop[]): Promise<boolean> {
    const entries = await this.#entries(hops)
    const ours = hops.filter((_, i) => {
      const entry = entries[i]!
      return typeof entry !== 'string' && !entry.permanent && entry.managed && entry.protocol === OWNER
    })
    // Asking without the flag makes it an ordinary entry again.
    await this.#questions.change(ours.map(({ address, ifindex }) => useNeighbour(address, ifindex)))
    for (const [i, hop] of hops.entries()) if (entries[i] !== 'unknown') this.#kept.delete(hopKey(hop))
    return !entries.includes('unknown')
  }
}

function isDone(answer: Answer | null | undefined): boolean {
  return answer?.kind === 'result' && answer.errno === 0
}

function* slices<T>(all: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += SLICE) yield all.slice(at, at + SLICE)
}
