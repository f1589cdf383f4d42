/**
 * Rates as IPVS estimates them: every two seconds, in integers, the average moves a quarter of the way
 * towards what the last two seconds saw.
 */

import type { Rates } from '../model/counters.ts'
import { NO_RATES } from '../rules/applier.ts'

/** Milliseconds between two steps. */
export const ESTIMATION_PERIOD_MS = 2000

/** Fixed point: conns and packets per second are kept times 2^10, bytes per second times 2^5. */
const SHIFTS = [10, 10, 10, 5, 5] as const
/** Rate of one step: the difference over two seconds in the same fixed point. */
const FACTORS = SHIFTS.map((shift) => 2 ** (shift - 1))
/** conns, in packets, out packets, in bytes, out bytes */
export const ESTIMATES = SHIFTS.length

/** The next average; all whole numbers below 2^53. */
export function nextAverage(average: number, difference: number, factor: number): number {
  // An arithmetic shift by two: rounds towards minus infinity.
  return average + Math.floor((difference * factor - average) / 4)
}

/** The number shown for an average, per second. */
export function shownRate(average: number, index: number): number {
  const one = 2 ** SHIFTS[index]!
  return Math.floor((average + one / 2 - 1) / one)
}

/** Averages of many counted things, by slot. */
export class Averages {
  readonly #values: Float64Array
  /** 1 while some average of the slot is not zero: most are, and cost nothing. */
  readonly #moving: Uint8Array

  constructor(slots: number) {
    this.#values = new Float64Array(slots * ESTIMATES)
    this.#moving = new Uint8Array(slots)
  }

  isMoving(slot: number): boolean {
    return this.#moving[slot] === 1
  }

  /** One step; `differences` holds what was counted since the last, at `from`. */
  step(slot: number, differences: Float64Array, from: number): void {
    const base = slot * ESTIMATES
    let moving = 0
    for (let i = 0; i < ESTIMATES; i++) {
      const next = nextAverage(this.#values[base + i]!, differences[from + i]!, FACTORS[i]!)
      this.#values[base + i] = next
      if (next !== 0) moving = 1
    }
    this.#moving[slot] = moving
  }

  reset(slot: number): void {
    this.#values.fill(0, slot * ESTIMATES, (slot + 1) * ESTIMATES)
    this.#moving[slot] = 0
  }

  rates(slot: number): Rates {
    if (this.#moving[slot] === 0) return NO_RATES
    const at = (i: number): number => shownRate(this.#values[slot * ESTIMATES + i]!, i)
    return { cps: at(0), inPps: at(1), outPps: at(2), inBps: at(3), outBps: at(4) }
  }
}
