/** The page's questions to a director with a million connections: how long each takes, and who waits meanwhile. */
import { request } from 'node:http'
import { Pins } from '../dataplane/kernel/pins.ts'
import { defaultPinDirectory } from '../linux/bpffs.ts'
import { possibleCpus } from '../linux/cpus.ts'
import { readNetDevice } from '../linux/device.ts'
import { libc } from '../linux/libc.ts'
import type { Daemon } from './daemon.ts'
import { Latency } from './latency.ts'
import { DIRECTOR } from './network.ts'
import { type Goal, part, type Reporter, type Section } from './section.ts'
import { median } from './statistics.ts'
import { fromClients } from './traffic.ts'
import { withDaemon } from './with-daemon.ts'
import { Wrapper } from './wrapper.ts'

const TRIES = 3
const CONNECTIONS = 1 << 20
const ENOUGH = CONNECTIONS * 0.9
/** A line each by direct routing; twice as many, so that the table is no fuller than one should be. */
const LINES = 2 * CONNECTIONS
const SERVICE = '10.96.0.1'
const ROUNDS = 3

const ANSWER: Goal = { of: 'value', bound: 'most', limit: 3000 }
const MEANWHILE: Goal = { of: 'value', bound: 'most', limit: 50 }
const MEMORY: Goal = { of: 'value', bound: 'most', limit: 64 }

/** What somebody at the page does, by what is asked for it. */
const QUESTIONS: readonly (readonly [what: string, query: string])[] = [
  ['the first page, by end', 'order=ends'],
  ['by client, backwards', 'order=-client'],
  ['by real server', 'order=server'],
  ['those of a prefix', `search=${encodeURIComponent('10.1.')}&order=client`],
  ['those of one client, of which there are none', `search=${encodeURIComponent('203.0.113.9')}`],
]

interface Page {
  readonly matched: number
  readonly next: string | null
  readonly connections: readonly unknown[]
}

function ask(socketPath: string, query: string): Promise<Page> {
  return new Promise((resolve, reject) => {
    const path = `/v1/connections/page?limit=50&${query}`
    const outgoing = request({ socketPath, path, agent: false }, (incoming) => {
      let text = ''
      incoming.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      incoming.on('end', () => {
        if (incoming.statusCode === 200) resolve(JSON.parse(text) as Page)
        else reject(new Error(`${path} was answered with ${incoming.statusCode}: ${text.slice(0, 200)}`))
      })
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
}

/** A packet of each client through the program that the daemon has pinned. */
function connect(flags: 'S' | 'A'): void {
  const wrapper = new Wrapper(possibleCpus())
  const program = new Pins(defaultPinDirectory()).openProgram()
  try {
    const { ifindex } = readNetDevice(DIRECTOR.client.device)
    wrapper.choose({
      traffic: fromClients({ address: SERVICE, port: 80 }, { flags }),
      flows: CONNECTIONS,
    })
    wrapper.run(program, ifindex, CONNECTIONS)
  } finally {
    libc.close(program)
    wrapper.close()
  }
}

async function questions(report: Reporter, daemon: Daemon): Promise<void> {
  const { matched } = await ask(daemon.socket, 'order=ends')
  if (matched < ENOUGH) throw new Error(`${matched} connections, expected ${CONNECTIONS}`)
  const before = daemon.memory().own
  const others = new Latency(daemon.socket)
  for (const [what, query] of QUESTIONS) {
    const times: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const started = performance.now()
      await ask(daemon.socket, query)
      times.push(performance.now() - started)
    }
    report.row({
      name: `${matched.toLocaleString('en')} connections, ${what}`,
      unit: 'ms',
      value: median(times),
      best: Math.min(...times),
      goal: ANSWER,
    })
  }
  const turned: number[] = []
  for (let page = 0, after: string | null = null; page < 10; page++) {
    const started = performance.now()
    const query: string = `order=client${after === null ? '' : `&after=${encodeURIComponent(after)}`}`
    after = (await ask(daemon.socket, query)).next
    turned.push(performance.now() - started)
  }
  report.row({
    name: 'turning a page, ten times',
    unit: 'ms',
    value: median(turned),
    best: Math.min(...turned),
    goal: ANSWER,
  })
  const waited = await others.stop()
  report.row({
    name: 'a small request while they are looked for, 99th of 100',
    unit: 'ms',
    value: waited.p99,
    goal: MEANWHILE,
    note: `median ${waited.median.toFixed(1)} ms, most ${waited.most.toFixed(1)}`,
  })
  report.row({
    name: 'memory of the daemon after it, more than before',
    unit: 'MB',
    value: Math.max(0, (daemon.memory().own - before) / 1024),
    goal: MEMORY,
  })
}

export const page: Section = {
  name: 'page',
  about: 'the page over a million connections, on XDP',
  secondsMax: 120,
  run: (report) =>
    withDaemon('page', ['--connections', String(LINES)], async (running) => {
      await running.restore([
        `-A -t ${SERVICE}:80 -s rr`,
        `-a -t ${SERVICE}:80 -r ${DIRECTOR.real[4]}:80 -g -w 1`,
      ])
      for (let n = 0; n < TRIES && (await ask(running.socket, 'order=ends')).matched < ENOUGH; n++) {
        // A SYN alone is a connection for a minute only. The first may come before the real server's address is known.
        connect('S')
        connect('A')
      }
      await part(report, 'questions', () => questions(report, running))
    }),
}
