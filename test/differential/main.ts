/** `npm run differential [-- --packets N] [--seed N] [--host xdp|tc]`: a long hunt for differences of the two objects. */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageRoot } from '../../dataplane/assets.ts'
import { verdictNames } from '../../dataplane/layout/layout.gen.ts'
import { hunt } from './hunt.ts'
import { openStage } from './stage.ts'

const { values } = parseArgs({
  options: {
    packets: { type: 'string', default: '10000000' },
    host: { type: 'string', default: 'xdp' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
  },
})

async function main(): Promise<number> {
  const packets = Number(values.packets)
  const seed = Number(values.seed)
  if (!Number.isInteger(packets) || !Number.isInteger(seed) || packets < 1) {
    console.error('Cannot use these options: expected whole numbers, at least one packet')
    return 2
  }
  const { host } = values
  if (host !== 'xdp' && host !== 'tc') {
    console.error(`Cannot use --host ${host}: expected xdp or tc`)
    return 2
  }
  console.log(`seed ${seed}, ${packets} packets, ${host} and wasm`)
  const stage = await openStage(`pmdiff${process.pid % 100_000}`, host)
  try {
    const started = performance.now()
    let next = 0
    const progress = (done: number): void => {
      if (done < next) return
      next = done + packets / 20
      console.log(`${done} packets, ${Math.round((performance.now() - started) / 1000)} s`)
    }
    const found = hunt(stage.twin, {
      packets,
      seed,
      folder: join(packageRoot(), 'dist/differences'),
      progress,
      told: (at, lines) => console.log([`seed ${at}: a difference`, ...lines, 'making it small'].join('\n')),
    })
    if (found === null) {
      console.log(
        `${packets} packets without a difference, but for ${stage.twin.excused} wrong checksums of SCTP that one carried` +
          (host === 'tc'
            ? `, and ${stage.twin.resolved} neighbours resolved; ${stage.twin.cut} were cut`
            : ''),
      )
      for (const [verdict, count] of stage.twin.verdicts())
        console.log(`  ${verdictNames[verdict] ?? verdict} ${count}`)
      return 0
    }
    console.log(
      [
        `seed ${found.seed}: a difference after ${found.steps} steps, frames in ${found.capture}`,
        ...found.lines,
      ].join('\n'),
    )
    return 1
  } finally {
    await stage.close()
  }
}

process.exitCode = await main()
