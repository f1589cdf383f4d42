/** A thousand health checks a second, some of which time out: what they cost, and who waits for them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { must, sleep } from '../lab/command.ts'
import { inNamespace, ipBatch, setParameters } from '../lab/namespace.ts'
import { enterNetns } from '../linux/netns.ts'
import { goAhead } from './bpf.ts'
import { Daemon } from './daemon.ts'
import { Latency, type Waited } from './latency.ts'
import { DIRECTOR, makeDirector, Namespaces, namespacePath } from './network.ts'
import { type Goal, part, type Reporter, type Section } from './section.ts'

const SERVERS = 1000
/** Addresses that lead nowhere: 5 % of them. */
const DEAD = 50
const LOOK_S = 15

const CPU: Goal = { of: 'value', bound: 'most', limit: 30 }
const ADDED: Goal = { of: 'value', bound: 'most', limit: 5000 }
const RATE: Goal = { of: 'value', bound: 'least', limit: (SERVERS - DEAD) * 0.95 }

const address = (index: number): string => `10.64.${index >> 8}.${index & 255}`

/** Over the service's own way, as for direct routing; by NAT, so that one host can be a thousand. */
function configuration(kind: 'http' | 'tcp'): string {
  const services = Array.from({ length: SERVERS / 10 }, (_, service) => ({
    tcp: `10.96.0.${service}:80`,
    scheduler: 'rr',
    checks: [{ kind, path: 'service', interval: '1s', timeout: '500ms', start_jitter: '1s' }],
    real_servers: Array.from({ length: 10 }, (_, server) => ({
      address: `${address(service * 10 + server)}:8080`,
      method: 'nat',
    })),
  }))
  return JSON.stringify({ services })
}

/** The real servers: a namespace to which all their addresses are local, but for those that swallow packets. */
async function makeServers(namespaces: Namespaces, director: string): Promise<string> {
  const name = await namespaces.make('servers')
  const { server, real } = DIRECTOR
  await ipBatch(director, [`link set ${server.device}x netns ${name}`, `neigh flush dev ${server.device}`])
  await ipBatch(director, [
    `neigh del ${real[4]} dev ${server.device}`,
    `route add 10.64.0.0/16 via ${real[4]}`,
    `link set ${server.device} up`,
  ])
  await setParameters(name, { 'ipv4/conf/all/rp_filter': 0, 'ipv4/conf/default/rp_filter': 0 })
  await ipBatch(name, [
    `link set ${server.device}x up`,
    `addr add ${real[4]}/24 dev ${server.device}x`,
    `route add default via ${server[4]}`,
    'route add local 10.64.0.0/16 dev lo',
    ...Array.from({ length: DEAD }, (_, i) => `route add blackhole ${address(i * (SERVERS / DEAD))}/32`),
  ])
  // Its sums are to be whole: what leaves a veth with an open one is for the same machine's stack only.
  await must(
    inNamespace(name, ['ethtool', '-K', `${server.device}x`, 'tx', 'off', 'tso', 'off', 'gso', 'off']),
  )
  return name
}

class WebServer {
  readonly #child: ChildProcess
  connections = 0

  constructor(namespace: string) {
    const source = fileURLToPath(new URL('./web-server.ts', import.meta.url))
    const node = [process.execPath, '--import', import.meta.resolve('tsx'), source]
    this.#child = spawn('nsenter', [`--net=${namespacePath(namespace)}`, '--', ...node], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.#child.on('message', (count: number) => {
      this.connections = count
    })
  }

  async ready(): Promise<void> {
    await new Promise((resolve) => this.#child.once('message', resolve))
  }

  stop(): void {
    this.#child.kill()
  }
}

/** The daemon's and its checker's processor time. */
function cpuNs(daemon: Daemon): number {
  let sum = daemon.cpuNs()
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
      if (Number(fields[1]) === daemon.pid) sum += (Number(fields[11]) + Number(fields[12])) * 1e7
    } catch {
      // It has ended.
    }
  }
  return sum
}

async function look(daemon: Daemon): Promise<Waited & { readonly cpu: number; readonly seconds: number }> {
  const others = new Latency(daemon.socket)
  const [before, started] = [cpuNs(daemon), performance.now()]
  await sleep(LOOK_S * 1000)
  const seconds = (performance.now() - started) / 1000
  const cpu = (cpuNs(daemon) - before) / 1e9 / seconds
  return { ...(await others.stop()), cpu, seconds }
}

/** In turns with a daemon that checks nothing. */
async function measure(report: Reporter, daemon: Daemon, web: WebServer, kind: 'http' | 'tcp', file: string) {
  const apply = async (text: string): Promise<void> => {
    writeFileSync(file, text)
    process.kill(daemon.pid, 'SIGHUP')
    await sleep(4000)
  }
  await apply('{}')
  const idle = await look(daemon)
  await apply(configuration(kind))
  const before = web.connections
  const busy = await look(daemon)
  const rate = (web.connections - before) / busy.seconds
  report.title(`${SERVERS} checks (${kind}) at one second, ${DEAD} of which time out`)
  report.row({ name: 'good answers', unit: '1/s', value: rate, goal: RATE })
  report.row({
    name: 'processor time of daemon and checker, more than without checks',
    unit: '% of a core',
    value: (busy.cpu - idle.cpu) * 100,
    goal: CPU,
    note: `${Math.round(busy.cpu * 100)} % and ${Math.round(idle.cpu * 100)} %, with the requests`,
  })
  report.row({
    name: 'a small request, 99th percentile, more than without checks',
    unit: 'µs',
    value: (busy.p99 - idle.p99) * 1e3,
    goal: ADDED,
    note: `${busy.p99.toFixed(1)} ms and ${idle.p99.toFixed(1)} ms; median ${busy.median.toFixed(1)} ms and ${idle.median.toFixed(1)} ms`,
  })
}

export const checks: Section = {
  name: 'checks',
  about: 'health checks over the service’s own way, on XDP',
  secondsMax: 150,
  async run(report) {
    const namespaces = new Namespaces()
    const folder = mkdtempSync(join(tmpdir(), 'pmbench-checks-'))
    const file = join(folder, 'pointsman.yaml')
    let daemon: Daemon | null = null
    let web: WebServer | null = null
    try {
      const name = await makeDirector(namespaces, 'checks')
      web = new WebServer(await makeServers(namespaces, name))
      await web.ready()
      enterNetns(namespacePath(name))
      goAhead()
      writeFileSync(file, '{}')
      daemon = new Daemon({
        namespace: namespacePath(name),
        interfaces: [DIRECTOR.client.device, DIRECTOR.server.device],
        dataplane: 'xdp',
        options: ['--config', file],
      })
      await daemon.start()
      for (const kind of ['tcp', 'http'] as const) {
        const running = { daemon, web }
        await part(report, kind, () => measure(report, running.daemon, running.web, kind, file))
      }
    } finally {
      await daemon?.stop()
      web?.stop()
      await namespaces.remove()
      rmSync(folder, { recursive: true })
    }
  },
}
