/**
 * `npm run fuzz [-- --seconds N] [--runs N] [--jobs N] [--seed N] [--packets N]`: looks for input that breaks the packet
 * program, an hour unless told otherwise. `--race` has threads meet in its tables instead, natively, in wasm and
 * in the kernel (as root), for a third of the time each, and says how many packets that were; with `--packets 1e9`
 * it goes on in rounds of ten minutes (or `--seconds`) until there were so many.
 * `--capacity` lets floods and crowds into a full table, for as long as they would need to do harm. `--seed-corpus` writes the corpus anew from the recorded vectors.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { measureCapacity } from './capacity.ts'
import { writeCorpus } from './corpus.ts'
import { CORPUS, FINDINGS, fuzz, missingTool } from './harness.ts'
import { raceEverywhere, raceFor } from './race-everywhere.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    runs: { type: 'string', default: '0' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    capacity: { type: 'boolean', default: false },
    race: { type: 'boolean', default: false },
    packets: { type: 'string', default: '0' },
    'seed-corpus': { type: 'boolean', default: false },
  },
})

async function main(): Promise<number> {
  if (values['seed-corpus']) {
    console.log(`${writeCorpus(CORPUS)} inputs written to ${CORPUS}`)
    return 0
  }
  const missing = missingTool()
  if (missing !== null) {
    console.error(missing)
    return 2
  }
  const [runs = 0, jobs = 0, seed = 0] = [values.runs, values.jobs, values.seed].map(Number)
  const packets = Number(values.packets)
  const seconds = Number(values.seconds ?? (runs ? 0 : 3600))
  if (
    ![runs, jobs, seed, seconds, packets].every((value) => Number.isInteger(value) && Number(value) >= 0) ||
    !jobs
  ) {
    console.error('Cannot use these options: expected whole numbers, at least one job')
    return 2
  }
  if (values.capacity) return measureCapacity() ? 0 : 1
  if (values.race && packets > 0)
    return (await raceFor(packets, seed, values.seconds ? seconds : undefined)) ? 0 : 1
  if (values.race) return (await raceEverywhere(seconds || 3600, seed)).good ? 0 : 1
  console.log(`seed ${seed}, ${jobs} jobs, ${runs ? `${runs} executions` : `${seconds} seconds`}`)
  const result = await fuzz({
    seconds,
    runs,
    jobs,
    seed,
    output: (text) => process.stderr.write(text),
  })
  console.log(
    `${result.executions} executions, ${result.found ? `something was found: see ${FINDINGS}` : 'nothing found'}`,
  )
  return result.found ? 1 : 0
}

process.exitCode = await main()
