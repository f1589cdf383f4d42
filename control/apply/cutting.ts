/**
 * Packets that are larger than their path, where the packet program alone cannot cut them (`Dataplane.cutLarger`): once
 * there are real servers behind tunnels, or narrower links. The setting that has the program leave them to what cuts is
 * published after that is there.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { Method, RealRecord, Slot } from '../../dataplane/layout/layout.gen.ts'
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
    this.#dataplane.cutLarger(this.#tunnels.size > 0)
    const refused = this.#dataplane.cutting?.()?.refused.join('; ') ?? ''
    if (refused !== '' && refused !== this.#told) {
      this.#warn(`Packets that are larger than their path are dropped, not cut: ${refused}`)
    }
    this.#told = refused
  }

  #note(real: number, word: number): void {
    if (((word >>> METHOD_SHIFT) & 0xff) === Method.Tun) this.#tunnels.add(real)
    else this.#tunnels.delete(real)
  }
}
