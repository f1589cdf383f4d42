/**
 * `npm start -- --registry etcd`: real servers that register themselves, one that is killed without a word and
 * gone with its lease, and back.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { until } from './command.ts'
import { type DataplaneName, executable } from './director.ts'
import { Etcd } from './etcd.ts'
import type { Lab } from './lab.ts'
import { inNamespace } from './namespace.ts'
import { endWithUs, killed } from './processes.ts'
import { detail, problem, step } from './telling.ts'
import { endpoint, hostNamed, realServers, topology } from './topology.ts'

const ETCD_PORT = { clients: 2379, peers: 2380 }
const PREFIX = '/services/web/'
const TTL_S = 3
const REQUESTS = 300
const PATIENCE_MS = 60_000
const TARGET = { address: topology.virtual.nat.ipv4, port: 80 }

export async function demonstrateRegistry(
  lab: Lab,
  dataplane: DataplaneName,
  outlive: boolean,
): Promise<void> {
  const director = hostNamed('director').servers?.ipv4 ?? ''
  const { runDir } = lab.director
  mkdirSync(runDir, { recursive: true, mode: 0o755 })
  const etcd = new Etcd({
    name: 'lab',
    url: `http://${endpoint(director, ETCD_PORT.clients)}`,
    peer: `http://${endpoint(director, ETCD_PORT.peers)}`,
    namespace: lab.director.namespace,
    folder: `${runDir}/etcd`,
    outlive,
  })
  const registered = new Registered(lab, etcd.url, outlive)
  etcd.start()
  let shown = false
  try {
    await show(lab, dataplane, etcd, registered)
    shown = true
  } finally {
    if (!outlive || !shown) {
      await registered.end()
      await etcd.remove()
    }
  }
}

async function show(
  lab: Lab,
  dataplane: DataplaneName,
  { url }: Etcd,
  registered: Registered,
): Promise<void> {
  const file = `${lab.director.runDir}/registry.yaml`
  const text = `registries: { lab: { kind: etcd, endpoints: ["${url}"] } }
pools: { web: { registry: lab, name: ${PREFIX}, method: nat } }
services: [{ tcp: "${endpoint(TARGET.address, TARGET.port)}", scheduler: rr, pools: [web] }]
`
  writeFileSync(file, text)
  step(`director: pointsmand --config ${file}, etcd beside it`)
  detail(text)
  await lab.director.start({ dataplane, config: file })

  step('real servers register themselves')
  const all = realServers().map(({ name }) => name)
  for (const name of all) detail(`${name}: pointsman ${registered.start(name).join(' ')}`)
  await serving(lab, all)
  await showSources(lab)
  await load(lab, all)

  const lost = all.at(-1)!
  const others = all.filter((name) => name !== lost)
  step(`${lost} is killed without a word, with its web server`)
  await Promise.all([registered.kill(lost), lab.stopServer(lost)])
  const beganAt = performance.now()
  await serving(lab, others)
  const seconds = ((performance.now() - beganAt) / 1000).toFixed(1)
  detail(`gone ${seconds} s later: its lease was one of ${TTL_S} s`)
  await load(lab, others)

  step(`${lost} comes back`)
  await lab.startServer(lost)
  registered.start(lost)
  await serving(lab, all)
  await load(lab, all)

  const [first = ''] = all
  step(`${first} is told to end: it says so, and waits for no lease`)
  await registered.stop(first)
  await serving(lab, all.slice(1))
  await load(lab, all.slice(1))
  registered.start(first)
  await serving(lab, all)
  await showSources(lab)
}

/** The processes that keep real servers registered, each in its host. */
class Registered {
  readonly #lab: Lab
  readonly #url: string
  readonly #outlive: boolean
  readonly #processes = new Map<string, ChildProcess>()

  constructor(lab: Lab, url: string, outlive: boolean) {
    this.#lab = lab
    this.#url = url
    this.#outlive = outlive
  }

  /** Returns what it was started with. */
  start(name: string): string[] {
    const words = [
      ...['register', 'etcd', '--endpoint', this.#url, '--service', PREFIX],
      ...['--address', realServer(name), '--ttl', `${TTL_S}s`, '--check', 'http:/'],
    ]
    const [program, ...rest] = inNamespace(this.#lab.prefix + name, [executable('pointsman'), ...words])
    const child = spawn(program, rest, { stdio: 'ignore', detached: this.#outlive })
    child.unref()
    if (!this.#outlive) endWithUs(child)
    this.#processes.set(name, child)
    return words
  }

  async stop(name: string): Promise<void> {
    const child = this.#processes.get(name)
    if (child === undefined) return
    child.ref()
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await ended
  }

  async kill(name: string): Promise<void> {
    await killed(this.#processes.get(name) ?? null)
  }

  async end(): Promise<void> {
    await Promise.all([...this.#processes.keys()].map((name) => this.kill(name)))
  }
}

function realServer(name: string): string {
  return endpoint(hostNamed(name).servers?.ipv4 ?? '', topology.ports.httpBehindNat)
}

/** Waits until these are the real servers in the list, and in force. */
async function serving(lab: Lab, names: readonly string[]): Promise<void> {
  const wanted = names.map(realServer).sort().join(' ')
  await until(`the real servers ${wanted}`, PATIENCE_MS, async () => {
    const { stdout } = await lab.director.ipvsadm(['-Sn'])
    const listed = [...stdout.matchAll(/ -r (\S+) /g)].map(([, server]) => server)
    return listed.sort().join(' ') === wanted && (await lab.director.isInForce()) ? true : undefined
  })
  detail((await lab.director.ipvsadm(['-Ln'])).stdout)
}

async function showSources(lab: Lab): Promise<void> {
  detail((await lab.director.pointsman(['sources'])).stdout)
}

/** Requests are answered, by these and nobody else. */
async function load(lab: Lab, names: readonly string[]): Promise<void> {
  const { answers, failures } = await lab.client.load({ ...TARGET, requests: REQUESTS, concurrency: 4 })
  const shares = realServers().map(({ name }) => `${name} ${answers[name] ?? 0}`)
  detail(`${REQUESTS} requests: ${shares.join(', ')}`)
  for (const [message, number] of Object.entries(failures)) problem(`${number} requests failed: ${message}`)
  for (const { name } of realServers())
    if ((answers[name] ?? 0) > 0 !== names.includes(name))
      problem(
        `${name} ${names.includes(name) ? 'is registered, and was not asked' : 'is gone, and was asked'}`,
      )
}
