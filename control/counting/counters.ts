/**
 * Counters as clients see them. The maps count per real server and CPU, ever upwards; a service's numbers
 * are the sum of its real servers', plus what freed real servers left behind (the fold), less what they
 * were at the last `-Z` or when the service was made (the base).
 */
import { CountersRecord } from '../../dataplane/layout/layout.gen.ts'
import type { Counters } from '../model/counters.ts'
import type { Ledger, ServiceHolding } from '../plan/ledger.ts'
import type { RuleMaps } from '../plan/operations.ts'
import { NO_COUNTERS } from '../rules/applier.ts'

/** The five counters in the order of `COUNTER_NAMES`. */
export type Sums = readonly [bigint, bigint, bigint, bigint, bigint]

export const COUNTER_NAMES = ['conns', 'inPackets', 'outPackets', 'inBytes', 'outBytes'] as const
export const COUNTERS = COUNTER_NAMES.length

/** 64-bit words of each counter in a record. */
export const COUNTER_FIELDS: readonly number[] = COUNTER_NAMES.map((name) => CountersRecord.offsets[name] / 8)
export const COUNTER_WORDS64 = CountersRecord.size / 8

const TWO_32 = 2 ** 32
/** Whole numbers of a double are exact below it. */
const EXACT_BELOW = 2 ** 53

const ZERO: Sums = [0n, 0n, 0n, 0n, 0n]

function plus(a: Sums, b: Sums): Sums {
  return [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4]]
}

function less(a: Sums, b: Sums): Sums {
  return [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4]]
}

/** Never below zero: a base may be from before a crash that lost counts. */
function toCounters(sums: Sums): Counters {
  if (sums === ZERO) return NO_COUNTERS
  const [conns, inPackets, outPackets, inBytes, outBytes] = sums.map((sum) => (sum < 0n ? 0n : sum)) as [
    bigint,
    bigint,
    bigint,
    bigint,
    bigint,
  ]
  return { conns, inPackets, outPackets, inBytes, outBytes }
}

/**
 * Sums of many records without a bigint for each: low and high halves apart, each exact for two million
 * records.
 */
class Halves {
  readonly #low = new Float64Array(COUNTERS)
  readonly #high = new Float64Array(COUNTERS)

  cleared(): this {
    this.#low.fill(0)
    this.#high.fill(0)
    return this
  }

  add({ counters: { u32 }, cpus }: RuleMaps, real: number): void {
    for (let cpu = 0; cpu < cpus; cpu++) {
      const base = (real * cpus + cpu) * COUNTER_WORDS64
      for (let i = 0; i < COUNTERS; i++) {
        const word = (base + COUNTER_FIELDS[i]!) * 2
        let high = u32[word + 1]!
        let low = u32[word]!
        // The halves are read one by one: again if the low one has wrapped meanwhile.
        while (high !== u32[word + 1]!) {
          high = u32[word + 1]!
          low = u32[word]!
        }
        this.#low[i]! += low
        this.#high[i]! += high
      }
    }
  }

  sums(): Sums {
    const low = this.#low
    const high = this.#high
    let any = 0
    for (let i = 0; i < COUNTERS; i++) any += low[i]! + high[i]!
    // Most are zero: spare the bigints.
    if (any === 0) return ZERO
    const at = (i: number): bigint => {
      const whole = high[i]! * TWO_32 + low[i]!
      return whole < EXACT_BELOW ? BigInt(whole) : (BigInt(high[i]!) << 32n) + BigInt(low[i]!)
    }
    return [at(0), at(1), at(2), at(3), at(4)]
  }
}

/** What the state file keeps, by slot; numbers as decimal text. */
export interface CounterState {
  readonly reals: [number, string[]][]
  readonly services: [number, string[]][]
  readonly total: string[]
}

export class CounterBook {
  readonly #maps: RuleMaps
  readonly #ledger: Ledger
  /** Subtracted, by index of the real server. */
  readonly #realBase = new Map<number, Sums>()
  /** Added, by slot of the service: fold less base. */
  readonly #serviceShift = new Map<number, Sums>()
  #totalShift: Sums = ZERO
  readonly #halves = new Halves()

  constructor(maps: RuleMaps, ledger: Ledger) {
    this.#maps = maps
    this.#ledger = ledger
  }

  /** What the maps hold for a real server. */
  #read(real: number): Sums {
    const halves = this.#halves.cleared()
    halves.add(this.#maps, real)
    return halves.sums()
  }

  real(real: number): Counters {
    const base = this.#realBase.get(real)
    const sums = this.#read(real)
    return toCounters(base === undefined ? sums : less(sums, base))
  }

  #serviceSum(holding: ServiceHolding): Sums {
    const halves = this.#halves.cleared()
    for (const real of holding.reals.values()) halves.add(this.#maps, real)
    return halves.sums()
  }

  service(holding: ServiceHolding): Counters {
    const shift = this.#serviceShift.get(holding.slot)
    const sums = this.#serviceSum(holding)
    return toCounters(shift === undefined ? sums : plus(sums, shift))
  }

  #allSum(): Sums {
    const halves = this.#halves.cleared()
    for (const holding of this.#ledger.holdings()) {
      for (const real of holding.reals.values()) halves.add(this.#maps, real)
    }
    return halves.sums()
  }

  total(): Counters {
    return toCounters(plus(this.#allSum(), this.#totalShift))
  }

  /**
   * From now on the service counts from zero; its real servers too if they are named.
   * @returns whether anything had been counted
   */
  rebaseService(holding: ServiceHolding, reals: Iterable<number> = []): boolean {
    const sums = this.#serviceSum(holding)
    if (sums === ZERO) this.#serviceShift.delete(holding.slot)
    else this.#serviceShift.set(holding.slot, less(ZERO, sums))
    for (const real of reals) {
      const read = this.#read(real)
      if (read === ZERO) this.#realBase.delete(real)
      else this.#realBase.set(real, read)
    }
    return sums !== ZERO
  }

  rebaseTotal(): void {
    this.#totalShift = less(ZERO, this.#allSum())
  }

  /** A real server's index is about to be freed: its service keeps what it counted. True if it had any. */
  fold(real: number): boolean {
    const holding = this.#ledger.real(real)
    this.#realBase.delete(real)
    const sums = this.#read(real)
    if (holding === undefined || sums === ZERO) return false
    const { slot } = holding.service
    this.#serviceShift.set(slot, plus(this.#serviceShift.get(slot) ?? ZERO, sums))
    this.#totalShift = plus(this.#totalShift, sums)
    return true
  }

  /** The slot of a service is about to be freed. */
  forget(slot: number): void {
    this.#serviceShift.delete(slot)
  }

  state(): CounterState {
    const rows = (map: ReadonlyMap<number, Sums>) =>
      Array.from(map, ([slot, sums]): [number, string[]] => [slot, sums.map(String)])
    return {
      reals: rows(this.#realBase),
      services: rows(this.#serviceShift),
      total: this.#totalShift.map(String),
    }
  }

  restore(state: CounterState): void {
    for (const [real, texts] of state.reals) this.#realBase.set(real, parse(texts))
    for (const [slot, texts] of state.services) this.#serviceShift.set(slot, parse(texts))
    this.#totalShift = parse(state.total)
  }
}

function parse(texts: readonly string[]): Sums {
  const at = (i: number): bigint => BigInt(texts[i] ?? '0')
  return [at(0), at(1), at(2), at(3), at(4)]
}
