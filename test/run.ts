/**
 * Runs the tests: `npm test [-- PART…]`, where a part is a piece of a file's path under test/ (or
 * "checks" for types, style and freshness of generated files).
 *
 * Every file is a process of its own, and makes its own namespaces, folders and sockets, so that files do
 * not meet. As many go side by side as there are cores for, by what `needs.ts` says of each. The last line
 * is "N passed, N failed, N skipped"; the exit status is 1 when something failed or nothing ran.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FileCost, TestOutcome } from './event-reporter.ts'
import { NEEDS, needOf } from './needs.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const here = fileURLToPath(new URL('.', import.meta.url))

/** For what hangs: the longest takes three minutes where nothing else goes on. */
const FILE_TIMEOUT_MS = 1_800_000
const CHECKS = 'checks'
/** So many of the slowest are named at the end. */
const SLOWEST = 10
/** What failed is told again at the end, shortly: of a long output often nothing but the tail is kept. */
const FAILURES_AGAIN = 20
const FAILURE_LINES = 15
const FAILURE_COLUMNS = 300

interface Job {
  readonly name: string
  readonly argv: readonly string[]
  /** Where the reporter of a test file writes; null for a command that only has to succeed. */
  readonly events: string | null
}

interface JobResult {
  readonly job: Job
  readonly outcomes: readonly TestOutcome[]
  readonly output: string
  readonly seconds: number
  /** Processor time; null where it is not known. */
  readonly cpuSeconds: number | null
}

function testFiles(): string[] {
  return readdirSync(here, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.ts'))
    .sort()
}

function testJob(path: string, scratch: string): Job {
  const events = join(scratch, path.replaceAll('/', '+'))
  const node = [process.execPath, '--import', import.meta.resolve('tsx')]
  const reporter = ['--test-reporter', join(here, 'event-reporter.ts'), '--test-reporter-destination', events]
  return { name: path, argv: [...node, ...reporter, join(here, path)], events }
}

function checkJobs(): Job[] {
  const bin = (name: string): string => join(root, 'node_modules/.bin', name)
  const checks: Record<string, string[]> = {
    'the types are sound': [bin('tsc'), '--noEmit'],
    'the types of the page are sound': [bin('tsc'), '--noEmit', '-p', 'control/cli/page'],
    'the sources follow the house style': [bin('biome'), 'check', '--diagnostic-level=error', '.'],
    'the generated layout is fresh': [bin('tsx'), 'scripts/generate.ts', '--check'],
  }
  return Object.entries(checks).map(([name, argv]) => ({ name: `${CHECKS}: ${name}`, argv, events: null }))
}

function runJob(job: Job): Promise<JobResult> {
  const startedAt = performance.now()
  const [program, ...args] = job.argv
  if (program === undefined) throw new Error(`Nothing to run for ${job.name}`)
  // Its own process group, so that what a hanging test has started ends with it.
  const child = spawn(program, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  let output = ''
  let timedOut = false
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-200_000)
    })
  const late = setTimeout(() => {
    timedOut = true
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  }, FILE_TIMEOUT_MS)
  return new Promise((resolve) => {
    const finish = (problem: string | null): void => {
      clearTimeout(late)
      const seconds = (performance.now() - startedAt) / 1000
      resolve({ job, output, seconds, ...whatItSays(job, problem, seconds) })
    }
    child.on('error', (error) => finish(error.message))
    child.on('close', (status, signal) => {
      if (timedOut) finish(`did not end within ${FILE_TIMEOUT_MS / 1000} s`)
      else finish(status === 0 ? null : `ended with ${signal ?? `status ${status}`}`)
    })
  })
}

/** What the reporter wrote; a file that ends badly or tests nothing is a failure of its own. */
function whatItSays(
  job: Job,
  problem: string | null,
  seconds: number,
): Pick<JobResult, 'outcomes' | 'cpuSeconds'> {
  const whole = (result: TestOutcome['result'], detail: string): TestOutcome => ({
    name: job.name,
    nesting: 0,
    result,
    detail,
    ms: Math.round(seconds * 1000),
  })
  if (job.events === null)
    return { outcomes: [problem === null ? whole('passed', '') : whole('failed', problem)], cpuSeconds: null }
  const outcomes: TestOutcome[] = []
  let cpuSeconds: number | null = null
  for (const line of existsSync(job.events) ? readFileSync(job.events, 'utf8').split('\n') : []) {
    if (line === '') continue
    const said = JSON.parse(line) as TestOutcome | FileCost
    if ('cpuSeconds' in said) cpuSeconds = said.cpuSeconds
    else outcomes.push(said)
  }
  if (problem !== null && !outcomes.some((outcome) => outcome.result === 'failed'))
    outcomes.push(whole('failed', problem))
  if (outcomes.length === 0) outcomes.push(whole('failed', 'the file contains no test'))
  return { outcomes, cpuSeconds }
}

function count(results: readonly JobResult[], result: TestOutcome['result']): number {
  return results.flatMap((job) => job.outcomes).filter((outcome) => outcome.result === result).length
}

function printResult(result: JobResult): void {
  const failed = count([result], 'failed')
  const skipped = count([result], 'skipped')
  const notes = [
    `${count([result], 'passed')} passed`,
    ...(failed > 0 ? [`${failed} FAILED`] : []),
    ...(skipped > 0 ? [`${skipped} skipped`] : []),
  ]
  console.log(
    `${failed > 0 ? '✖' : '✔'} ${result.job.name}  ${notes.join(', ')}  ${result.seconds.toFixed(1)} s`,
  )
  if (failed === 0) return
  for (const outcome of result.outcomes.filter(({ result }) => result === 'failed'))
    console.log(indent(`${outcome.name}\n${indent(outcome.detail)}`))
  const output = result.output.trim()
  if (output !== '') console.log(indent(`output:\n${indent(output.split('\n').slice(-200).join('\n'))}`))
}

function indent(text: string): string {
  return text.replace(/^/gm, '    ')
}

/**
 * Runs the jobs, the longest first, those that want the machine for themselves last. One that needs more
 * cores than are left lets shorter ones go before it.
 */
async function runAll(jobs: readonly Job[]): Promise<JobResult[]> {
  const cores = Math.max(2, availableParallelism())
  const order = ({ name }: Job): number => (needOf(name).alone === undefined ? -needOf(name).seconds : 0)
  const queue = [...jobs].sort((a, b) => order(a) - order(b))
  const running = new Map<Job, Promise<void>>()
  const results: JobResult[] = []
  const fits = ({ name }: Job): boolean => {
    const needs = Array.from(running.keys(), (job) => needOf(job.name))
    const { alone, cores: own } = needOf(name)
    if (needs.length === 0) return true
    if (alone !== undefined || needs.some((need) => need.alone !== undefined)) return false
    return needs.reduce((sum, need) => sum + need.cores, own) <= cores
  }
  const start = async (job: Job): Promise<void> => {
    const result = await runJob(job)
    running.delete(job)
    printResult(result)
    results.push(result)
  }
  while (queue.length > 0 || running.size > 0) {
    for (let i = queue.findIndex(fits); i >= 0; i = queue.findIndex(fits))
      for (const job of queue.splice(i, 1)) running.set(job, start(job))
    await Promise.race(running.values())
  }
  return results
}

async function main(parts: readonly string[]): Promise<number> {
  const known = new Set([...testFiles(), ...checkJobs().map(({ name }) => name)])
  const strange = Object.keys(NEEDS).filter((name) => !known.has(name))
  if (strange.length > 0) throw new Error(`test/needs.ts names what is not there: ${strange.join(', ')}`)
  const wanted = (name: string): boolean => parts.length === 0 || parts.some((part) => name.includes(part))
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-test.'))
  const startedAt = performance.now()
  try {
    const files = testFiles().filter((path) => wanted(relative(root, join(here, path))))
    const checks = checkJobs().filter((job) => wanted(job.name))
    const results = await runAll([...checks, ...files.map((path) => testJob(path, scratch))])
    printSkips(results)
    printFailures(results)
    printSlowest(results)
    const [passed, failed, skipped] = [
      count(results, 'passed'),
      count(results, 'failed'),
      count(results, 'skipped'),
    ]
    console.log(
      `\n${results.length} files and checks in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`,
    )
    if (results.length === 0) console.log(`No test matches ${parts.join(' ')}`)
    console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
    return failed > 0 || passed === 0 ? 1 : 0
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** The numbers that `needs.ts` wants. */
function printSlowest(results: readonly JobResult[]): void {
  if (results.length <= SLOWEST) return
  const slowest = [...results].sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST)
  console.log('\nthe slowest, with the cores they kept busy:')
  for (const { job, seconds, cpuSeconds } of slowest) {
    const cores = cpuSeconds === null ? '' : (cpuSeconds / seconds).toFixed(1)
    console.log(`    ${seconds.toFixed(0).padStart(4)} s ${cores.padStart(5)}  ${job.name}`)
  }
}

/** Without the lines of node's own files, which come before ours in what was thrown later. */
function printFailures(results: readonly JobResult[]): void {
  const failures = results.flatMap(({ job, outcomes }) =>
    outcomes.filter(({ result }) => result === 'failed').map((outcome) => ({ file: job.name, ...outcome })),
  )
  if (failures.length === 0) return
  console.log('\nfailed:')
  for (const { file, name, detail } of failures.slice(0, FAILURES_AGAIN)) {
    const telling = detail.split('\n').filter((line) => !/^\s+at .*\bnode:/.test(line))
    const lines = telling.slice(0, FAILURE_LINES).map((line) => line.slice(0, FAILURE_COLUMNS))
    console.log(indent(`${file}: ${name}\n${indent(lines.join('\n'))}`))
  }
  if (failures.length > FAILURES_AGAIN) console.log(indent(`and ${failures.length - FAILURES_AGAIN} more`))
}

/** The reasons, each with the number of tests it kept from running. */
function printSkips(results: readonly JobResult[]): void {
  const reasons = new Map<string, number>()
  for (const { job, outcomes } of results)
    for (const outcome of outcomes)
      if (outcome.result === 'skipped') {
        const reason = `${job.name}: ${outcome.detail}`
        reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
      }
  if (reasons.size === 0) return
  console.log('\nskipped:')
  for (const [reason, number] of reasons) console.log(`    ${number} × ${reason}`)
}

process.exitCode = await main(process.argv.slice(2))
