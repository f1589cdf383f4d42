/**
 * Measures pointsman on this machine and prints numbers beside their references, or beside those of another
 * commit.
 *
 *     npm run bench [-- [--quick] [--json] [--plots FOLDER] [SECTION...]]
 *     npm run bench -- --against REVISION [--quick] [--json] [--plots FOLDER] [--record FILE] [SECTION...]
 *
 * `--quick` takes fewer rounds and cases: the sections floor and e2e, if none is named, in about a minute.
 *
 * Exit status 1 means that something could not be measured although it should have been, never that a
 * number was bad. Standard output is one document with `--json`; everything else goes to standard error then.
 */
import { resolve } from 'node:path'
import { compareWith } from './against/compare.ts'
import { appendRecord, recordOf } from './against/record.ts'
import { PROGRAM, type Request, readCommandLine } from './command-line.ts'
import { machine } from './machine.ts'
import { plotComparison, plotSections } from './plot/plots.ts'
import { REPORT_VERSION, type RunReport } from './report.ts'
import { runSections } from './runner.ts'
import { SECTIONS } from './sections.ts'

/** What --quick measures if nothing is named. */
const QUICK = ['floor', 'e2e']

async function main(): Promise<number> {
  const names = SECTIONS.map(({ name }) => name)
  const request = readCommandLine(process.argv.slice(2), names)
  if (typeof request === 'string') {
    console.error(`bench: ${request}`)
    return 2
  }
  const show = (line: string): void => {
    if (!request.json) console.log(line)
  }
  return request.against === null ? run(request, show) : compare(request, request.against, show)
}

async function run({ json, quick, sections, plots }: Request, show: (line: string) => void): Promise<number> {
  const named = sections.length > 0 || !quick ? sections : QUICK
  const wanted = SECTIONS.filter(({ name, onlyByName }) =>
    named.length === 0 ? onlyByName !== true : named.includes(name),
  )
  const facts = machine()
  show(
    `${facts.date}, commit ${facts.commit}: ${facts.cpus} × ${facts.cpu}, ${facts.memoryGb} GB, Linux ${facts.kernel}, Node ${facts.node}, load ${facts.load}`,
  )
  const report: RunReport = {
    version: REPORT_VERSION,
    machine: facts,
    sections: await runSections(wanted, quick, show),
  }
  if (json) console.log(JSON.stringify(report, null, 2))
  if (plots !== null) for (const file of plotSections(resolve(plots), report)) show(`plotted ${file}`)
  return report.sections.some(({ failed }) => failed.length > 0) ? 1 : 0
}

async function compare(
  { json, quick, sections, plots, record }: Request,
  revision: string,
  show: (line: string) => void,
): Promise<number> {
  const wanted = sections.length > 0 ? sections : [PROGRAM]
  const report = await compareWith(
    { revision, quick, sections: wanted },
    { line: show, progress: (text) => console.error(`  ${text}`) },
  )
  if (json) console.log(JSON.stringify(report, null, 2))
  if (plots !== null) show(`plotted ${plotComparison(resolve(plots), report)}`)
  if (record !== null) {
    appendRecord(resolve(record), recordOf(report))
    show(`recorded in ${record}`)
  }
  return report.failed.length > 0 ? 1 : 0
}

process.exitCode = await main()
