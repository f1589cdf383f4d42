/** `--against`: this build and another commit's, in turns, and what moved. */
import { packageRoot } from '../../dataplane/assets.ts'
import { PROGRAM } from '../command-line.ts'
import { machine } from '../machine.ts'
import { comparedLine } from '../print.ts'
import { type ComparedRow, type ComparisonReport, REPORT_VERSION, rounded } from '../report.ts'
import { buildHere, type Checkout, checkOut, commitOf } from './checkout.ts'
import { type Measured, ProgramBench } from './program.ts'
import { turns } from './rounds.ts'
import { type ComparedSamples, sectionInTurns } from './sections.ts'
import { COARSE, FINE, forTheBetter, type Judged, judge, type Tolerance } from './verdict.ts'

/** Runs of a whole section on each side: as many as an interval takes, which is eight. */
const SECTION_PAIRS = 8

export interface Wanted {
  readonly revision: string
  readonly quick: boolean
  /** `program`, and sections of the bench. */
  readonly sections: readonly string[]
}

export interface Teller {
  /** For people, in the order it is known. */
  line(text: string): void
  /** What goes on; of no interest afterwards. */
  progress(text: string): void
}

export async function compareWith(
  { revision, quick, sections }: Wanted,
  tell: Teller,
): Promise<ComparisonReport> {
  const facts = machine()
  const commit = await commitOf(revision)
  const short = commit.slice(0, 12)
  tell.line(
    `${facts.date}, ${facts.commit} against ${revision} (${short}): ${facts.cpus} × ${facts.cpu}, Linux ${facts.kernel}, load ${facts.load}`,
  )
  const rows: ComparedRow[] = []
  const failed: { part: string; why: string }[] = []
  tell.progress('building this tree')
  await buildHere()
  tell.progress(`building ${short}`)
  const other = await checkOut(commit)
  try {
    for (const section of sections) {
      tell.line(`\n${section}`)
      try {
        const found =
          section === PROGRAM ? await program(other, quick, tell) : await whole(other, section, tell)
        for (const row of found) tell.line(comparedLine(row))
        rows.push(...found)
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        tell.line(`  ${section}: FAILED: ${why}`)
        failed.push({ part: section, why })
      }
    }
  } finally {
    other.remove()
  }
  tell.line(`\n${summary(rows)}`)
  return {
    version: REPORT_VERSION,
    machine: facts,
    against: { revision, commit },
    quick,
    rows,
    failed,
  }
}

async function program({ tree }: Checkout, quick: boolean, tell: Teller): Promise<ComparedRow[]> {
  const bench = await ProgramBench.start(tree)
  try {
    return (await bench.run(quick ? 'quick' : 'whole', tell.progress)).map((measured) =>
      programRow(measured, quick ? COARSE : FINE),
    )
  } finally {
    await bench.end()
  }
}

function programRow(measured: Measured, tolerance: Tolerance): ComparedRow {
  const { name, unit } = measured.case
  const which = { section: PROGRAM, title: '', name, unit }
  return 'lacking' in measured
    ? lackingRow(which, measured.lacking)
    : judgedRow(which, judge(measured.samples, tolerance))
}

async function whole({ tree }: Checkout, section: string, tell: Teller): Promise<ComparedRow[]> {
  const trees = { ours: packageRoot(), theirs: tree }
  const found = await sectionInTurns(trees, section, turns(SECTION_PAIRS), tell.progress)
  return found.map(({ title, name, unit, samples, why }: ComparedSamples) => {
    const which = { section, title, name, unit }
    return samples === null ? lackingRow(which, why ?? '') : judgedRow(which, judge(samples))
  })
}

type Which = Pick<ComparedRow, 'section' | 'title' | 'name' | 'unit'>

const lackingRow = (which: Which, why: string): ComparedRow => ({
  ...which,
  judgement: 'lacking',
  better: null,
  why,
})

function judgedRow(which: Which, { ours, theirs, ratio, interval, rounds, judgement }: Judged): ComparedRow {
  return {
    ...which,
    judgement,
    better: forTheBetter(judgement, which.unit),
    ours: rounded(ours),
    theirs: rounded(theirs),
    ratio: rounded(ratio),
    ...(interval === null ? {} : { interval: { low: rounded(interval.low), high: rounded(interval.high) } }),
    rounds,
  }
}

/** What a reader wants to know first. */
export function summary(rows: readonly ComparedRow[]): string {
  const moved = rows.filter(({ better }) => better !== null)
  const number = (judgement: ComparedRow['judgement']): number =>
    rows.filter((row) => row.judgement === judgement).length
  const counts = [
    `${moved.length === 0 ? 'nothing' : moved.length} moved`,
    `${number('same')} as before`,
    `${number('too-noisy')} too noisy to judge`,
    `${number('below-noise')} below the wrapper's own noise`,
    `${number('lacking')} not compared`,
  ]
  return [
    `of ${rows.length} rows: ${counts.join(', ')}`,
    ...moved.map(({ name, ratio, better }) => {
      const percent = ((ratio! - 1) * 100).toFixed(1)
      return `  ${better ? 'better' : 'WORSE'}: ${name}: ${ratio! > 1 ? '+' : ''}${percent} %`
    }),
  ].join('\n')
}
