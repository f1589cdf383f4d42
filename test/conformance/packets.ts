/**
 * `npm run conformance -- packets FILE|DIR… [options]`: plays recorded vectors against a data plane.
 *
 * Vectors are dealt out to a few child processes, each with a bench of its own, because most of the time
 * goes by in waiting. The last line reads `N passed, N failed, N skipped`; the exit status is 1 if one failed.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Outcome, Result } from '../packets/play.ts'
import { isWait, loadVectors, type Vector } from '../packets/vectors.ts'

export const DATAPLANES = ['xdp', 'tc', 'wasm', 'userspace'] as const
export type DataplaneName = (typeof DATAPLANES)[number]

export interface Tally {
  passed: number
  failed: number
  skipped: number
}

/** Names of the vectors that pass, by data plane: none of them may fail again. */
const PASSING = fileURLToPath(new URL('packets-passing.json', import.meta.url))

export function passing(dataplane: DataplaneName): ReadonlySet<string> {
  return new Set(readPassing()[dataplane] ?? [])
}

function readPassing(): Record<string, readonly string[]> {
  return JSON.parse(readFileSync(PASSING, 'utf8')) as Record<string, readonly string[]>
}

function recordPassing(dataplane: DataplaneName, results: readonly Result[]): void {
  const names = results.filter(({ outcome }) => outcome === 'passed').map(({ name }) => name)
  const played = new Set(results.map(({ name }) => name))
  const others = (readPassing()[dataplane] ?? []).filter((name) => !played.has(name))
  const all = { ...readPassing(), [dataplane]: [...others, ...names].sort() }
  writeFileSync(PASSING, `${JSON.stringify(all, null, 2)}\n`)
}

const USAGE = `usage: npm run conformance -- packets FILE|DIR… [--dataplane xdp|tc|wasm|userspace] [--area NAME]
       [--name PATTERN] [--lanes N] [--json]

  --area NAME      only this area; may be given more than once
  --name PATTERN   only vectors whose name matches this regular expression
  --lanes N        vectors at the same time, each on a bench of its own
  --json           one JSON document with every result and a table of areas
  --record         write the names of what passed to the list that the tests play`

export interface Selection {
  readonly paths: readonly string[]
  readonly areas?: readonly string[]
  readonly name?: RegExp
}

export function select(selection: Selection): Vector[] {
  const { areas = [], name } = selection
  return loadVectors(selection.paths).filter(
    (vector) =>
      (areas.length === 0 || areas.includes(vector.area)) && (name === undefined || name.test(vector.name)),
  )
}

/** How long a vector waits: its timers run in the kernel's time. */
const waitsOf = ({ steps }: Vector): number =>
  steps.reduce((sum, step) => sum + (isWait(step) ? step.wait_ms : 0), 0)

/** Plays vectors in several processes, those that wait longest first; results in the order of the vectors. */
export async function playAll(
  vectors: readonly Vector[],
  dataplane: DataplaneName,
  lanes: number,
  report: (result: Result) => void = () => {},
): Promise<Result[]> {
  const results = new Array<Result>(vectors.length)
  const queue = Array.from(vectors.keys()).sort((a, b) => waitsOf(vectors[b]!) - waitsOf(vectors[a]!))
  const lane = async (number: number): Promise<void> => {
    const child = fork(
      fileURLToPath(new URL('packets-lane.ts', import.meta.url)),
      [dataplane, String(number)],
      {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      },
    )
    try {
      for (let index = queue.shift(); index !== undefined; index = queue.shift()) {
        const result = await ask(child, vectors[index]!)
        results[index] = result
        report(result)
      }
    } finally {
      if (child.connected) child.send('end')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    }
  }
  await Promise.all(
    Array.from({ length: Math.max(1, Math.min(lanes, vectors.length)) }, (_, number) => lane(number)),
  )
  return results
}

async function ask(child: ChildProcess, vector: Vector): Promise<Result> {
  if (child.exitCode !== null || child.signalCode !== null)
    throw new Error('A process that plays vectors has ended')
  const gone = new AbortController()
  try {
    child.send(vector)
    const [answer] = await Promise.race([
      once(child, 'message', { signal: gone.signal }),
      once(child, 'exit', { signal: gone.signal }).then(([code, signal]) => {
        throw new Error(
          `A process that plays vectors ended with ${signal ?? `status ${code}`} in ${JSON.stringify(vector.name)}`,
        )
      }),
    ])
    return answer as Result
  } finally {
    gone.abort()
  }
}

export function tallyOf(results: readonly Result[]): Tally {
  const count = (outcome: Outcome) => results.filter((result) => result.outcome === outcome).length
  return { passed: count('passed'), failed: count('failed'), skipped: count('skipped') }
}

export function tallyByArea(results: readonly Result[]): Record<string, Tally> {
  const areas = [...new Set(results.map((result) => result.area))]
  return Object.fromEntries(
    areas.map((area) => [area, tallyOf(results.filter((result) => result.area === area))]),
  )
}

/** Exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args)
  if ('problem' in options) {
    console.error(`${options.problem}\n${USAGE}`)
    return 2
  }
  const vectors = select(options)
  if (vectors.length === 0) {
    console.error('No vector matches: nothing was played')
    return 2
  }
  const started = performance.now()
  const results = await playAll(vectors, options.dataplane, options.lanes, options.json ? undefined : print)
  const tally = tallyOf(results)
  const areas = tallyByArea(results)
  if (options.record) recordPassing(options.dataplane, results)
  if (options.json) {
    const seconds = Math.round((performance.now() - started) / 100) / 10
    console.log(JSON.stringify({ dataplane: options.dataplane, seconds, ...tally, areas, results }, null, 2))
  } else {
    for (const [area, part] of Object.entries(areas)) {
      console.log(
        `${area.padEnd(16)} ${String(part.passed).padStart(4)} passed ${String(part.failed).padStart(4)} failed ${String(part.skipped).padStart(4)} skipped`,
      )
    }
    console.log(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`)
  }
  return tally.failed > 0 ? 1 : 0
}

function print(result: Result): void {
  if (result.outcome === 'passed') return
  console.log(`${result.outcome}: ${result.area}: ${result.name}`)
  for (const line of result.lines) console.log(`  ${line}`)
}

interface Options extends Selection {
  readonly dataplane: DataplaneName
  readonly lanes: number
  readonly json: boolean
  readonly record: boolean
}

function parseOptions(args: readonly string[]): Options | { readonly problem: string } {
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(args)
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) }
  }
  const { values, positionals } = parsed
  const dataplane = DATAPLANES.find((name) => name === values.dataplane)
  if (dataplane === undefined)
    return {
      problem: `Unknown data plane ${JSON.stringify(values.dataplane)}: expected ${DATAPLANES.join(', ')}`,
    }
  if (positionals.length === 0) return { problem: 'No files or folders of vectors are named' }
  const lanes = Number(values.lanes ?? (dataplane === 'wasm' ? 1 : 2 * availableParallelism()))
  if (!Number.isInteger(lanes) || lanes < 1)
    return { problem: `Cannot use ${JSON.stringify(values.lanes)} lanes: expected 1 or more` }
  return {
    paths: positionals,
    areas: values.area ?? [],
    ...(values.name === undefined ? {} : { name: new RegExp(values.name) }),
    dataplane,
    lanes,
    json: values.json ?? false,
    record: values.record ?? false,
  }
}

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      dataplane: { type: 'string', default: 'xdp' },
      area: { type: 'string', multiple: true },
      name: { type: 'string' },
      lanes: { type: 'string' },
      json: { type: 'boolean' },
      record: { type: 'boolean' },
    },
  })
}
