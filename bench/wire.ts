/**
 * Two namespaces and a wire between them for every way to forward: a generator in the kernel on one end, a
 * director on the other, and the frames back on the same wire.
 */
import { cpus } from 'node:os'
import type { SchedulerName } from '../control/model/scheduler.ts'
import { putInterface } from '../dataplane/interface-table.ts'
import { KernelDataplane } from '../dataplane/kernel/plane.ts'
import { linkTc } from '../dataplane/kernel/tc.ts'
import { attachXdp } from '../dataplane/kernel/xdp.ts'
import { Verdict } from '../dataplane/layout/layout.gen.ts'
import { must } from '../lab/command.ts'
import { inNamespace, ipBatch, setParameters } from '../lab/namespace.ts'
import { possibleCpus } from '../linux/cpus.ts'
import { readNetDevice } from '../linux/device.ts'
import { libc } from '../linux/libc.ts'
import { inNetns } from '../linux/netns.ts'
import { Floors } from './floors.ts'
import { receivedPackets, runLive, SoftirqClock } from './live.ts'
import { FORWARDING, Namespaces, namespacePath } from './network.ts'
import { BenchRules, expectVerdict, hopTo, readVerdicts } from './rules.ts'
import { type Goal, Skip } from './section.ts'
import { type Endpoint, fromClients, MAC, type Traffic } from './traffic.ts'
import { Wrapper } from './wrapper.ts'

export const WIRE = { generator: 'gen', director: 'c0' } as const
export const ADDRESS = '10.81.0.1'
export const REAL: Endpoint = { address: '10.81.0.3', port: 8000 }
export const SERVICES = {
  DR: { address: '10.200.1.1', port: 80 },
  TUN: { address: '10.200.1.2', port: 80 },
  NAT: { address: '10.200.1.3', port: 80 },
} as const
const METHODS = { DR: 'direct-routing', TUN: 'tunnel', NAT: 'nat' } as const
const FORWARDED = { DR: Verdict.ForwardDr, TUN: Verdict.ForwardTun, NAT: Verdict.ForwardNat } as const
/** Frames that may be lost between generator and sink: veth's rings are short. */
const LOSS_MAX = 0.05

export interface Flows {
  readonly flows: number
  readonly first?: number
  readonly random: boolean
}

/** One way to forward, on a wire of its own. */
export interface Contender {
  readonly name: string
  readonly generator: string
  readonly ifindex: number
  readonly traffic: Traffic
  /** Throws unless the packets were treated as they should. */
  readonly check?: (before: readonly bigint[], packets: number) => void
  readonly verdicts?: () => bigint[]
  readonly prepare?: (flows: number) => void
  readonly ours?: boolean
  /** Instead of that of all others. */
  readonly goal?: Goal
}

export interface Wire {
  readonly generator: string
  readonly director: string
  readonly ifindex: number
}

type Place = 'xdp' | 'stack'

interface WireOptions {
  readonly sink?: Place
  readonly queues?: number
}

export class Scene {
  readonly namespaces = new Namespaces()
  readonly wrapper = new Wrapper(possibleCpus())
  readonly floors = new Floors()
  readonly #clock: SoftirqClock
  readonly #links: number[] = []
  readonly #planes: KernelDataplane[] = []

  /** @param cpu that the calling thread stays on */
  constructor(cpu = cpus().length - 1) {
    this.#clock = new SoftirqClock(cpu)
  }

  /**
   * Two namespaces and a wire. Frames come to the director's XDP program or to its stack; those that come back end in
   * XDP, or in the stack as not for this host.
   */
  async wire(label: string, comes: Place, { sink = comes, queues = 1 }: WireOptions = {}): Promise<Wire> {
    const director = await this.namespaces.make(label)
    const generator = await this.namespaces.make(`${label}-gen`)
    await setParameters(director, FORWARDING)
    const own = `numtxqueues ${queues} numrxqueues ${queues}`
    await ipBatch(director, [
      `link add ${WIRE.director} ${own} address ${MAC.director} type veth peer name ${WIRE.generator} ${own} netns ${generator}`,
      `link set ${WIRE.director} up`,
      `addr add ${ADDRESS}/24 dev ${WIRE.director}`,
      `neigh add ${REAL.address} lladdr ${MAC.server} dev ${WIRE.director}`,
    ])
    await ipBatch(generator, [`link set ${WIRE.generator} up`])
    const path = namespacePath(generator)
    const device = inNetns(path, () => ({ ...readNetDevice(WIRE.generator), kind: 'veth' }))
    if (sink === 'xdp') {
      inNetns(path, () => this.#links.push(attachXdp(this.wrapper.references.drop, device, 'native').fd))
    }
    if (comes === 'stack') {
      // Without a program, veth takes frames from another driver's XDP only where GRO is on.
      await must(inNamespace(director, ['ethtool', '-K', WIRE.director, 'gro', 'on']))
    }
    return { generator: path, director: namespacePath(director), ifindex: device.ifindex }
  }

  /** Closed with the scene. */
  keep(plane: KernelDataplane): void {
    this.#planes.push(plane)
  }

  attach(wire: Wire, programFd: number): void {
    inNetns(wire.director, () => {
      this.#links.push(attachXdp(programFd, { ...readNetDevice(WIRE.director), kind: 'veth' }, 'native').fd)
    })
  }

  attachTc(wire: Wire, programFd: number): void {
    inNetns(wire.director, () => {
      const link = linkTc(programFd, readNetDevice(WIRE.director))
      if (link === null) throw new Skip('traffic control has links from Linux 6.6 on')
      this.#links.push(link)
    })
  }

  /** Packets of a range of flows through a contender; packets per second of CPU time that arrived. */
  send(contender: Contender, flows: Flows, packets: number): number {
    const { generator, ifindex, traffic } = contender
    this.wrapper.choose({ traffic, ...flows })
    this.wrapper.aim(this.wrapper.references.nop)
    const arrived = receivedPackets(generator, WIRE.generator)
    const verdicts = contender.verdicts?.() ?? []
    contender.prepare?.(flows.flows)
    const started = this.#clock.nowNs()
    inNetns(generator, () => runLive(this.wrapper.programFd, traffic.frame, ifindex, packets))
    const ns = this.#clock.nowNs() - started
    const got = receivedPackets(generator, WIRE.generator) - arrived
    contender.check?.(verdicts, packets)
    if (got < packets * (1 - LOSS_MAX) || got > packets * (1 + LOSS_MAX)) {
      throw new Error(`${contender.name}: sent ${packets} packets, ${got} arrived`)
    }
    return (got * 1e9) / ns
  }

  async close(): Promise<void> {
    for (const link of this.#links) libc.close(link)
    this.wrapper.close()
    this.floors.close()
    for (const plane of this.#planes) await plane.close()
    await this.namespaces.remove()
  }
}

export const WIRE_METHODS = ['DR', 'TUN', 'NAT'] as const
export type WireMethod = (typeof WIRE_METHODS)[number]

export interface Ours {
  readonly plane: KernelDataplane
  readonly rules: BenchRules
  readonly contenders: readonly Contender[]
}

export interface OursOptions {
  readonly label?: string
  /** Where packets come to the program. */
  readonly hook?: 'xdp' | 'tc'
  readonly methods?: readonly WireMethod[]
  /** Of the table of IPv4 connections. */
  readonly lines: number
  readonly queues?: number
  /** Where frames end that come back, unless where they come to the program. */
  readonly sink?: Place
  readonly scheduler?: SchedulerName
  /** Real servers of each service: ports of one address. */
  readonly servers?: number
  /** Connections are not remembered. */
  readonly untracked?: true
}

/** The packet program on a wire of its own, with a service for each method. */
export async function pointsman(scene: Scene, options: OursOptions): Promise<Ours> {
  const { hook = 'xdp', label = hook, methods = WIRE_METHODS, lines, queues = 1, servers = 1 } = options
  const comes = hook === 'xdp' ? 'xdp' : 'stack'
  const wire = await scene.wire(label, comes, { sink: options.sink ?? comes, queues })
  const plane = await KernelDataplane.open({
    pinDirectory: null,
    mode: hook === 'xdp' ? 'auto' : 'tc',
    sizes: {
      services: 64,
      serviceBuckets: 64,
      reals: 1024,
      members: options.untracked ? 8192 : 1024,
      connections4: lines,
      connections6: 4,
      cpus: possibleCpus(),
    },
  })
  scene.keep(plane)
  const device = inNetns(wire.director, () => readNetDevice(WIRE.director))
  putInterface(plane, device)
  const rules = new BenchRules(plane)
  rules.reachBy(() => hopTo(device.ifindex))
  rules.clear()
  for (const name of methods) {
    rules.add({
      at: SERVICES[name],
      protocol: 'udp',
      method: METHODS[name],
      ...(options.scheduler === undefined ? {} : { scheduler: options.scheduler }),
      ...(options.untracked === undefined ? {} : { untracked: options.untracked }),
      servers: Array.from({ length: servers }, (_, at) => ({ ...REAL, port: REAL.port + at })),
      source: ADDRESS,
    })
  }
  if (hook === 'xdp') scene.attach(wire, plane.programFd)
  else scene.attachTc(wire, plane.programFd)
  const contenders = methods.map(
    (name): Contender => ({
      name: `pointsman ${name}${hook === 'xdp' ? '' : ', traffic control'}${options.untracked ? ', just enough tracking' : ''}`,
      generator: wire.generator,
      ifindex: wire.ifindex,
      traffic: fromClients(SERVICES[name], { protocol: 'udp' }),
      verdicts: () => readVerdicts(plane),
      prepare: () => rules.holdNextHops(),
      // What veth lost on the way is no verdict of ours: `send` looks at that.
      check: (before, packets) =>
        expectVerdict(plane, before, FORWARDED[name], Math.min(packets, decided(plane, before))),
      ours: true,
    }),
  )
  return { plane, rules, contenders }
}

function decided(plane: KernelDataplane, before: readonly bigint[]): number {
  return readVerdicts(plane).reduce((sum, count, at) => sum + Number(count - before[at]!), 0)
}
