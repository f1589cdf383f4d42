/**
 * Sections that only a build's own bench can run (daemon, wasm, userspace: there is no one stopwatch for
 * them): both benches in turns, whole sections, rows matched by their names.
 */

import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ReportRow, type ReportSection, type RunReport, runReportSchema } from '../report.ts'
import type { Side } from './rounds.ts'
import type { Samples } from './verdict.ts'

export interface ComparedSamples {
  readonly title: string
  readonly name: string
  readonly unit: string
  readonly samples: Samples | null
  /** Why there are none. */
  readonly why: string | null
}

const key = ({ title, name }: Pick<ReportRow, 'title' | 'name'>): string => JSON.stringify([title, name])

/**
 * Rows of the runs of both sides, in the order of ours. A row has a sample for each pair of runs in which both
 * sides measured it; one that a side never measured is told with what that side said instead.
 */
export function pairRows(
  ours: readonly ReportSection[],
  theirs: readonly ReportSection[],
): ComparedSamples[] {
  const sides = { ours: ours.map(byKey), theirs: theirs.map(byKey) }
  const all = new Map([...ours, ...theirs].flatMap(({ rows }) => rows.map((row) => [key(row), row] as const)))
  return [...all].map(([of, { title, name, unit }]) => {
    const pairs = sides.ours.flatMap((rows, run) => {
      const [a, b] = [rows.get(of), sides.theirs[run]?.get(of)]
      // A row that changed its unit is another one.
      return a === undefined || b === undefined || a.unit !== b.unit ? [] : [{ ours: a, theirs: b }]
    })
    if (pairs.length === 0) {
      const without = sides.ours.some((rows) => rows.has(of)) ? 'the other build' : 'this build'
      const trouble = (without === 'this build' ? ours : theirs).flatMap(({ failed, skipped }) => [
        ...failed,
        ...skipped,
      ])
      const said = trouble.map(({ part, why }) => `${part}: ${why}`)
      const why = [`${without} has no such row`, ...new Set(said)].join('; ')
      return { title, name, unit, samples: null, why }
    }
    const samples = {
      ours: pairs.map((pair) => pair.ours.value),
      theirs: pairs.map((pair) => pair.theirs.value),
    }
    return { title, name, unit, samples, why: null }
  })
}

const byKey = ({ rows }: ReportSection): Map<string, ReportRow> => new Map(rows.map((row) => [key(row), row]))

/** Runs a section by the bench of a tree, to its end; an error when that prints no report. */
export async function runOwnBench(tree: string, section: string): Promise<ReportSection> {
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-against.'))
  const output = join(scratch, 'report.json')
  const file = openSync(output, 'w')
  try {
    const argv = ['--import', import.meta.resolve('tsx'), 'bench/main.ts', '--json', section]
    const child = spawn(process.execPath, argv, { cwd: tree, stdio: ['ignore', file, 2] })
    const stop = (): void => void child.kill('SIGTERM')
    process.once('SIGINT', stop)
    process.once('SIGTERM', stop)
    // Its status says whether all parts could be measured; so does the report.
    await new Promise((resolve, reject) => child.once('error', reject).once('exit', resolve))
    process.off('SIGINT', stop)
    process.off('SIGTERM', stop)
    return sectionOf(readFileSync(output, 'utf8'), section)
  } finally {
    closeSync(file)
    rmSync(scratch, { recursive: true })
  }
}

function sectionOf(text: string, section: string): ReportSection {
  let report: RunReport
  try {
    report = runReportSchema.parse(JSON.parse(text))
  } catch {
    throw new Error(`its bench printed no report of ${section}: ${text.slice(0, 200).trim() || 'nothing'}`)
  }
  const found = report.sections.find((one) => one.section === section)
  if (found === undefined) throw new Error(`its bench has no section ${section}`)
  return found
}

/** One section in turns; what fails on one side is said of it, and nothing is compared then. */
export async function sectionInTurns(
  trees: Readonly<Record<Side, string>>,
  section: string,
  order: readonly Side[],
  progress: (text: string) => void,
): Promise<ComparedSamples[]> {
  const runs: Record<Side, ReportSection[]> = { ours: [], theirs: [] }
  for (const [at, side] of order.entries()) {
    progress(`${section}, run ${at + 1} of ${order.length}`)
    try {
      runs[side].push(await runOwnBench(trees[side], section))
    } catch (error) {
      const whose = side === 'ours' ? 'this build' : 'the other build'
      throw new Error(`${whose}: ${error instanceof Error ? error.message : error}`, { cause: error })
    }
  }
  return pairRows(runs.ours, runs.theirs)
}
