/** Rounds on a machine that other programs use too: medians, and ratios only within a round. */

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** @param share 0 to 1 */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError('No values to take a quantile of')
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!
}

export interface Comparison {
  /** Medians. */
  readonly value: number
  readonly reference: number
  readonly ratio: number
  readonly least: number
  readonly most: number
}

/** Of pairs measured right after one another. */
export function compare(values: readonly number[], references: readonly number[]): Comparison {
  return {
    value: median(values),
    reference: median(references),
    ratio: median(values.map((value, round) => value / references[round]!)),
    least: Math.min(...values),
    most: Math.max(...values),
  }
}

/**
 * Runs every contender once per round, in turns, so that whatever slows the machine down for a while
 * slows all of them down.
 * @returns the results of each contender, one per round
 */
export async function alternate<Name extends string>(
  rounds: number,
  contenders: Readonly<Record<Name, () => number | Promise<number>>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contenders) as Name[]
  const results = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>
  for (let round = 0; round < rounds; round++) {
    for (const name of names) results[name].push(await contenders[name]())
  }
  return results
}
