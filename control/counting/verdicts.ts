import type { Dataplane } from '../../dataplane/dataplane.ts'
import { PM_VERDICT_MAX, verdictNames } from '../../dataplane/layout/layout.gen.ts'

/** Packets of one verdict, all CPUs together. */
export function countVerdict(dataplane: Dataplane, verdict: number): bigint {
  const { u64 } = dataplane.map('verdicts')
  let sum = 0n
  for (let cpu = 0; cpu < dataplane.sizes.cpus; cpu++) sum += u64[cpu * PM_VERDICT_MAX + verdict]!
  return sum
}

/** Packets by verdict, all CPUs together, in the order of the numbers; those that never occurred left out. */
export function readVerdicts(dataplane: Dataplane): Map<string, bigint> {
  const totals = new Map<string, bigint>()
  for (let verdict = 0; verdict < PM_VERDICT_MAX; verdict++) {
    const sum = countVerdict(dataplane, verdict)
    if (sum > 0n) totals.set(verdictNames[verdict] ?? `verdict_${verdict}`, sum)
  }
  return totals
}
