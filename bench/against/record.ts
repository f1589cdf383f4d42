/**
 * The record of comparisons: a line of JSON for each, in the order they were made, so that a row's history is
 * read with `grep` and `jq`, and two branches that add to it conflict in one place only.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { z } from 'zod'
import { type ComparisonReport, machineSchema } from '../report.ts'
import { JUDGEMENTS } from './verdict.ts'

const recordSchema = z.object({
  date: z.string(),
  /** What was measured, and with what it was compared. */
  commit: z.string(),
  against: z.string(),
  machine: machineSchema.pick({ cpu: true, cpus: true, kernel: true, load: true }),
  quick: z.boolean(),
  /** By section, title and name: the ratio, its interval, what that says. */
  rows: z.record(
    z.string(),
    z.object({
      ratio: z.number(),
      interval: z.tuple([z.number(), z.number()]).nullable(),
      judgement: z.enum(JUDGEMENTS),
    }),
  ),
})
export type ComparisonRecord = z.infer<typeof recordSchema>

export function recordOf({ machine, against, quick, rows }: ComparisonReport): ComparisonRecord {
  const { cpu, cpus, kernel, load, commit, date } = machine
  const measured = rows.flatMap(({ section, title, name, ratio, interval, judgement }) => {
    if (ratio === undefined) return []
    const bounds: [number, number] | null = interval === undefined ? null : [interval.low, interval.high]
    const label = [section, title, name].filter((part) => part !== '').join(' / ')
    return [[label, { ratio, interval: bounds, judgement }] as const]
  })
  return {
    date,
    commit,
    against: against.commit,
    machine: { cpu, cpus, kernel, load },
    quick,
    rows: Object.fromEntries(measured),
  }
}

export function appendRecord(file: string, record: ComparisonRecord): void {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  // Somebody's editor may have taken the end of the last line away.
  const apart = text === '' || text.endsWith('\n') ? '' : '\n'
  appendFileSync(file, `${apart}${JSON.stringify(record)}\n`)
}

/** All of them; throws on a line that is none, with its number. */
export function readRecord(file: string): ComparisonRecord[] {
  const lines = readFileSync(file, 'utf8').split('\n')
  return lines.flatMap((line, at) => {
    if (line.trim() === '') return []
    try {
      return [recordSchema.parse(JSON.parse(line))]
    } catch (cause) {
      throw new Error(`${file}:${at + 1} is no record of a comparison: ${line.slice(0, 80)}`, { cause })
    }
  })
}
