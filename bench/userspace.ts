/** The userspace plane beside a C loop with the same socket calls, the kernel's nftables, HAProxy and nginx. */

import { readdirSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { builtFile } from '../dataplane/assets.ts'
import { attachXdp } from '../dataplane/kernel/xdp.ts'
import { must, sleep } from '../lab/command.ts'
import { possibleCpus } from '../linux/cpus.ts'
import { readNetDevice } from '../linux/device.ts'
import { libc } from '../linux/libc.ts'
import { inNetns } from '../linux/netns.ts'
import { goAhead, stayOnCpu, threadNs } from './bpf.ts'
import { BULK_PORT, bulk, congestionControls, useCongestionControl } from './bulk.ts'
import { Daemon } from './daemon.ts'
import { addDnat } from './dnat.ts'
import { receivedPackets, runLive, SoftirqClock } from './live.ts'
import { nativeProgram } from './native.ts'
import { Namespaces } from './network.ts'
import { PROXIES, startProxy } from './proxies.ts'
import { goals, ratios } from './ratios.ts'
import { type Goal, part, type Reporter, type Section, Skip } from './section.ts'
import { compare, median, quantile } from './statistics.ts'
import { fromClients, MAC } from './traffic.ts'
import { makeTriangle, Processes, TRIANGLE, type Triangle, within } from './triangle.ts'
import { Wrapper } from './wrapper.ts'

const UDP_PORT = 80
const SINK_PORT = 8000
const ECHO_PORT = 5002

const LIKE_C: Goal = { of: 'ratio', bound: 'least', limit: 0.9 }
const LIKE_DNAT: Goal = { of: 'ratio', bound: 'least', limit: 0.5 }
const LIKE_DNAT_XDP: Goal = { of: 'ratio', bound: 'least', limit: 0.75 }
const TWICE_A_PROXY: Goal = { of: 'ratio', bound: 'least', limit: 2 }
const BULK_LIKE_DNAT: Goal = { of: 'ratio', bound: 'least', limit: 0.8 }
const LATENCY_IDLE: Goal = { of: 'value', bound: 'most', limit: 100 }
const LATENCY_BUSY: Goal = { of: 'value', bound: 'most', limit: 30 }

/** One way to forward, with a client and a server of its own. */
interface Contender {
  readonly name: string
  readonly triangle: Triangle
  /** The process that forwards; null: the kernel. */
  readonly pid: number | null
}

type Forwarder = Contender & { readonly pid: number }

interface Stage {
  readonly report: Reporter
  readonly namespaces: Namespaces
  readonly processes: Processes
  readonly daemons: Daemon[]
}

/** A daemon in a triangle of its own; NAT services for all that is measured. */
async function plane(
  stage: Stage,
  name: string,
  label: string,
  options: readonly string[] = [],
): Promise<Contender & { readonly daemon: Daemon }> {
  const triangle = await makeTriangle(stage.namespaces, label)
  const daemon = new Daemon({
    namespace: triangle.director,
    interfaces: ['c0', 'r0'],
    dataplane: 'userspace',
    options: [
      '--connections',
      '65536',
      '--connections6',
      '1024',
      '--services',
      '64',
      '--real-servers',
      '1024',
      ...options,
    ],
  })
  stage.daemons.push(daemon)
  await daemon.start()
  const { vip, sink, server } = TRIANGLE
  await daemon.restore([
    `-A -u ${vip}:${UDP_PORT} -s rr`,
    `-a -u ${vip}:${UDP_PORT} -r ${sink}:${SINK_PORT} -m -w 1`,
    `-A -u ${vip}:${ECHO_PORT} -s rr`,
    `-a -u ${vip}:${ECHO_PORT} -r ${server.address}:${ECHO_PORT} -m -w 1`,
    `-A -t ${vip}:${BULK_PORT} -s rr`,
    `-a -t ${vip}:${BULK_PORT} -r ${server.address}:${BULK_PORT} -m -w 1`,
  ])
  return { name, triangle, pid: daemon.forwarderPid, daemon }
}

async function dnat(stage: Stage): Promise<Contender> {
  const triangle = await makeTriangle(stage.namespaces, 'dnat')
  const { vip, sink, server } = TRIANGLE
  await addDnat(triangle.director, [
    { protocol: 'udp', at: { address: vip, port: UDP_PORT }, to: { address: sink, port: SINK_PORT } },
    {
      protocol: 'udp',
      at: { address: vip, port: ECHO_PORT },
      to: { address: server.address, port: ECHO_PORT },
    },
    {
      protocol: 'tcp',
      at: { address: vip, port: BULK_PORT },
      to: { address: server.address, port: BULK_PORT },
    },
  ])
  return { name: 'nftables DNAT', triangle, pid: null }
}

async function cLoop(stage: Stage, mode: 'packet' | 'xdp'): Promise<Contender> {
  const program = await nativeProgram('forward', ['bpf'])
  const triangle = await makeTriangle(stage.namespaces, `c-${mode}`)
  // As the plane does: what the loop takes is not the kernel's business.
  const keepOff = [
    'table netdev bench {',
    'chain take {',
    'type filter hook ingress device "c0" priority -500',
    `ip daddr ${TRIANGLE.vip} drop`,
    '}',
    '}',
    '',
  ]
  await must(within(triangle.director, ['nft', '-f', '-']), { input: keepOff.join('\n') })
  const { mac } = inNetns(triangle.director, () => readNetDevice('r0'))
  const smac = Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
  const object = mode === 'xdp' ? [builtFile('xsk.bpf.o')] : []
  const child = await stage.processes.start(
    within(triangle.director, [
      program,
      mode,
      'c0',
      'r0',
      smac,
      MAC.server,
      TRIANGLE.sink,
      String(SINK_PORT),
      ...object,
    ]),
  )
  const name = mode === 'packet' ? 'C loop, AF_PACKET' : 'C loop, AF_XDP'
  return { name, triangle, pid: child.pid! }
}

// ---- small packets

const BURST = 1024
const BURSTS = 32
const ROUNDS = 5
/**
 * From its start V8 is quiet for some eight seconds, then it collects its garbage on several threads, once:
 * what a daemon costs is measured after that.
 */
const SETTLE_MS = 12_000
/** V8 compiles what has been called some thousand times: with so many rounds all of the loop is. */
const WARM_ROUNDS = 15
/** For the forwarder to take what came at once. */
const BURST_PATIENCE_MS = 60
/** Longer than any ring. */
const FLOOD = 131_072
const FLOOD_OVER_MS = 5
/** A forwarder that lets more than that be lost has stopped. */
const FLOOD_LEAST = 0.05

/** All but the one that generates or measures. */
const OTHER_CPUS = cpus().length > 1 ? `0-${cpus().length - 2}` : '0'

/** Nanoseconds that all threads of a process have run. */
function processNs(pid: number): number {
  let ns = 0
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0])
    } catch {
      // it has ended since
    }
  }
  return ns
}

interface Flooded {
  /** Packets that arrived. */
  readonly packets: number
  /** CPU time of the forwarding process. */
  readonly processNs: number
}

interface Spent {
  /** Packets that arrived. */
  readonly packets: number
  /** CPU time of the forwarding process. */
  readonly processNs: number
  /** Of everything: generator, softirq, process. */
  readonly allNs: number
}

class SmallPackets {
  readonly #wrapper = new Wrapper(possibleCpus())
  readonly #clocks = cpus().map((_, cpu) => new SoftirqClock(cpu))
  readonly #traffic = fromClients({ address: TRIANGLE.vip, port: UDP_PORT }, { protocol: 'udp' })
  readonly #links: number[] = []

  get drop(): number {
    return this.#wrapper.references.drop
  }

  /** Lets frames end right behind the wire, to know what the generator costs by itself. */
  block(triangle: Triangle): void {
    inNetns(triangle.director, () => {
      this.#links.push(attachXdp(this.drop, { ...readNetDevice('c0'), kind: 'veth' }, 'native').fd)
    })
  }

  #softirqNs(): number {
    return this.#clocks.reduce((sum, clock) => sum + clock.otherNs(), 0)
  }

  /** Bursts with pauses, so that the forwarder's ring never overflows; nothing but CPU time is looked at. */
  async send(contender: Contender, arrives: boolean): Promise<Spent> {
    const { triangle, pid } = contender
    const count = (): number => receivedPackets(triangle.server, TRIANGLE.server.device)
    this.#wrapper.choose({ traffic: this.#traffic, flows: 1 })
    this.#wrapper.aim(this.#wrapper.references.nop)
    const first = count()
    const before = { process: pid === null ? 0 : processNs(pid), softirq: this.#softirqNs() }
    let generator = 0
    for (let burst = 1; burst <= BURSTS; burst++) {
      const started = threadNs()
      inNetns(triangle.client, () =>
        runLive(this.#wrapper.programFd, this.#traffic.frame, triangle.ifindex, BURST),
      )
      generator += threadNs() - started
      const late = performance.now() + BURST_PATIENCE_MS
      while (arrives && count() - first < burst * BURST && performance.now() < late) await sleep(1)
    }
    const process = pid === null ? 0 : processNs(pid) - before.process
    const packets = count() - first
    if (arrives && (packets < BURSTS * BURST * 0.95 || packets > BURSTS * BURST * 1.05)) {
      throw new Error(`${contender.name}: sent ${BURSTS * BURST} packets, ${packets} arrived`)
    }
    const softirq = this.#softirqNs() - before.softirq
    return { packets: BURSTS * BURST, processNs: process, allNs: generator + softirq + process }
  }

  /** As fast as the generator can, without a pause: what the forwarder has no time for is lost. */
  async flood({ name, triangle, pid }: Forwarder): Promise<Flooded> {
    const count = (): number => receivedPackets(triangle.server, TRIANGLE.server.device)
    this.#wrapper.choose({ traffic: this.#traffic, flows: 1 })
    this.#wrapper.aim(this.#wrapper.references.nop)
    const first = count()
    const before = processNs(pid)
    inNetns(triangle.client, () =>
      runLive(this.#wrapper.programFd, this.#traffic.frame, triangle.ifindex, FLOOD),
    )
    let last = -1
    let now = count()
    while (now !== last) {
      await sleep(FLOOD_OVER_MS)
      last = now
      now = count()
    }
    const packets = now - first
    if (packets < FLOOD * FLOOD_LEAST || packets > FLOOD) {
      throw new Error(`${name}: sent ${FLOOD} packets, ${packets} arrived`)
    }
    return { packets, processNs: processNs(pid) - before }
  }

  close(): void {
    for (const link of this.#links) libc.close(link)
    this.#wrapper.close()
  }
}

async function smallPackets(stage: Stage, ours: Contender, kernel: Contender): Promise<void> {
  const { report } = stage
  const packet = await cLoop(stage, 'packet')
  const contenders: Contender[] = [kernel, packet, ours]
  const add = async (name: string, make: () => Promise<Contender>): Promise<Contender | null> => {
    let made: Contender | null = null
    await part(report, name, async () => {
      made = await make()
      contenders.push(made)
    })
    return made
  }
  const cXdp = await add('C loop, AF_XDP', () => cLoop(stage, 'xdp'))
  const oursXdp = await add('pointsman, AF_XDP', () =>
    plane(stage, 'pointsman, AF_XDP', 'plane-xdp', ['--engine', 'xdp']),
  )
  const blocked: Contender = {
    name: 'generator alone',
    triangle: await makeTriangle(stage.namespaces, 'blocked'),
    pid: null,
  }
  // Last: whatever is started from now on would stay on this CPU too.
  stayOnCpu(cpus().length - 1)
  const small = new SmallPackets()
  try {
    small.block(blocked.triangle)
    const forwarders = contenders.filter((contender): contender is Forwarder => contender.pid !== null)
    for (const { pid } of forwarders) await confine(pid, OTHER_CPUS)
    const rows = () => new Map<Contender, number[]>(contenders.map((contender) => [contender, []]))
    const flooded = rows()
    const inBursts = rows()
    const perCpu = rows()
    for (const contender of contenders) {
      const rounds = contender === ours || contender === oursXdp ? WARM_ROUNDS : 1
      for (let round = 0; round < rounds; round++) await small.send(contender, true)
    }
    await sleep(SETTLE_MS)
    for (let round = 0; round < ROUNDS; round++) {
      for (const contender of forwarders) {
        const { packets, processNs } = await small.flood(contender)
        flooded.get(contender)!.push((packets * 1e9) / processNs)
      }
      const floor = await small.send(blocked, false)
      for (const contender of contenders) {
        const spent = await small.send(contender, true)
        inBursts.get(contender)!.push((spent.packets * 1e9) / spent.processNs)
        perCpu.get(contender)!.push((spent.packets * 1e9) / (spent.allNs - floor.allNs))
      }
    }
    const likeC = goals([ours, LIKE_C], [oursXdp, LIKE_C])
    const besideC = (title: string, results: typeof flooded, wanted: typeof likeC): void => {
      report.title(title)
      ratios(report, results, packet, [packet, ours], 'packets/s', wanted)
      if (cXdp !== null) ratios(report, results, cXdp, [cXdp, oursXdp], 'packets/s', wanted)
    }
    besideC(
      '64-byte UDP, one flow, more than can be forwarded: packets per second of the forwarding process',
      flooded,
      likeC,
    )
    besideC(
      `the same in bursts of ${BURST} with pauses, waking up and cold caches included`,
      inBursts,
      goals(),
    )
    report.title('bursts, per second of all CPU time: the kernel’s included, the generator’s taken off')
    const wanted = goals([ours, LIKE_DNAT], [oursXdp, LIKE_DNAT_XDP])
    ratios(report, perCpu, kernel, contenders, 'packets/s', wanted)
  } finally {
    small.close()
  }
}

// ---- bulk TCP

const BULK_ROUNDS = 5
/** Until V8 has compiled what super-packets take. */
const BULK_WARM_ROUNDS = 4
async function bulkTcp(stage: Stage, ours: Contender, kernel: Contender): Promise<void> {
  const program = await nativeProgram('bulk')
  const contenders = [kernel, ours]
  const proxies: Contender[] = []
  for (const name of PROXIES) {
    await part(stage.report, name, async () => {
      const made = await startProxy(name, stage.namespaces, stage.processes, BULK_PORT)
      proxies.push({ name, ...made })
    })
  }
  contenders.push(...proxies)
  for (const { triangle } of contenders) {
    await stage.processes.start(within(triangle.server, [program, 'server', String(BULK_PORT)]))
  }
  for (const control of congestionControls()) {
    for (const { triangle } of contenders) useCongestionControl(triangle, control)
    const results = new Map<Contender, number[]>(contenders.map((contender) => [contender, []]))
    for (let round = 0; round < BULK_WARM_ROUNDS; round++) await bulk(ours.triangle, program)
    for (const contender of contenders) await bulk(contender.triangle, program)
    for (let round = 0; round < BULK_ROUNDS; round++) {
      for (const contender of contenders)
        results.get(contender)!.push(await bulk(contender.triangle, program))
    }
    stage.report.title(`bulk TCP, one connection through NAT, congestion control ${control}`)
    ratios(stage.report, results, kernel, contenders, 'Mbit/s', goals([ours, BULK_LIKE_DNAT]))
    for (const proxy of proxies) {
      ratios(stage.report, results, proxy, [ours], 'Mbit/s', goals([ours, TWICE_A_PROXY]))
    }
  }
}

// ---- latency

const LATENCY_ROUNDS = 5
/** What stands for a packet that took longer: a busy machine has them. */
const LATENCY_PATIENCE_NS = 20e6
const LATENCY_PACKETS = 100
const LATENCY_PAUSE_US = 2000

async function oneWay({ name, triangle }: Contender, program: string): Promise<number[]> {
  const words = [TRIANGLE.vip, ECHO_PORT, ECHO_PORT, LATENCY_PACKETS, LATENCY_PAUSE_US].map(String)
  const argv = [program, triangle.client, triangle.server, ...words]
  const output = await must(['taskset', '--cpu-list', String(cpus().length - 1), ...argv])
  const ns = output.trim().split('\n').map(Number)
  if (ns.every((time) => time >= LATENCY_PATIENCE_NS)) throw new Error(`${name}: no packet arrived`)
  return ns
}

async function confine(pid: number, cpuList: string): Promise<void> {
  await must(['taskset', '--all-tasks', '--cpu-list', '--pid', cpuList, String(pid)])
}

/** Rounds of the kernel and one plane in turns. */
async function oneWayInTurns(
  stage: Stage,
  program: string,
  kernel: Contender,
  plane: Contender,
  goal: Goal,
): Promise<void> {
  const contenders = [kernel, plane]
  // The measuring thread never sleeps: it must not be given one CPU together with another like that.
  await confine(plane.pid!, OTHER_CPUS)
  const medians = contenders.map(() => [] as number[])
  const all = contenders.map(() => [] as number[])
  for (let round = 0; round <= LATENCY_ROUNDS; round++) {
    for (const [index, contender] of contenders.entries()) {
      const ns = await oneWay(contender, program)
      // The first round resolves neighbours and compiles code.
      if (round === 0) continue
      medians[index]!.push(median(ns) / 1000)
      all[index]!.push(...ns)
    }
  }
  await confine(plane.pid!, `0-${cpus().length - 1}`)
  for (const [index, { name }] of contenders.entries()) {
    const { value, reference, ratio, least } = compare(medians[index]!, medians[0]!)
    const late = Math.round(quantile(all[index]!, 0.99) / 1000).toLocaleString('en')
    stage.report.row({
      name,
      unit: 'µs',
      value,
      best: least,
      ...(index === 0 ? {} : { reference: { name: kernel.name, value: reference }, ratio, goal }),
      note: `99 of 100 within ${late} µs`,
    })
  }
}

async function latency(stage: Stage, ours: Contender, kernel: Contender): Promise<void> {
  const program = await nativeProgram('latency')
  stage.report.title('one-way latency of a UDP packet when nothing else goes on')
  await oneWayInTurns(stage, program, kernel, ours, LATENCY_IDLE)
  const busy = await plane(stage, 'pointsman, busy polling', 'busy', ['--busy-poll'])
  try {
    await oneWayInTurns(stage, program, kernel, busy, LATENCY_BUSY)
  } finally {
    // It would take a whole CPU from whatever is measured next.
    await busy.daemon.stop()
  }
}

export const userspace: Section = {
  name: 'userspace',
  about: 'the daemon with --dataplane userspace beside a C loop, nftables, HAProxy and nginx',
  secondsMax: 180,
  async run(report) {
    const stage: Stage = { report, namespaces: new Namespaces(), processes: new Processes(), daemons: [] }
    try {
      if (process.getuid?.() !== 0) throw new Skip('packet sockets and namespaces take root')
      goAhead()
      const ours = await plane(stage, 'pointsman', 'plane')
      const kernel = await dnat(stage)
      await part(report, 'bulk TCP', () => bulkTcp(stage, ours, kernel))
      await part(report, 'latency', () => latency(stage, ours, kernel))
      await part(report, 'small packets', () => smallPackets(stage, ours, kernel))
    } finally {
      for (const daemon of stage.daemons.splice(0)) await daemon.stop()
      await stage.processes.stop()
      await stage.namespaces.remove()
    }
  },
}
