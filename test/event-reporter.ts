/** Reporter of node:test for `run.ts`: one JSON line for every test that ended. */
import type { TestEvent } from 'node:test/reporters'

export interface TestOutcome {
  readonly name: string
  readonly nesting: number
  readonly result: 'passed' | 'failed' | 'skipped'
  /** Why it was skipped, or how it failed. */
  readonly detail: string
  readonly ms: number
}

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue
    const outcome = outcomeOf(event)
    if (outcome !== null) yield `${JSON.stringify(outcome)}\n`
  }
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

function explain(error: Error): string {
  const cause = error.cause instanceof Error ? error.cause : error
  return cause.stack ?? `${cause.name}: ${cause.message}`
}
