/**
 * The estimator over the maps: reads all counters every two seconds, in slices, and moves the averages of
 * real servers, services and the whole.
 */

import type { Rates } from '../model/counters.ts'
import type { Ledger } from '../plan/ledger.ts'
import type { RuleMaps } from '../plan/operations.ts'
import { COUNTER_FIELDS, COUNTER_WORDS64, COUNTERS } from './counters.ts'
import { Averages } from './estimator.ts'

const TWO_32 = 2 ** 32
/** Low halves of three counters, in words of a record. */
const [CONNS, IN_PACKETS, OUT_PACKETS] = COUNTER_FIELDS.map((field) => field * 2) as [number, number, number]
/** Real servers per slice: well below a millisecond. */
const SLICE = 4096

export class Estimation {
  readonly #maps: RuleMaps
  readonly #ledger: Ledger
  readonly #last: Float64Array
  /** Low words of the packet and connection counters, summed: equal means that nothing was counted. */
  readonly #signature: Uint32Array
  readonly #serviceDifferences: Float64Array
  readonly #totalDifferences = new Float64Array(COUNTERS)
  readonly #scratch = new Float64Array(COUNTERS)
  readonly reals: Averages
  readonly services: Averages
  readonly #total = new Averages(1)
  /** Real servers the next slice starts at; indices ever used end at `#end`. */
  #next = 0
  #end = 0

  constructor(maps: RuleMaps, ledger: Ledger) {
    this.#maps = maps
    this.#ledger = ledger
    const { reals, services } = ledger.sizes
    this.#last = new Float64Array(reals * COUNTERS)
    this.#signature = new Uint32Array(reals)
    this.#serviceDifferences = new Float64Array(services * COUNTERS)
    this.reals = new Averages(reals)
    this.services = new Averages(services)
  }

  get total(): Rates {
    return this.#total.rates(0)
  }

  resetTotal(): void {
    this.#total.reset(0)
  }

  /** A real server's counters start again, at zero (a new one) or at what they are (adoption, -Z). */
  restart(real: number): void {
    this.#end = Math.max(this.#end, real + 1)
    for (let i = 0; i < COUNTERS; i++) this.#last[real * COUNTERS + i] = this.#read(real, i)
    this.#signature[real] = this.#sign(real)
    this.reals.reset(real)
  }

  #sign(real: number): number {
    const { u32 } = this.#maps.counters
    const { cpus } = this.#maps
    let sum = 0
    for (let cpu = 0, at = real * cpus * COUNTER_WORDS64 * 2; cpu < cpus; cpu++, at += COUNTER_WORDS64 * 2) {
      sum += u32[at + CONNS]! + u32[at + IN_PACKETS]! + u32[at + OUT_PACKETS]!
    }
    return sum >>> 0
  }

  /** Sum over the CPUs, exact below 2^53. */
  #read(real: number, counter: number): number {
    const { u32 } = this.#maps.counters
    const { cpus } = this.#maps
    let sum = 0
    for (let cpu = 0; cpu < cpus; cpu++) {
      const at = ((real * cpus + cpu) * COUNTER_WORDS64 + COUNTER_FIELDS[counter]!) * 2
      let high = u32[at + 1]!
      let low = u32[at]!
      // The halves are read one by one: again if the low one has wrapped meanwhile.
      while (high !== u32[at + 1]!) {
        high = u32[at + 1]!
        low = u32[at]!
      }
      sum += high * TWO_32 + low
    }
    return sum
  }

  /** Does one slice of a step; true when the step is complete. */
  slice(): boolean {
    const stop = Math.min(this.#next + SLICE, this.#end)
    for (let real = this.#next; real < stop; real++) this.#estimate(real)
    this.#next = stop
    if (stop < this.#end) return false
    this.#next = 0
    this.#finish()
    return true
  }

  #estimate(real: number): void {
    const signature = this.#sign(real)
    if (signature === this.#signature[real] && !this.reals.isMoving(real)) return
    const holding = this.#ledger.real(real)
    if (holding === undefined) return
    this.#signature[real] = signature
    const service = holding.service.slot * COUNTERS
    for (let i = 0; i < COUNTERS; i++) {
      const now = this.#read(real, i)
      const at = real * COUNTERS + i
      const difference = Math.max(0, now - this.#last[at]!)
      this.#last[at] = now
      this.#scratch[i] = difference
      if (difference === 0) continue
      this.#serviceDifferences[service + i]! += difference
      this.#totalDifferences[i]! += difference
    }
    this.reals.step(real, this.#scratch, 0)
  }

  #finish(): void {
    for (const { slot } of this.#ledger.holdings()) {
      const at = slot * COUNTERS
      if (this.#serviceDifferences.subarray(at, at + COUNTERS).every((difference) => difference === 0)) {
        if (!this.services.isMoving(slot)) continue
      }
      this.services.step(slot, this.#serviceDifferences, at)
    }
    this.#total.step(0, this.#totalDifferences, 0)
    this.#serviceDifferences.fill(0)
    this.#totalDifferences.fill(0)
  }

  /** A whole step at once. */
  step(): void {
    while (!this.slice());
  }
}
