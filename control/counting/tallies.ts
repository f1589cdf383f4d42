/** What clients see of counters, rates and connections: by identity, from where the maps hold them. */
import { LiveRecord } from '../../dataplane/layout/layout.gen.ts'
import type { Counters, Rates } from '../model/counters.ts'
import type { Ledger, ServiceHolding } from '../plan/ledger.ts'
import type { RuleMaps } from '../plan/operations.ts'
import { NO_TALLY, type ServerTally, type ServiceTally, type Tally } from '../rules/applier.ts'
import type { ServiceEntry } from '../rules/entries.ts'
import type { CounterBook } from './counters.ts'
import type { Estimation } from './estimation.ts'

const LIVE_WORDS = LiveRecord.size / 4

export class Tallies {
  readonly #maps: RuleMaps
  readonly #ledger: Ledger
  readonly #book: CounterBook
  readonly #estimation: Estimation

  constructor(maps: RuleMaps, ledger: Ledger, book: CounterBook, estimation: Estimation) {
    this.#maps = maps
    this.#ledger = ledger
    this.#book = book
    this.#estimation = estimation
  }

  service(key: string): ServiceTally {
    const holding = this.#ledger.serviceOfKey(key)
    if (holding === undefined) return NO_TALLY
    const book = this.#book
    const { services } = this.#estimation
    return {
      get counters() {
        return book.service(holding)
      },
      get rates() {
        return services.rates(holding.slot)
      },
      server: (server) => this.#server(holding, server),
    }
  }

  #server(holding: ServiceHolding, key: string): ServerTally {
    const real = holding.reals.get(key)
    if (real === undefined) return NO_TALLY
    return new RealTally(real, this.#maps.live.u32, this.#book, this.#estimation)
  }

  totals(): Tally {
    const book = this.#book
    return {
      // The sum of all real servers on all CPUs, for those who ask.
      get counters() {
        return book.total()
      },
      rates: this.#estimation.total,
    }
  }

  /** From now on everything counts from zero. */
  zeroAll(services: Iterable<ServiceEntry>): void {
    for (const service of services) this.zero(service)
    this.#book.rebaseTotal()
    this.#estimation.resetTotal()
  }

  /** From now on the service and its real servers count from zero; true if they had counted anything. */
  zero(service: ServiceEntry): boolean {
    const holding = this.#ledger.serviceOfKey(service.key)
    if (holding === undefined) return false
    const reals = service.servers.flatMap(({ key }) => holding.reals.get(key) ?? [])
    const counted = this.#book.rebaseService(holding, reals)
    this.#estimation.services.reset(holding.slot)
    for (const real of reals) this.#estimation.restart(real)
    return counted
  }
}

/**
 * What is counted of one real server. Counters are read, from the rows of all CPUs, when somebody looks at them: a
 * listing of a hundred thousand shows connections alone.
 */
class RealTally implements ServerTally {
  readonly activeConns: number
  readonly inactiveConns: number
  readonly persistentConns: number
  readonly #real: number
  readonly #book: CounterBook
  readonly #estimation: Estimation
  #counters: Counters | null = null

  constructor(real: number, live: Uint32Array, book: CounterBook, estimation: Estimation) {
    const base = real * LIVE_WORDS
    this.activeConns = counted(live[base + LiveRecord.offsets.active / 4]!)
    this.inactiveConns = counted(live[base + LiveRecord.offsets.inactive / 4]!)
    this.persistentConns = live[base + LiveRecord.offsets.persistent / 4]!
    this.#real = real
    this.#book = book
    this.#estimation = estimation
  }

  get counters(): Counters {
    this.#counters ??= this.#book.real(this.#real)
    return this.#counters
  }

  get rates(): Rates {
    return this.#estimation.reals.rates(this.#real)
  }
}

/** For nanoseconds a count may be below zero: a connection ends on one CPU before another has counted it. */
function counted(count: number): number {
  return Math.max(0, count | 0)
}
