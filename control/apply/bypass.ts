/**
 * What connections have instead of a real server that go on to where they are for (cache_bypass): one record that no
 * service has, with as many connections as there are. Once it was needed it stays: they go on, whatever the setting.
 */
import { RealFlag, RealRecord, Slot } from '../../dataplane/layout/layout.gen.ts'
import { bypassImage } from '../compile/images.ts'
import type { Ledger } from '../plan/ledger.ts'
import { execute, type RuleMaps } from '../plan/operations.ts'

export class Bypass {
  readonly #maps: RuleMaps
  readonly #ledger: Ledger
  readonly #warn: (message: string) => void
  #real: number | null = null
  #told = false

  constructor(maps: RuleMaps, ledger: Ledger, warn: (message: string) => void) {
    this.#maps = maps
    this.#ledger = ledger
    this.#warn = warn
    const { view } = maps.reals
    for (let real = 0; real < maps.reals.entries; real++) {
      const base = real * RealRecord.size
      if (
        RealRecord.getSlot(view, base) === Slot.Live &&
        (RealRecord.getFlags(view, base) & RealFlag.Bypass) !== 0
      )
        this.#real = real
    }
  }

  /** Index of the record, if it is `wanted`; null: it is not, or there is no room for it. */
  real(isWanted: boolean): number | null {
    if (!isWanted) return null
    this.#real ??= this.#make()
    return this.#real
  }

  #make(): number | null {
    const real = this.#ledger.borrowReal()
    if (real !== null) execute(this.#maps, { op: 'fill-real', real, image: bypassImage() })
    else if (!this.#told)
      this.#warn(
        'cache_bypass does nothing: all real servers of the table are in use; start with a larger --real-servers',
      )
    this.#told = real === null
    return real
  }
}
