/** Runs sections one after the other, each in a process of its own that is ended when it takes too long. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { removeLeftovers } from './network.ts'
import { rowLine } from './print.ts'
import { type ReportRow, type ReportSection, rounded } from './report.ts'
import { type Message, met, type Row, type Section } from './section.ts'

/** Beyond the section's own limit: for its clean-up. */
const CLEAN_UP_MS = 5000

export async function runSections(
  sections: readonly Section[],
  quick: boolean,
  show: (line: string) => void,
): Promise<ReportSection[]> {
  const results: ReportSection[] = []
  for (const section of sections) {
    show(`\n${section.name}: ${section.about}`)
    results.push(await runSection(section, quick, show))
    await removeLeftovers()
  }
  return results
}

function runSection(section: Section, quick: boolean, show: (line: string) => void): Promise<ReportSection> {
  const source = fileURLToPath(new URL('./run-section.ts', import.meta.url))
  const child = spawn(
    process.execPath,
    ['--import', import.meta.resolve('tsx'), source, section.name, quick ? 'quick' : 'whole'],
    {
      // What it prints is for people: standard output may be wanted for JSON.
      stdio: ['ignore', 2, 2, 'ipc'],
    },
  )
  const started = performance.now()
  const messages: Message[] = []
  const take = (message: Message): void => {
    messages.push(message)
    show(line(message))
  }
  child.on('message', take)
  let late = false
  const timers = [
    setTimeout(() => {
      late = true
      child.kill('SIGTERM')
    }, section.secondsMax * 1000),
    setTimeout(() => child.kill('SIGKILL'), section.secondsMax * 1000 + CLEAN_UP_MS),
  ]
  const stop = (): void => void child.kill('SIGTERM')
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  return new Promise((resolve) => {
    child.on('exit', (status, signal) => {
      for (const timer of timers) clearTimeout(timer)
      process.off('SIGINT', stop)
      process.off('SIGTERM', stop)
      if (late) take({ kind: 'fail', part: section.name, why: `took longer than ${section.secondsMax} s` })
      else if (status !== 0) take({ kind: 'fail', part: section.name, why: `ended with ${status ?? signal}` })
      const seconds = Math.round((performance.now() - started) / 1000)
      show(`  (${seconds} s)`)
      resolve(reportSection(section.name, seconds, messages))
    })
  })
}

function line(message: Message): string {
  switch (message.kind) {
    case 'title':
      return ` ${message.text}`
    case 'row':
      return rowLine(message.row)
    case 'skip':
      return `  ${message.part}: skipped: ${message.why}`
    case 'fail':
      return `  ${message.part}: FAILED: ${message.why}`
    default:
      return message satisfies never
  }
}

/** What a section said, as `--json` prints it. */
export function reportSection(section: string, seconds: number, messages: readonly Message[]): ReportSection {
  let title = ''
  const report: ReportSection = { section, seconds, rows: [], skipped: [], failed: [] }
  for (const message of messages) {
    if (message.kind === 'title') title = message.text
    else if (message.kind === 'skip') report.skipped.push({ part: message.part, why: message.why })
    else if (message.kind === 'fail') report.failed.push({ part: message.part, why: message.why })
    else report.rows.push(reportRow(title, message.row))
  }
  return report
}

function reportRow(title: string, row: Row): ReportRow {
  const bounds = ({ low, high }: { low: number; high: number }) => ({
    low: rounded(low),
    high: rounded(high),
  })
  const ok = met(row)
  return {
    title,
    name: row.name,
    unit: row.unit,
    value: rounded(row.value),
    ...(row.best === undefined ? {} : { best: rounded(row.best) }),
    ...(row.reference === undefined
      ? {}
      : { reference: { name: row.reference.name, value: rounded(row.reference.value) } }),
    ...(row.ratio === undefined ? {} : { ratio: rounded(row.ratio) }),
    ...(row.valueInterval === undefined ? {} : { valueInterval: bounds(row.valueInterval) }),
    ...(row.ratioInterval === undefined ? {} : { ratioInterval: bounds(row.ratioInterval) }),
    ...(row.noise === undefined ? {} : { noise: rounded(row.noise) }),
    ...(row.goal === undefined ? {} : { goal: row.goal }),
    ...(ok === null ? {} : { met: ok === 'too-noisy' ? null : ok === 'meets' }),
    ...(row.note === undefined ? {} : { note: row.note }),
  }
}
