/** One file that says what is served: how fast it is in force, and who waits meanwhile. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sleep } from '../lab/command.ts'
import type { Daemon } from './daemon.ts'
import { Latency, type Waited } from './latency.ts'
import { Forwarded, REAL_SERVERS, SERVERS_PER_SERVICE, SERVICES, serverAt, serviceAt } from './many.ts'
import { type Goal, part, type Reporter, type Section } from './section.ts'
import { median } from './statistics.ts'
import { withDaemon } from './with-daemon.ts'

const LOAD: Goal = { of: 'value', bound: 'most', limit: 3000 }
const CHANGE: Goal = { of: 'value', bound: 'most', limit: 300 }
const PATIENCE_MS = 20_000
const WHAT = `${SERVICES.toLocaleString('en')} services of ${SERVERS_PER_SERVICE} real servers`
/** Another service of another address: to be seen or not by a change of one line. */
const EXTRA = '10.96.250.1:80'

function lines(): string[] {
  const text = ['services:']
  for (let service = 0; service < SERVICES; service++) {
    text.push(`  - tcp: ${serviceAt(service)}`, '    scheduler: wrr', '    real_servers:')
    for (let server = 0; server < SERVERS_PER_SERVICE; server++) {
      text.push(`      - {address: "${serverAt(service, server)}", method: nat, weight: 1}`)
    }
  }
  return text
}

/** The file, replaced as a whole: what the daemon finds is one text or the other. */
class File {
  readonly #directory = mkdtempSync(join(tmpdir(), 'pmbench-site-'))
  readonly path = join(this.#directory, 'pointsman.yaml')

  write(text: string): void {
    writeFileSync(`${this.path}.new`, text)
    renameSync(`${this.path}.new`, this.path)
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true })
  }
}

async function effectMs(daemon: Daemon, last: Forwarded, wanted: boolean): Promise<number> {
  const started = performance.now()
  process.kill(daemon.pid, 'SIGHUP')
  while (last.seen() !== wanted) {
    if (performance.now() - started > PATIENCE_MS) {
      throw new Error(`the packet program never saw the change: ${daemon.logTail()}`)
    }
    await sleep(2)
  }
  return performance.now() - started
}

async function load(report: Reporter, daemon: Daemon, file: File): Promise<void> {
  const last = new Forwarded(serviceAt(SERVICES - 1))
  file.write(`${lines().join('\n')}\n`)
  const cpu = daemon.cpuNs()
  const others = new Latency(daemon.socket)
  let ms: number
  let waited: Waited
  try {
    ms = await effectMs(daemon, last, true)
  } finally {
    waited = await others.stop()
    last.close()
  }
  report.row({
    name: `${WHAT} from a file, from SIGHUP until the packet program sees the last`,
    unit: 'ms',
    value: ms,
    goal: LOAD,
    note: `the daemon ran for ${Math.round((daemon.cpuNs() - cpu) / 1e6).toLocaleString('en')} ms of it`,
  })
  report.row({
    name: 'a small request meanwhile, at most',
    unit: 'µs',
    value: waited.most * 1e3,
    note: `99 % within ${waited.p99.toFixed(1)} ms`,
  })
}

const ROUNDS = 8

/** A service more at the end of the file, or one less: a change of a line or two. */
async function change(report: Reporter, daemon: Daemon, file: File): Promise<void> {
  const last = new Forwarded(EXTRA)
  const whole = lines()
  const extra = [
    ...[`  - tcp: ${EXTRA}`, '    scheduler: wrr', '    real_servers:'],
    `      - {address: "${serverAt(0, 0)}", method: nat, weight: 1}`,
  ]
  const times: number[] = []
  const waits: number[] = []
  let cpu = 0
  for (let round = 0; round < ROUNDS; round++) {
    const there = round % 2 === 0
    await sleep(1500)
    file.write(`${[...whole, ...(there ? extra : [])].join('\n')}\n`)
    const before = daemon.cpuNs()
    const others = new Latency(daemon.socket)
    try {
      times.push(await effectMs(daemon, last, there))
    } finally {
      waits.push((await others.stop()).most)
    }
    cpu += daemon.cpuNs() - before
  }
  last.close()
  report.row({
    name: `one service more or less in that file, from SIGHUP until the packet program sees it`,
    unit: 'ms',
    value: median(times),
    best: Math.min(...times),
    goal: CHANGE,
    note: `most ${Math.round(Math.max(...times))}; the daemon ran for ${Math.round(cpu / ROUNDS / 1e6)} ms of it`,
  })
  report.row({
    name: 'a small request meanwhile, at most',
    unit: 'µs',
    value: median(waits) * 1e3,
    note: `worst round ${Math.max(...waits).toFixed(1)} ms`,
  })
}

export const site: Section = {
  name: 'site',
  about: `a file of ${REAL_SERVERS.toLocaleString('en')} real servers, on XDP`,
  secondsMax: 120,
  async run(report) {
    const file = new File()
    file.write('')
    try {
      await withDaemon('site', ['--config', file.path], (daemon) =>
        part(report, 'load', async () => {
          await load(report, daemon, file)
          await part(report, 'one change', () => change(report, daemon, file))
        }),
      )
    } finally {
      file.remove()
    }
  },
}
