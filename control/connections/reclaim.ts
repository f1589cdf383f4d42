/** Which removed real servers may go, once a whole sweep has found no connection of theirs. */

import type { PlanView } from '../plan/draft.ts'
import type { Claim, ServiceHolding } from '../plan/ledger.ts'
import type { Operation } from '../plan/operations.ts'
import { freeReal, type Steps } from '../plan/plan.ts'
import type { SweepReport } from './sweep.ts'

/** Removed real servers keep their index at least this long, as in IPVS's trash. */
const GONE_MS_MIN = 120_000
/** The same when indices run short. */
const GONE_MS_MIN_SHORT = 2_000

/** @param beganMs when the sweep began that `report` is of: what was removed later, it cannot speak for */
export function planExpiry(
  { ledger, quietMs }: Pick<PlanView, 'ledger' | 'quietMs'>,
  report: SweepReport,
  beganMs: number,
  nowMs: number,
): Steps {
  const operations: Operation[] = []
  const claims: Claim[] = []
  const freed = new Map<ServiceHolding, number>()
  const short = ledger.realsFree < ledger.sizes.reals / 16
  const ageMs = short ? GONE_MS_MIN_SHORT : GONE_MS_MIN
  for (const [real, sinceMs] of ledger.goneReals) {
    if (nowMs - sinceMs < ageMs || sinceMs >= Math.min(beganMs, quietMs) || report.references[real] !== 0)
      continue
    if (ledger.isBefore(real)) continue
    const holding = ledger.real(real)?.service
    if (holding !== undefined) freeReal(holding, real, freed, operations, claims)
  }
  return { kind: 'steps', operations, claims, lack: null }
}
