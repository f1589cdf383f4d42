/** From what is written in a registry to what packets meet: real daemons, a real packet program. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sleep } from '../lab/command.ts'
import { ipBatch } from '../lab/namespace.ts'
import { enterNetns } from '../linux/netns.ts'
import { goAhead } from './bpf.ts'
import { Daemon } from './daemon.ts'
import { Forwarded, serverAt, serviceAt } from './many.ts'
import { DIRECTOR, makeDirector, Namespaces, namespacePath } from './network.ts'
import { type Goal, part, type Reporter, type RunOptions, type Section, Skip } from './section.ts'
import { median, quantile } from './statistics.ts'

const MEDIAN: Goal = { of: 'value', bound: 'most', limit: 50 }
const MOST: Goal = { of: 'value', bound: 'most', limit: 200 }
const PATIENCE_MS = 20_000
/** Real servers. */
const POOLS = [3, 1000, 10_000] as const
/** Up to this size a change has to be as quick as is promised; what a larger pool takes is shown. */
const PROMISED = 1000
/** Nodes of ZooKeeper are written one by one. */
const NODES = 1000
const TTL_ROUNDS = 12

/** One real server among others that get nothing: whether packets of its service are forwarded is up to it. */
interface Written {
  /** Returns when the registry has taken it. */
  write(present: boolean): Promise<void>
  close(): void
}

interface Case {
  readonly forwarded: Forwarded
  readonly rounds: number
  readonly daemon: Daemon
}

/** From when it is sent to the registry: what that takes is part of it. */
async function latencies({ forwarded, rounds, daemon }: Case, written: Written): Promise<number[]> {
  const times: number[] = []
  for (let round = 0; round <= rounds; round++) {
    const present = round % 2 === 0
    // Not in step with anybody's clock.
    await sleep(20 + Math.random() * 60)
    const started = performance.now()
    const writing = written.write(present)
    while (forwarded.seen() !== present) {
      if (performance.now() - started > PATIENCE_MS)
        throw new Error(`the packet program never saw the change: ${daemon.logTail()}`)
      await sleep(1)
    }
    // The first one is no change of a service that is in force.
    if (round > 0) times.push(performance.now() - started)
    await writing
  }
  return times
}

function tell(report: Reporter, title: string, times: readonly number[], goals: boolean): void {
  report.title(title)
  const note = `${times.length} changes, most ${Math.max(...times).toFixed(0)} ms`
  const best = Math.min(...times)
  report.row({
    name: 'written until packets meet it: median',
    unit: 'ms',
    value: median(times),
    best,
    ...(goals ? { goal: MEDIAN } : {}),
  })
  report.row({
    name: 'the same: 99 of 100 within',
    unit: 'ms',
    value: quantile(times, 0.99),
    note,
    ...(goals ? { goal: MOST } : {}),
  })
}

const entry = (index: number, weight: number): string =>
  JSON.stringify({ address: serverAt(Math.floor(index / 10), index % 10), weight })

export const registries: Section = {
  name: 'registries',
  about: 'from the write in etcd, ZooKeeper, a cluster and bind9 to the packet program, on XDP',
  secondsMax: 240,
  async run(report, options) {
    const namespaces = new Namespaces()
    const folder = mkdtempSync(join(tmpdir(), 'pmbench-registries-'))
    try {
      const name = await makeDirector(namespaces, 'registries')
      await ipBatch(name, [`route add 10.64.0.0/12 via ${DIRECTOR.real[4]}`])
      // Whoever is started from here on is in the director's network. Not at the head of this file: those who
      // import it for the list of sections stay where they are.
      const servers = await import('../test/control/registry/processes.ts')
      enterNetns(namespacePath(name))
      goAhead()
      const daemonWith: DaemonWith = async (text, body, option = '--config') => {
        const file = join(folder, 'pointsman.yaml')
        writeFileSync(file, text)
        const daemon = new Daemon({
          namespace: namespacePath(name),
          interfaces: [DIRECTOR.client.device, DIRECTOR.server.device],
          dataplane: 'xdp',
          options: [option, file],
        })
        try {
          await daemon.start()
          await body(daemon)
        } finally {
          await daemon.stop()
        }
      }
      await part(report, 'etcd', () => etcd(report, options, daemonWith))
      await part(report, 'ZooKeeper', () => zookeeper(report, options, servers.freePorts, daemonWith))
      await part(report, 'Kubernetes', () => kubernetes(report, options, folder, daemonWith))
      await part(report, 'bind9', () => dns(report, servers.freePorts, daemonWith))
    } finally {
      await namespaces.remove()
      rmSync(folder, { recursive: true })
    }
  },
}

type DaemonWith = (
  text: string,
  body: (daemon: Daemon) => Promise<void>,
  option?: '--config' | '--kubernetes',
) => Promise<void>
type FreePorts = (count: number) => Promise<number[]>

/** The virtual service whose real servers come out of the registry. */
const SERVICE = '10.96.0.0:80'

function configuration(registry: object, name: string): string {
  return JSON.stringify({
    registries: { site: registry },
    pools: { web: { registry: 'site', name, method: 'nat', allow_empty: true } },
    services: [{ tcp: SERVICE, scheduler: 'rr', pools: ['web'] }],
  })
}

async function measured(
  report: Reporter,
  title: string,
  rounds: number,
  daemon: Daemon,
  written: Written,
  goals = true,
): Promise<void> {
  const forwarded = new Forwarded(SERVICE)
  try {
    tell(report, title, await latencies({ forwarded, rounds, daemon }, written), goals)
  } finally {
    forwarded.close()
    written.close()
  }
}

async function etcd(report: Reporter, { quick }: RunOptions, daemonWith: DaemonWith): Promise<void> {
  const { etcdMissing, startEtcd } = await import('../test/control/registry/etcd-process.ts')
  const { etcdAddress } = await import('../test/control/registry/addresses.ts')
  const { EtcdGateway } = await import('../control/registry/etcd/gateway.ts')
  if (etcdMissing !== false) throw new Skip(etcdMissing)
  const server = await startEtcd()
  const gateway = new EtcdGateway(etcdAddress([server.url]))
  try {
    for (const size of POOLS) {
      const name = `/${size}/`
      for (let index = 0; index < size; index++) await gateway.put(`${name}${index}`, entry(index, 0))
      const text = configuration({ kind: 'etcd', endpoints: [server.url] }, name)
      await daemonWith(text, (daemon) =>
        measured(
          report,
          `etcd, a pool of ${size.toLocaleString('en')}`,
          quick ? 40 : 400,
          daemon,
          {
            write: (present) => gateway.put(`${name}1`, entry(1, present ? 1 : 0)),
            close: () => {},
          },
          size <= PROMISED,
        ),
      )
    }
  } finally {
    gateway.close()
    await server.remove()
  }
}

async function zookeeper(
  report: Reporter,
  { quick }: RunOptions,
  freePorts: FreePorts,
  daemonWith: DaemonWith,
): Promise<void> {
  const { openSession, ZooKeeper, zookeeperMissing } = await import(
    '../test/control/registry/zookeeper-process.ts'
  )
  if (zookeeperMissing !== false) throw new Skip(zookeeperMissing)
  const [port = 0] = await freePorts(1)
  const server = new ZooKeeper(port)
  try {
    await server.start()
    const session = await openSession(server.endpoint, 20_000)
    await session.create('/web', '', false)
    for (let index = 0; index < NODES; index++) await session.create(`/web/${index}`, entry(index, 0), false)
    const registry = { kind: 'zookeeper', endpoints: [server.endpoint] }
    await daemonWith(configuration(registry, '/web'), (daemon) =>
      measured(report, `ZooKeeper, a pool of ${NODES.toLocaleString('en')}`, quick ? 40 : 400, daemon, {
        write: (present) => session.set('/web/1', entry(1, present ? 1 : 0)),
        close: () => session.close(),
      }),
    )
  } finally {
    await server.remove()
  }
}

/** A name is asked for again when its time to live is over, which is a second at the least. */
async function dns(report: Reporter, freePorts: FreePorts, daemonWith: DaemonWith): Promise<void> {
  const { Named, namedMissing } = await import('../test/control/registry/named-process.ts')
  if (namedMissing !== false) throw new Skip(namedMissing)
  const [port = 0] = await freePorts(1)
  const server = new Named(port)
  const address = serverAt(0, 1).split(':')[0]
  try {
    server.write('web IN TXT "nobody"')
    await server.start()
    const registry = { kind: 'dns', endpoints: [server.endpoint] }
    await daemonWith(configuration(registry, 'web.lab.test'), (daemon) =>
      measured(
        report,
        'bind9, a name with a time to live of a second',
        TTL_ROUNDS,
        daemon,
        {
          write: async (present) => server.write(present ? `web IN A ${address}` : 'web IN TXT "nobody"'),
          close: () => {},
        },
        false,
      ),
    )
  } finally {
    await server.remove()
  }
}

const CLUSTER_SERVICES = 5000

/** The API server is the tests' own, in this process: what it takes is part of it. */
async function kubernetes(
  report: Reporter,
  { quick }: RunOptions,
  folder: string,
  daemonWith: DaemonWith,
): Promise<void> {
  const { ApiServer } = await import('../test/control/source/kubernetes/api-server.ts')
  const api = new ApiServer()
  const addressOf = (index: number): string => serviceAt(index).split(':')[0] ?? ''
  const slice = (index: number, ready: boolean) => ({
    metadata: { namespace: 'n', name: `s${index}`, labels: { 'kubernetes.io/service-name': `s${index}` } },
    addressType: 'IPv4',
    ports: [{ name: 'web', protocol: 'TCP', port: 8080 }],
    endpoints: [0, 1].map((pod) => ({
      addresses: [serverAt(index, pod).split(':')[0]],
      conditions: { ready, serving: ready, terminating: false },
    })),
  })
  for (let index = 0; index < CLUSTER_SERVICES; index++) {
    const spec = {
      type: 'LoadBalancer',
      loadBalancerClass: 'pointsman.dev/director',
      ipFamilies: ['IPv4'],
      loadBalancerIP: addressOf(index),
      ports: [{ name: 'web', protocol: 'TCP', port: 80 }],
    }
    api.put('services', { metadata: { namespace: 'n', name: `s${index}` }, spec })
    api.put('endpointslices', slice(index, true))
  }
  await api.start()
  try {
    writeFileSync(join(folder, 'token'), api.token)
    const text = `api: ${api.url}\ntoken_file: token\naddresses: [10.96.0.0/16]\nscheduler: rr\n`
    const started = performance.now()
    const waitFor = async (daemon: Daemon, condition: () => boolean): Promise<void> => {
      while (!condition()) {
        if (performance.now() - started > 10 * PATIENCE_MS) throw new Error(daemon.logTail())
        await sleep(5)
      }
    }
    await daemonWith(
      text,
      async (daemon) => {
        const last = new Forwarded(serviceAt(CLUSTER_SERVICES - 1))
        try {
          await waitFor(daemon, () => last.seen())
        } finally {
          last.close()
        }
        const ms = performance.now() - started
        const cpu = daemon.cpuNs() / 1e6
        const isTold = (index: number): boolean => {
          const status = api.get('services', `n/s${index}`)?.status
          return JSON.stringify(status)?.includes(addressOf(index)) ?? false
        }
        const all = Array.from({ length: CLUSTER_SERVICES }, (_, index) => index)
        await waitFor(daemon, () => all.every(isTold))
        report.title(`Kubernetes, ${CLUSTER_SERVICES.toLocaleString('en')} Services of two pods`)
        report.row({
          name: 'from the start of the daemon until the packet program sees the last',
          unit: 'ms',
          value: ms,
          note: `the daemon ran for ${Math.round(cpu).toLocaleString('en')} ms of it; all are told after ${Math.round(performance.now() - started).toLocaleString('en')} ms`,
        })
        const written: Written = {
          write: async (present) => api.put('endpointslices', slice(0, present)),
          close: () => {},
        }
        const title = 'the same, readiness of the pods of one'
        await measured(report, title, quick ? 40 : 400, daemon, written, false)
      },
      '--kubernetes',
    )
    if (api.problems.length > 0) throw new Error(api.problems.join())
  } finally {
    await api.stop()
  }
}
