/** What a section of the bench reports, and to whom. */

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

/** Whether a row is as good as it ought to be; null without a goal. */
export function met(row: Row): boolean | null {
  if (row.goal === undefined) return null
  const number = row.goal.of === 'ratio' ? row.ratio : row.value
  if (number === undefined) return null
  return row.goal.bound === 'most' ? number <= row.goal.limit : number >= row.goal.limit
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
