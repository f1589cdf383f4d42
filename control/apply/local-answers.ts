/**
 * Real servers that are this host: what they answer comes by no interface, and has to be shown to the packet
 * program where it leaves (`Dataplane.seeAnswers`). That is so before the first of them is in force, and until
 * the last has gone with its connections; a director without any has nothing of it.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { RealFlag, RealRecord, Setting, SettingsRecord, Slot } from '../../dataplane/layout/layout.gen.ts'
import { REAL_WORDS } from '../compile/images.ts'
import type { Operation } from '../plan/operations.ts'

const FLAGS = RealRecord.offsets.flags / 4
const SLOT = RealRecord.offsets.slot / 4

export class LocalAnswers {
  readonly #dataplane: Dataplane
  readonly #warn: (message: string) => void
  /** Indices of real servers that are this host. */
  readonly #reals = new Set<number>()
  /** What was last told of: the same is not told again. */
  #told = ''

  constructor(dataplane: Dataplane, warn: (message: string) => void) {
    this.#dataplane = dataplane
    this.#warn = warn
  }

  /** Whether the program sees what they send. */
  get areSeen(): boolean {
    return this.#reals.size > 0 && this.#dataplane.answers?.()?.seen === true
  }

  /** One that an earlier director has left. */
  adopt(real: number): void {
    const { u32 } = this.#dataplane.map('reals')
    const base = real * REAL_WORDS
    if (u32[base + SLOT] !== Slot.Free && (u32[base + FLAGS]! & RealFlag.Local) !== 0) this.#add(real)
  }

  /** To be called before the step is done. */
  before(operation: Operation): void {
    if (operation.op !== 'fill-real' && operation.op !== 'revise-real') return
    if ((operation.image[FLAGS]! & RealFlag.Local) !== 0) this.#add(operation.real)
  }

  /** To be called when it is. */
  after(operation: Operation): void {
    if (operation.op === 'free-real') this.#reals.delete(operation.real)
    else if (operation.op === 'fill-real' || operation.op === 'revise-real') {
      if ((operation.image[FLAGS]! & RealFlag.Local) === 0) this.#reals.delete(operation.real)
    }
  }

  /** When the settings in the maps say whether answers are seen: nobody relies on it any more. */
  published(): void {
    if (this.#reals.size === 0 && this.#dataplane.answers?.() != null) this.#dataplane.seeAnswers?.(false)
  }

  #add(real: number): void {
    const isFirst = this.#reals.size === 0
    this.#reals.add(real)
    if (!isFirst || this.#dataplane.seeAnswers === undefined) return
    this.#dataplane.seeAnswers(true)
    this.#tell(this.#dataplane.answers?.()?.refused ?? [])
    if (!this.areSeen) return
    const { u32 } = this.#dataplane.map('settings')
    // The program translates what goes to them from now on.
    Atomics.or(u32, SettingsRecord.offsets.flags / 4, Setting.Answers)
  }

  #tell(refused: readonly string[]): void {
    const text = refused.join('; ')
    if (text !== '' && text !== this.#told) {
      this.#warn(`Answers of real servers on this host are not seen: ${text}`)
    }
    this.#told = text
  }
}
