/**
 * Frames end to end over veth: a generator in the kernel, the director in a namespace of its own, the
 * frames back on the same wire. Everything runs on one CPU; a packet's price is what all of it takes.
 */
import { cpus } from 'node:os'
import { putInterface } from '../dataplane/interface-table.ts'
import { KernelDataplane } from '../dataplane/kernel/plane.ts'
import { attachXdp } from '../dataplane/kernel/xdp.ts'
import { Verdict } from '../dataplane/layout/layout.gen.ts'
import { must } from '../lab/command.ts'
import { inNamespace, ipBatch, setParameters } from '../lab/namespace.ts'
import { possibleCpus } from '../linux/cpus.ts'
import { readNetDevice } from '../linux/device.ts'
import { libc } from '../linux/libc.ts'
import { inNetns } from '../linux/netns.ts'
import { stayOnCpu } from './bpf.ts'
import { FLOOR_LABEL, Floors } from './floors.ts'
import { receivedPackets, runLive, SoftirqClock } from './live.ts'
import { FORWARDING, Namespaces, namespacePath } from './network.ts'
import { BenchRules, expectVerdict, readVerdicts } from './rules.ts'
import { type Goal, part, type Reporter, type Section } from './section.ts'
import { compare } from './statistics.ts'
import { type Endpoint, fromClients, MAC, type Traffic } from './traffic.ts'
import { Wrapper } from './wrapper.ts'

const ROUNDS = 9
const ROUNDS_QUICK = 5
/** Packets of one round of one contender. */
const PACKETS = 65_536
const WIRE = { generator: 'gen', director: 'c0' } as const
const ADDRESS = '10.81.0.1'
const REAL: Endpoint = { address: '10.81.0.3', port: 8000 }
const SERVICES = {
  DR: { address: '10.200.1.1', port: 80 },
  TUN: { address: '10.200.1.2', port: 80 },
  NAT: { address: '10.200.1.3', port: 80 },
} as const
const METHODS = { DR: 'direct-routing', TUN: 'tunnel', NAT: 'nat' } as const
const FORWARDED = { DR: Verdict.ForwardDr, TUN: Verdict.ForwardTun, NAT: Verdict.ForwardNat } as const
const TABLE = 8_388_608
const CEILING = 'MAC swap'
/** By flows: what many cost beyond one is memory, which a swap of addresses never touches. */
const OF_CEILING: Readonly<Record<number, Goal>> = {
  1: { of: 'ratio', bound: 'least', limit: 0.75 },
  65536: { of: 'ratio', bound: 'least', limit: 0.47 },
  1048576: { of: 'ratio', bound: 'least', limit: 0.34 },
}
/** Frames that may be lost between generator and sink: veth's rings are short. */
const LOSS_MAX = 0.05

interface Flows {
  readonly flows: number
  readonly first?: number
  readonly random: boolean
}

/** One way to forward, on a wire of its own. */
interface Contender {
  readonly name: string
  readonly generator: string
  readonly ifindex: number
  readonly traffic: Traffic
  /** Throws unless the packets were treated as they should. */
  readonly check?: (before: readonly bigint[], packets: number) => void
  readonly verdicts?: () => bigint[]
  readonly prepare?: (flows: number) => void
  readonly ours?: boolean
}

interface Wire {
  readonly generator: string
  readonly director: string
  readonly ifindex: number
}

class Scene {
  readonly namespaces = new Namespaces()
  readonly wrapper = new Wrapper(possibleCpus())
  readonly floors = new Floors()
  readonly #cpu = cpus().length - 1
  readonly #clock = new SoftirqClock(this.#cpu)
  readonly #links: number[] = []
  plane: KernelDataplane | null = null

  /** Two namespaces and a wire; frames that come back end in XDP, or in the stack as not for this host. */
  async wire(label: string, sink: 'xdp' | 'stack'): Promise<Wire> {
    const director = await this.namespaces.make(label)
    const generator = await this.namespaces.make(`${label}-gen`)
    await setParameters(director, FORWARDING)
    await ipBatch(director, [
      `link add ${WIRE.director} address ${MAC.director} type veth peer name ${WIRE.generator} netns ${generator}`,
      `link set ${WIRE.director} up`,
      `addr add ${ADDRESS}/24 dev ${WIRE.director}`,
      `neigh add ${REAL.address} lladdr ${MAC.server} dev ${WIRE.director}`,
    ])
    await ipBatch(generator, [`link set ${WIRE.generator} up`])
    const path = namespacePath(generator)
    const device = inNetns(path, () => ({ ...readNetDevice(WIRE.generator), kind: 'veth' }))
    if (sink === 'xdp') {
      inNetns(path, () => this.#links.push(attachXdp(this.wrapper.references.drop, device, 'native').fd))
    } else {
      // Without a program, veth takes frames from another driver's XDP only where GRO is on.
      await must(inNamespace(director, ['ethtool', '-K', WIRE.director, 'gro', 'on']))
    }
    return { generator: path, director: namespacePath(director), ifindex: device.ifindex }
  }

  attach(wire: Wire, programFd: number): void {
    inNetns(wire.director, () => {
      this.#links.push(attachXdp(programFd, { ...readNetDevice(WIRE.director), kind: 'veth' }, 'native').fd)
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
    await this.plane?.close()
    await this.namespaces.remove()
  }
}

async function pointsman(scene: Scene): Promise<{ rules: BenchRules; contenders: Contender[] }> {
  const wire = await scene.wire('xdp', 'xdp')
  const plane = await KernelDataplane.open({
    pinDirectory: null,
    sizes: {
      services: 64,
      serviceBuckets: 64,
      reals: 64,
      members: 64,
      connections4: TABLE,
      connections6: 4,
      cpus: possibleCpus(),
    },
  })
  scene.plane = plane
  const device = inNetns(wire.director, () => readNetDevice(WIRE.director))
  putInterface(plane, device)
  const rules = new BenchRules(plane)
  rules.clear()
  const names = ['DR', 'TUN', 'NAT'] as const
  for (const name of names) {
    rules.add({
      at: SERVICES[name],
      protocol: 'udp',
      method: METHODS[name],
      servers: [REAL],
      source: ADDRESS,
    })
  }
  scene.attach(wire, plane.programFd)
  const contenders = names.map(
    (name): Contender => ({
      name: `pointsman ${name}`,
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
  return { rules, contenders }
}

function decided(plane: KernelDataplane, before: readonly bigint[]): number {
  return readVerdicts(plane).reduce((sum, count, at) => sum + Number(count - before[at]!), 0)
}

async function swapping(scene: Scene): Promise<Contender> {
  const wire = await scene.wire('swap', 'xdp')
  scene.attach(wire, scene.wrapper.references.swap)
  return { name: CEILING, ...wire, traffic: fromClients(SERVICES.DR, { protocol: 'udp' }) }
}

async function floor(scene: Scene, name: 'line' | 'stateless'): Promise<Contender> {
  const wire = await scene.wire(`floor-${name}`, 'xdp')
  scene.attach(wire, scene.floors.program(name, 4))
  return {
    name: FLOOR_LABEL[name],
    ...wire,
    traffic: fromClients(SERVICES.DR, { protocol: 'udp' }),
    prepare: (flows) => scene.floors.fit(flows),
  }
}

async function routing(scene: Scene): Promise<Contender> {
  const wire = await scene.wire('route', 'stack')
  return { name: 'kernel IP forwarding', ...wire, traffic: fromClients(REAL, { protocol: 'udp' }) }
}

async function dnat(scene: Scene): Promise<Contender> {
  const wire = await scene.wire('dnat', 'stack')
  const { address, port } = SERVICES.NAT
  const rules = [
    'table ip bench {',
    'chain pre {',
    'type nat hook prerouting priority dstnat',
    `ip daddr ${address} udp dport ${port} dnat to ${REAL.address}:${REAL.port}`,
    '}',
    '}',
    '',
  ].join('\n')
  // The virtual address has no route here: what arrives at the other end has been translated.
  await must(['nsenter', `--net=${wire.director}`, '--', 'nft', '-f', '-'], { input: rules })
  return { name: 'nftables DNAT', ...wire, traffic: fromClients(SERVICES.NAT, { protocol: 'udp' }) }
}

/** Rounds of all contenders in turns; shares of the first one's packets per second. */
function contest(
  scene: Scene,
  report: Reporter,
  contenders: readonly Contender[],
  rounds: number,
  packets: number,
  flows: (round: number) => Flows,
  goal?: Goal,
): void {
  const results = contenders.map(() => [] as number[])
  for (let round = 0; round < rounds; round++) {
    contenders.forEach((contender, index) => {
      results[index]!.push(scene.send(contender, flows(round), packets))
    })
  }
  contenders.forEach(({ name, ours }, index) => {
    const { value, reference, ratio, most } = compare(results[index]!, results[0]!)
    report.row({
      name,
      unit: 'packets/s',
      value,
      best: most,
      ...(index === 0 ? {} : { reference: { name: contenders[0]!.name, value: reference }, ratio }),
      ...(goal === undefined || !ours ? {} : { goal }),
    })
  })
}

export const e2e: Section = {
  name: 'e2e',
  about: 'UDP of 64 bytes over veth, generator and sink included, packets per second of CPU time',
  secondsMax: 120,
  async run(report, { quick }) {
    const rounds = quick ? ROUNDS_QUICK : ROUNDS
    stayOnCpu(cpus().length - 1)
    const scene = new Scene()
    try {
      const swap = await swapping(scene)
      const { rules, contenders: ours } = await pointsman(scene)
      const floors = [await floor(scene, 'line'), await floor(scene, 'stateless')]
      const route = await routing(scene)
      const nat = await dnat(scene)
      const everybody = [swap, ...floors, ...ours, route, nat]
      const established = (flows: number, contenders: readonly Contender[]) => () => {
        rules.forgetConnections()
        for (const contender of contenders) {
          scene.send(contender, { flows, random: false }, Math.max(flows, 1024))
        }
        const range = { flows, random: true }
        contest(scene, report, contenders, rounds, PACKETS, () => range, OF_CEILING[flows])
      }
      report.title('one flow')
      await part(report, 'one flow', established(1, everybody))
      report.title('65,536 flows, established')
      await part(report, '65,536 flows', established(65_536, everybody))
      report.title('1,048,576 flows, established (more than connection tracking takes)')
      await part(
        report,
        '1,048,576 flows',
        established(1_048_576, [swap, ...floors, ours[0]!, ours[2]!, route]),
      )
      if (quick) return
      report.title('new flows')
      // Numbers that no flow before had; few, since connection tracking keeps each for half a minute.
      const first = 2 ** 21
      await part(report, 'new flows', () =>
        contest(scene, report, [swap, ...ours, route, nat], 5, 16_384, (round) => ({
          flows: 16_384,
          first: first + round * 16_384,
          random: false,
        })),
      )
    } finally {
      await scene.close()
    }
  },
}
