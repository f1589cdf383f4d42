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

/** Between what bounds a number is, in all probability. */
export interface Interval {
  readonly low: number
  readonly high: number
}

/** Of the intervals here: one row of a hundred that has not moved may seem to have. */
export const CONFIDENCE = 0.99

/**
 * Where the median of what these values are samples of lies: between two of them that stand equally far from
 * both ends of their order (the sign test turned round), whatever the values' distribution. Noise of a busy
 * machine has no distribution that could be assumed.
 * @returns null when there are too few values for that confidence: fewer than 8 for 0.99
 */
export function medianInterval(values: readonly number[], confidence = CONFIDENCE): Interval | null {
  const count = values.length
  // The chance that fewer than `rank` of the values lie below the median: that of as many heads of a coin.
  let chance = 0.5 ** count
  let below = 0
  let rank = 0
  while (2 * (below + chance) <= 1 - confidence) {
    below += chance
    rank++
    chance *= (count - rank + 1) / rank
  }
  if (rank === 0) return null
  const sorted = [...values].sort((a, b) => a - b)
  return { low: sorted[rank - 1]!, high: sorted[count - rank]! }
}

/** How much the least of some runs is worth: what those of every second run and of the others differ by. */
export function noiseOfLeast(runs: readonly number[]): number {
  const least = (parity: number): number => Math.min(...runs.filter((_, at) => at % 2 === parity))
  return Math.abs(least(0) - least(1))
}

/** How far a run is from the one before, at the median: what two runs of the same differ by. */
export function noiseOfRuns(runs: readonly number[]): number {
  return median(runs.slice(1).map((run, at) => Math.abs(run - runs[at]!)))
}

export interface Comparison {
  /** Medians. */
  readonly value: number
  readonly reference: number
  readonly ratio: number
  /** Of the ratio; null when there were too few rounds to say. */
  readonly interval: Interval | null
  readonly least: number
  readonly most: number
}

/** Of pairs measured right after one another. */
export function compare(values: readonly number[], references: readonly number[]): Comparison {
  const ratios = values.map((value, round) => value / references[round]!)
  return {
    value: median(values),
    reference: median(references),
    ratio: median(ratios),
    interval: medianInterval(ratios),
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
