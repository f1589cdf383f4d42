/**
 * Packets that are larger than their path, where the packet program alone cannot cut them (`Dataplane.cutLarger`): once
 * there are real servers behind tunnels, or narrower links, or the program had to drop one: a route may be narrower than
 * its link. Fragments, which the same puts together, once the program has noted any. The settings that have the program
 * leave them to it are published after it is there.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import {
  FragmentRecord,
  Method,
  PM_VERDICT_MAX,
  RealRecord,
  Slot,
  Verdict,
} from '../../dataplane/layout/layout.gen.ts'
import { REAL_WORDS } from '../compile/images.ts'
import type { Operation } from '../plan/operations.ts'

const SLOT = RealRecord.offsets.slot / 4
const METHOD = RealRecord.offsets.method >>> 2
const METHOD_SHIFT = (RealRecord.offsets.method & 3) * 8

export class Cutting {
  readonly #dataplane: Dataplane
  readonly #warn: (message: string) => void
  /** Indices of real servers behind tunnels. */
  readonly #tunnels = new Set<number>()
  /** Whether the program has dropped some for want of who cuts them. */
  #dropped = false
  /** Whether the program has noted fragments. */
  #fragments = false
  /** What was last told of: the same is not told again. */
  #told = ''

  constructor(dataplane: Dataplane, warn: (message: string) => void) {
    this.#dataplane = dataplane
    this.#warn = warn
  }

  /** Wherever it is wanted: a packet that is left to nobody would be answered by the host. */
  get isThere(): boolean {
    const cutting = this.#dataplane.cutting?.() ?? null
    return cutting?.seen === true && cutting.refused.length === 0
  }

  /** Whether fragments are kept until their datagram is whole. */
  get gathers(): boolean {
    return this.#dataplane.gathers?.() ?? false
  }

  /** One that an earlier director has left. */
  adopt(real: number): void {
    const { u32 } = this.#dataplane.map('reals')
    const base = real * REAL_WORDS
    if (u32[base + SLOT] !== Slot.Free) this.#note(real, u32[base + METHOD]!)
  }

  /** To be called when the step is done. */
  after(operation: Operation): void {
    if (operation.op === 'free-real') this.#tunnels.delete(operation.real)
    else if (operation.op === 'fill-real' || operation.op === 'revise-real')
      this.#note(operation.real, operation.image[METHOD]!)
  }

  /** To be called before settings are published. */
  before(hasServices: boolean): void {
    if (!hasServices || this.#dataplane.cutLarger === undefined) return
    this.#fragments ||= this.#areNoted()
    this.#dropped ||= this.#wereDropped()
    this.#dataplane.cutLarger(this.#tunnels.size > 0 || this.#dropped, this.#fragments)
    const refused = this.#dataplane.cutting?.()?.refused.join('; ') ?? ''
    if (refused !== '' && refused !== this.#told) {
      this.#warn(
        `Packets that are larger than their path are dropped, not cut, and fragments not put together: ${refused}`,
      )
    }
    this.#told = refused
  }

  #areNoted(): boolean {
    const { u32, entries } = this.#dataplane.map('fragments')
    for (let at = 0; at < entries; at++) if (u32[(at * FragmentRecord.size) / 4] !== 0) return true
    return false
  }

  #wereDropped(): boolean {
    const { u64, entries } = this.#dataplane.map('verdicts')
    for (let row = 0; row < entries; row += PM_VERDICT_MAX)
      if (u64[row + Verdict.DropFragmentation] !== 0n) return true
    return false
  }

  #note(real: number, word: number): void {
    if (((word >>> METHOD_SHIFT) & 0xff) === Method.Tun) this.#tunnels.add(real)
    else this.#tunnels.delete(real)
  }
}
