/** What a row of ratios says: it moved, it did not, or nobody can tell. */
import { type Interval, median, medianInterval } from '../statistics.ts'

/**
 * `below-noise`: too cheap for the stopwatch, whose own runs differ by as much. `lacking`: one of both builds
 * has no such row.
 */
export const JUDGEMENTS = ['less', 'more', 'same', 'too-noisy', 'below-noise', 'lacking'] as const
export type Judgement = (typeof JUDGEMENTS)[number]

export interface Tolerance {
  /** The least that is called a move: two loads of one program differ by as much, by where they lie. */
  readonly moved: number
  /** An interval no wider than this on either side of 1 says that nothing has moved. */
  readonly same: number
}

/** Where each sample is a load of its own, or a run of a whole section. */
export const FINE: Tolerance = { moved: 0.015, same: 0.03 }
/** Where samples are rounds of few loads: what a load has by luck, all of its rounds have. */
export const COARSE: Tolerance = { moved: 0.1, same: 0.1 }

export interface Judged {
  /** Medians: of this build, of the other one. */
  readonly ours: number
  readonly theirs: number
  /** Median of ours / theirs over the rounds. */
  readonly ratio: number
  readonly interval: Interval | null
  readonly rounds: number
  readonly judgement: Exclude<Judgement, 'lacking'>
}

export interface Samples {
  /** One number per round; both of a round measured right after one another. */
  readonly ours: readonly number[]
  readonly theirs: readonly number[]
  /** What the stopwatch's own runs differ by, in the rows' unit. */
  readonly noise?: readonly number[]
}

export function judge({ ours, theirs, noise }: Samples, tolerance = FINE): Judged {
  if (ours.length !== theirs.length || ours.length === 0) {
    throw new RangeError(`Cannot compare ${ours.length} rounds with ${theirs.length}`)
  }
  const values = { ours: median(ours), theirs: median(theirs) }
  const ratios = ours.map((value, round) => value / theirs[round]!)
  const found = { ...values, ratio: median(ratios), rounds: ours.length }
  // A difference of two numbers that are as small as their error has no ratio worth the name.
  if (noise !== undefined && Math.max(values.ours, values.theirs) <= median(noise)) {
    return { ...found, interval: null, judgement: 'below-noise' }
  }
  const interval = medianInterval(ratios)
  return { ...found, interval, judgement: judgementOf(found.ratio, interval, tolerance) }
}

function judgementOf(
  ratio: number,
  interval: Interval | null,
  { moved, same }: Tolerance,
): Judged['judgement'] {
  if (interval === null || !(interval.low > 0)) return 'too-noisy'
  if (interval.high < 1 && ratio <= 1 / (1 + moved)) return 'less'
  if (interval.low > 1 && ratio >= 1 + moved) return 'more'
  return interval.low >= 1 / (1 + same) && interval.high <= 1 + same ? 'same' : 'too-noisy'
}

/** Of rates (`packets/s`, `Mbit/s`) more is better; of all others, times and sizes, less is. */
const isRate = (unit: string): boolean => unit.endsWith('/s')

/** Whether a move is good or bad for who pays; null when there was none that could be told. */
export function forTheBetter(judgement: Judgement, unit: string): boolean | null {
  if (judgement !== 'less' && judgement !== 'more') return null
  return (judgement === 'more') === isRate(unit)
}
