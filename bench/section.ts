/** What a section of the bench reports, and to whom. */
import type { Interval } from './statistics.ts'

/** What a row ought to reach, as a bound on its ratio or on its value. */
export interface Goal {
  readonly of: 'ratio' | 'value'
  readonly bound: 'most' | 'least'
  readonly limit: number
}

/** One measured number. */
export interface Row {
  readonly name: string
  /** Whole; median over the rounds. */
  readonly value: number
  /** `ns/packet`, `packets/s`, `ms`, ... */
  readonly unit: string
  /** The best round: what the machine can do when nobody disturbs it. */
  readonly best?: number
  /** Measured in the same rounds, alternating. */
  readonly reference?: { readonly name: string; readonly value: number }
  /** Median over the rounds of value / reference. */
  readonly ratio?: number
  /** Where the medians lie: a goal within is neither met nor missed. */
  readonly valueInterval?: Interval
  readonly ratioInterval?: Interval
  /** What the runs of the stopwatch alone differ by, in the row's unit: no number below it means anything. */
  readonly noise?: number
  readonly goal?: Goal
  readonly note?: string
}

export interface Reporter {
  /** Starts a block of rows. */
  title(text: string): void
  row(row: Row): void
  /** A part that cannot be measured here, and why. */
  skip(part: string, why: string): void
  /** A measurement whose packets did not fare as expected: an error, not a number. */
  fail(part: string, why: string): void
}

export interface RunOptions {
  /** Fewer rounds and cases, for a look in between: good for large differences only. */
  readonly quick: boolean
}

export interface Section {
  readonly name: string
  readonly about: string
  /** The section is ended when it takes longer. */
  readonly secondsMax: number
  /** Not part of everything: it takes long, or more than a bench should take for granted. */
  readonly onlyByName?: boolean
  run(report: Reporter, options: RunOptions): Promise<void>
}

/** Thrown by a section, or a part of it, that needs something this machine has not. */
export class Skip extends Error {
  override readonly name = 'Skip'
}

/** Between the process that measures and the one that prints. */
export type Message =
  | { readonly kind: 'title'; readonly text: string }
  | { readonly kind: 'row'; readonly row: Row }
  | { readonly kind: 'skip'; readonly part: string; readonly why: string }
  | { readonly kind: 'fail'; readonly part: string; readonly why: string }

/** A reporter whose reports go elsewhere as messages. */
export function sendingReporter(send: (message: Message) => void): Reporter {
  return {
    title: (text) => send({ kind: 'title', text }),
    row: (row) => send({ kind: 'row', row }),
    skip: (part, why) => send({ kind: 'skip', part, why }),
    fail: (part, why) => send({ kind: 'fail', part, why }),
  }
}

/** The other way round. */
export function forward(report: Reporter, message: Message): void {
  if (message.kind === 'title') report.title(message.text)
  else if (message.kind === 'row') report.row(message.row)
  else report[message.kind](message.part, message.why)
}

/** Which of a row's numbers the stopwatch cannot tell from nothing; null: all of them mean something. */
export function belowNoise({ noise, value, reference }: Row): 'value' | 'reference' | null {
  if (noise === undefined) return null
  if (value <= noise) return 'value'
  return reference !== undefined && reference.value <= noise ? 'reference' : null
}

export type Met = 'meets' | 'misses' | 'too-noisy'

/** Whether a row is as good as it ought to be; null without a goal, or without the number that it is about. */
export function met(row: Row): Met | null {
  const { goal } = row
  if (goal === undefined) return null
  const [number, interval] =
    goal.of === 'ratio' ? [row.ratio, row.ratioInterval] : [row.value, row.valueInterval]
  if (number === undefined) return null
  if (goal.of === 'ratio' && belowNoise(row) !== null) return 'too-noisy'
  if (interval !== undefined && interval.low < goal.limit && goal.limit < interval.high) return 'too-noisy'
  return (goal.bound === 'most' ? number <= goal.limit : number >= goal.limit) ? 'meets' : 'misses'
}

/** Runs one part of a section: what it lacks or what goes wrong costs the section only this part. */
export async function part(report: Reporter, name: string, run: () => void | Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    if (error instanceof Skip) report.skip(name, why)
    else report.fail(name, why)
  }
}
