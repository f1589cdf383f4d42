/** `npm run soak [-- --minutes N] [--rough|--sources|--watched] [--dataplane userspace|xdp]`: ends by itself, exit status 1 with problems. */
import { parseArgs } from 'node:util'
import { etcdMissing } from '../../lab/etcd.ts'
import { skip } from '../control/page/stage.ts'
import { missingFor, type Plane } from '../e2e/scene.ts'
import { runRoughDay } from './rough-day.ts'
import { runSoak } from './soak.ts'
import { runSources } from './sources.ts'
import { runWatched } from './watched.ts'

const HELP = `npm run soak [-- OPTION…]
  --minutes N                 length of the traffic, 1 to 1440 (default 60)
  --rough                     a rough day instead: accidents of every kind, again and again (default 10 minutes)
  --sources                   instead: a registry and a check that flap ten times a second, garbage, pools that are
                              emptied (default 10 minutes)
  --watched                   instead: the page in a browser, a scraper, and a day of samples, as fast as they go; so
                              many minutes of looks and scrapes, one of each a second (default 1440)
  --dataplane userspace|xdp   what carries the packets (default userspace)
`

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string' },
      rough: { type: 'boolean', default: false },
      sources: { type: 'boolean', default: false },
      watched: { type: 'boolean', default: false },
      dataplane: { type: 'string', default: 'userspace' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(HELP)
    return 0
  }
  const { dataplane } = values
  if (dataplane !== 'userspace' && dataplane !== 'xdp')
    throw new Error(`--dataplane is neither userspace nor xdp: "${dataplane}"`)
  if (values.watched) return await watched(Number(values.minutes ?? 1440))
  const missing = missingFor(dataplane)
  if (missing !== false) throw new Error(missing)

  if (values.rough) return await roughDay(dataplane, Number(values.minutes ?? 10))

  if (values.sources) return await sources(dataplane, Number(values.minutes ?? 10))

  const interrupted = new AbortController()
  let status = 1
  for (const [signal, number] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.once(signal, () => {
      status = number
      console.log(`${signal}: taking everything away`)
      interrupted.abort(new Error(`interrupted by ${signal}`))
    })
  // A fault of the soak's own must not leave the lab behind.
  process.once('uncaughtException', (error) => {
    console.error(error)
    interrupted.abort(error)
  })
  try {
    const result = await runSoak({
      plane: dataplane,
      minutes: Number(values.minutes ?? 60),
      tell: (line) => console.log(line),
      signal: interrupted.signal,
    })
    for (const line of result.summary) console.log(line)
    for (const problem of result.problems) console.log(`PROBLEM: ${problem}`)
    console.log(
      result.problems.length === 0 ? 'everything is accounted for' : `${result.problems.length} problems`,
    )
    return result.problems.length === 0 ? 0 : 1
  } catch (error) {
    if (!interrupted.signal.aborted) throw error
    return status
  }
}

async function roughDay(plane: Plane, minutes: number): Promise<number> {
  const problems = await runRoughDay({
    plane,
    untilMs: performance.now() + minutes * 60_000,
    tell: (line) => console.log(line),
  })
  for (const problem of problems) console.log(`PROBLEM: ${problem}`)
  console.log(problems.length === 0 ? 'nothing broke' : `${problems.length} problems`)
  return problems.length === 0 ? 0 : 1
}

async function sources(plane: Plane, minutes: number): Promise<number> {
  if (etcdMissing !== false) throw new Error(etcdMissing)
  const problems = await runSources({ plane, seconds: minutes * 60, tell: (line) => console.log(line) })
  for (const problem of problems) console.log(`PROBLEM: ${problem}`)
  console.log(problems.length === 0 ? 'nobody noticed' : `${problems.length} problems`)
  return problems.length === 0 ? 0 : 1
}

async function watched(minutes: number): Promise<number> {
  if (skip !== false) throw new Error(skip)
  const problems = await runWatched({ looks: minutes * 60, tell: (line) => console.log(line) })
  for (const problem of problems) console.log(`PROBLEM: ${problem}`)
  console.log(problems.length === 0 ? 'memory is flat' : `${problems.length} problems`)
  return problems.length === 0 ? 0 : 1
}

main().then(
  (status) => process.exit(status),
  (error: unknown) => {
    console.error(`Cannot soak: ${error instanceof Error ? error.stack : error}`)
    process.exit(1)
  },
)
