/** Rows of several contenders beside one of them, measured in the same rounds. */
import type { Goal, Reporter } from './section.ts'
import { compare } from './statistics.ts'

interface Named {
  readonly name: string
}

export function goals<Contender extends Named>(
  ...pairs: readonly (readonly [Contender | null, Goal])[]
): ReadonlyMap<Contender, Goal> {
  return new Map(pairs.flatMap(([contender, goal]) => (contender === null ? [] : [[contender, goal]])))
}

export function ratios<Contender extends Named>(
  report: Reporter,
  results: ReadonlyMap<Contender, readonly number[]>,
  reference: Contender,
  order: readonly (Contender | null)[],
  unit: string,
  goals: ReadonlyMap<Contender, Goal>,
): void {
  for (const contender of order) {
    if (contender === null) continue
    const values = results.get(contender)!
    const found = compare(values, results.get(reference)!)
    const goal = goals.get(contender)
    report.row({
      name: contender.name,
      unit,
      value: found.value,
      best: found.most,
      ...(contender === reference
        ? {}
        : { reference: { name: reference.name, value: found.reference }, ratio: found.ratio }),
      ...(contender === reference || found.interval === null ? {} : { ratioInterval: found.interval }),
      ...(goal === undefined ? {} : { goal }),
    })
  }
}
