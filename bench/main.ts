/**
 * Measures pointsman on this machine and prints numbers beside their references.
 *
 *     npm run bench [-- [--json] [--quick] [SECTION...]]
 *
 * `--quick` takes fewer rounds and cases: the sections floor and e2e, if none is named, in about a minute.
 *
 * Sections run one after the other, each in a process of its own that is ended when it takes too long.
 * Exit status 1 means that something could not be measured although it should have been, never that a
 * number was bad.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { machine } from './machine.ts'
import { removeLeftovers } from './network.ts'
import { rowLine } from './print.ts'
import { type Message, met, type Section } from './section.ts'
import { SECTIONS } from './sections.ts'

interface SectionResult {
  readonly section: string
  readonly seconds: number
  readonly messages: readonly Message[]
}

/** Beyond the section's own limit: for its clean-up. */
const CLEAN_UP_MS = 5000

/** What --quick measures if nothing is named. */
const QUICK = ['floor', 'e2e']

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { json: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
    allowPositionals: true,
  })
  const unknown = positionals.filter((name) => !SECTIONS.some((section) => section.name === name))
  if (unknown.length > 0) {
    const known = SECTIONS.map(({ name }) => name).join(', ')
    console.error(`bench: no section "${unknown.join('", "')}": expected ${known}`)
    return 2
  }
  const named = positionals.length > 0 || !values.quick ? positionals : QUICK
  const wanted = SECTIONS.filter(({ name }) => named.length === 0 || named.includes(name))
  const facts = machine()
  const show = (line: string): void => {
    if (!values.json) console.log(line)
  }
  show(
    `${facts.date}, commit ${facts.commit}: ${facts.cpus} × ${facts.cpu}, ${facts.memoryGb} GB, Linux ${facts.kernel}, Node ${facts.node}, load ${facts.load}`,
  )
  const results: SectionResult[] = []
  for (const section of wanted) {
    show(`\n${section.name}: ${section.about}`)
    results.push(await runSection(section, values.quick, show))
    await removeLeftovers()
  }
  if (values.json) console.log(JSON.stringify({ machine: facts, sections: results.map(plain) }, null, 2))
  return results.some(({ messages }) => messages.some(({ kind }) => kind === 'fail')) ? 1 : 0
}

function runSection(section: Section, quick: boolean, show: (line: string) => void): Promise<SectionResult> {
  const source = fileURLToPath(new URL('./run-section.ts', import.meta.url))
  const child = spawn(
    process.execPath,
    ['--import', import.meta.resolve('tsx'), source, section.name, quick ? 'quick' : 'whole'],
    {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
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
      resolve({ section: section.name, seconds, messages })
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

/** Numbers of the JSON form are whole, ratios have two digits. */
function plain({ section, seconds, messages }: SectionResult): object {
  let title = ''
  const rows: object[] = []
  const skipped: object[] = []
  const failed: object[] = []
  for (const message of messages) {
    if (message.kind === 'title') title = message.text
    else if (message.kind === 'skip') skipped.push({ part: message.part, why: message.why })
    else if (message.kind === 'fail') failed.push({ part: message.part, why: message.why })
    else {
      const { row } = message
      rows.push({
        ...row,
        title,
        value: Math.round(row.value),
        ...(row.best === undefined ? {} : { best: Math.round(row.best) }),
        ...(row.reference === undefined
          ? {}
          : { reference: { name: row.reference.name, value: Math.round(row.reference.value) } }),
        ...(row.ratio === undefined ? {} : { ratio: Math.round(row.ratio * 100) / 100 }),
        ...(row.goal === undefined ? {} : { met: met(row) }),
      })
    }
  }
  return { section, seconds, rows, skipped, failed }
}

process.exitCode = await main()
