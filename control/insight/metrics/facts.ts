/** What the collector asks of a running daemon. */

import type { CheckedService } from '../../health/health.ts'
import type { Counters, Rates } from '../../model/counters.ts'
import type { ServiceTally } from '../../rules/applier.ts'
import type { ServiceEntry } from '../../rules/entries.ts'
import type { StatusFacts } from '../status.ts'
import type { Pushed } from './otlp.ts'

export interface MetricFacts extends StatusFacts {
  readonly counted: () => Iterable<{ readonly entry: ServiceEntry; readonly tally: ServiceTally }>
  /** Of all services together. */
  readonly totals: Counters
  readonly totalRates: Rates
  readonly verdicts: ReadonlyMap<string, bigint>
  readonly checked: () => Iterable<CheckedService>
  /** Of one service, by identity; null: it is not checked. */
  readonly checkedOf: (service: string) => CheckedService | null
  /** null: metrics are pushed to nobody. */
  readonly pushed: Pushed | null
}
