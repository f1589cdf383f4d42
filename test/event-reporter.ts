/** Reporter of node:test for `run.ts`: one JSON line for every test that ended, and what the file has cost. */
import { readFileSync } from 'node:fs'
import type { TestEvent } from 'node:test/reporters'

export interface TestOutcome {
  readonly name: string
  readonly nesting: number
  readonly result: 'passed' | 'failed' | 'skipped'
  /** Why it was skipped, or how it failed. */
  readonly detail: string
  readonly ms: number
}

/** The last line: what the process and its children that have ended took of the processors. */
export interface FileCost {
  readonly cpuSeconds: number
}

/** USER_HZ, in which proc(5) counts on every architecture of ours. */
const TICKS_PER_SECOND = 100

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue
    const outcome = outcomeOf(event)
    if (outcome !== null) yield `${JSON.stringify(outcome)}\n`
  }
  yield `${JSON.stringify({ cpuSeconds: cpuSeconds() } satisfies FileCost)}\n`
}

/** utime, stime, cutime and cstime stand behind the name, which is in brackets and may hold anything. */
function cpuSeconds(): number {
  const text = readFileSync('/proc/self/stat', 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND
}

function outcomeOf(event: Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>): TestOutcome | null {
  const { name, nesting, details, skip, todo } = event.data
  const common = { name, nesting, ms: Math.round(details.duration_ms) }
  if (event.type === 'test:fail')
    return { ...common, result: 'failed', detail: explain(event.data.details.error) }
  // A suite is no test of its own; it is told only when something is wrong with it.
  if (details.type === 'suite' && skip === undefined) return null
  const reason = skip ?? todo
  if (reason === undefined || reason === false) return { ...common, result: 'passed', detail: '' }
  // Rule of the house: whoever skips says why.
  if (typeof reason !== 'string' || reason === '')
    return { ...common, result: 'failed', detail: 'skipped without a reason' }
  return { ...common, result: 'skipped', detail: reason }
}

/** node:test wraps what was thrown; a property that failed keeps the failed assertion as its cause. */
function explain(error: Error): string {
  const [thrown, ...causes] = causesOf(error.cause instanceof Error ? error.cause : error)
  return [thrown, ...causes.map((cause) => `caused by ${cause}`)].join('\n')
}

function causesOf(error: Error): string[] {
  const own = error.stack ?? `${error.name}: ${error.message}`
  return [own, ...(error.cause instanceof Error ? causesOf(error.cause) : [])]
}
