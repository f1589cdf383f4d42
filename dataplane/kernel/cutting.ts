/**
 * Beside XDP: the packet program in traffic control for what is larger than its path (bpf/cut-mark.h), and for fragments
 * (bpf/gather.h). It is there once there are real servers behind tunnels, a way that is narrower than what comes in, or
 * fragments, and stays as long as XDP does: frames that are left to it already need it.
 */
import type { Links } from '../../linux/links.ts'
import { isMachineTrouble } from '../../linux/machine-error.ts'
import type { Answers } from '../dataplane.ts'
import { type AskFilter, type Companion, sends } from './companion.ts'
import type { OpenedPrograms } from './pinned-program.ts'

export interface CuttingFacts {
  /** Interfaces whose frames XDP takes. */
  readonly receiving: (links: Links) => ReadonlySet<number>
  readonly readLinks: () => Links
  /** The plane is closed, or detached. */
  readonly isOver: () => boolean
  /** Whether it is loaded in a thread of its own rather than at once. */
  readonly isLater: boolean
}

export class Cutting {
  readonly #companion: Companion
  readonly #opened: OpenedPrograms
  readonly #facts: CuttingFacts
  #isLoading = false
  /** Whether there are tunnels; null: nobody wants anything cut. */
  #tunnels: boolean | null = null
  #fragments = false

  constructor(companion: Companion, opened: OpenedPrograms, facts: CuttingFacts) {
    this.#companion = companion
    this.#opened = opened
    this.#facts = facts
  }

  adopt(): void {
    this.#companion.adopt()
  }

  look(askFilter: AskFilter): Promise<void> {
    return this.#companion.look(askFilter)
  }

  want(tunnels: boolean, fragments: boolean): void {
    this.#tunnels = tunnels
    this.#fragments ||= fragments
    if (this.state() === null) this.bringInLine(this.#facts.readLinks())
  }

  /** null: it is not wanted. */
  state(): Answers | null {
    return this.#companion.state()
  }

  /** Wherever it is wanted. */
  get isThere(): boolean {
    const state = this.state()
    return state?.seen === true && state.refused.length === 0
  }

  bringInLine(links: Links): void {
    const receiving = this.#facts.receiving(links)
    const isThere = this.state() !== null
    if (receiving.size === 0) {
      if (isThere) this.#companion.remove()
    } else if (
      isThere ||
      this.#fragments ||
      this.#tunnels === true ||
      (this.#tunnels === false && hasNarrower(links, receiving))
    ) {
      if (!this.#companion.isDue) return
      if (this.#facts.isLater && !this.#opened.has('cut')) void this.#load()
      else this.#companion.want(true, () => links)
    }
  }

  remove(): void {
    this.#companion.remove()
  }

  close(): void {
    this.#companion.close()
  }

  /** Until it is there, what would have to be cut is dropped by name. */
  async #load(): Promise<void> {
    if (this.#isLoading) return
    this.#isLoading = true
    const { isOver, readLinks } = this.#facts
    try {
      await this.#opened.load('cut', isOver)
      if (!isOver()) this.bringInLine(readLinks())
    } catch (error) {
      // Nobody waits for this: what the file system says about pins is told like the kernel's refusal.
      if (!isMachineTrouble(error)) throw error
      if (!isOver()) this.#companion.refuse((error as Error).message)
    } finally {
      this.#isLoading = false
    }
  }
}

/** Whether there is a way that is narrower than what comes in. */
function hasNarrower(links: Links, receiving: ReadonlySet<number>): boolean {
  const widest = Math.max(...links.all().flatMap(({ ifindex, mtu }) => (receiving.has(ifindex) ? [mtu] : [])))
  return links.all().some((link) => sends(link, links) && link.mtu < widest)
}
