/**
 * Frames end to end over veth: a generator in the kernel, the director in a namespace of its own, the
 * frames back on the same wire. Everything runs on one CPU; a packet's price is what all of it takes.
 */
import { cpus } from 'node:os'
import { stayOnCpu } from './bpf.ts'
import { addDnat } from './dnat.ts'
import { FLOOR_LABEL, type FloorName } from './floors.ts'
import { ipvs } from './ipvs.ts'
import { type Goal, part, type Reporter, type Section } from './section.ts'
import { compare } from './statistics.ts'
import { fromClients } from './traffic.ts'
import {
  type Contender,
  type Flows,
  pointsman,
  REAL,
  Scene,
  SERVICES,
  WIRE_METHODS,
  type WireMethod,
} from './wire.ts'

const ROUNDS = 9
const ROUNDS_QUICK = 5
/** Packets of one round of one contender. */
const PACKETS = 65_536
const TABLE = 8_388_608
/** Numbers that no flow before had; few new ones, since connection tracking keeps each for half a minute. */
const NEW = 2 ** 21
const CEILING = 'MAC swap'
/** By flows: what many cost beyond one is memory, which a swap of addresses never touches. */
const OF_CEILING: Readonly<Record<number, Goal>> = {
  1: { of: 'ratio', bound: 'least', limit: 0.75 },
  65536: { of: 'ratio', bound: 'least', limit: 0.47 },
  1048576: { of: 'ratio', bound: 'least', limit: 0.34 },
}

/** None of its connections is remembered, so many of them cost what one does. */
const UNTRACKED: Goal = { of: 'ratio', bound: 'least', limit: 0.75 }
const UNTRACKED_LINES = 16_384

async function swapping(scene: Scene): Promise<Contender> {
  const wire = await scene.wire('swap', 'xdp')
  scene.attach(wire, scene.wrapper.references.swap)
  return { name: CEILING, ...wire, traffic: fromClients(SERVICES.DR, { protocol: 'udp' }) }
}

async function constantHeader(scene: Scene): Promise<Contender> {
  const wire = await scene.wire('encap', 'xdp')
  scene.attach(wire, scene.wrapper.references.encap)
  return { name: 'constant IPIP header', ...wire, traffic: fromClients(SERVICES.DR, { protocol: 'udp' }) }
}

async function floor(scene: Scene, name: FloorName): Promise<Contender> {
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

export async function dnat(scene: Scene, sink: 'xdp' | 'stack' = 'stack'): Promise<Contender> {
  const wire = await scene.wire('dnat', 'stack', { sink })
  await addDnat(wire.director, [{ protocol: 'udp', at: SERVICES.NAT, to: REAL }])
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
  contenders.forEach(({ name, ours, goal: own }, index) => {
    const { value, reference, ratio, interval, most } = compare(results[index]!, results[0]!)
    const wanted = own ?? goal
    report.row({
      name,
      unit: 'packets/s',
      value,
      best: most,
      ...(index === 0 ? {} : { reference: { name: contenders[0]!.name, value: reference }, ratio }),
      ...(index === 0 || interval === null ? {} : { ratioInterval: interval }),
      ...(wanted === undefined || !ours ? {} : { goal: wanted }),
    })
  })
}

export const e2e: Section = {
  name: 'e2e',
  about: 'UDP of 64 bytes over veth, generator and sink included, packets per second of CPU time',
  secondsMax: 300,
  async run(report, { quick }) {
    const rounds = quick ? ROUNDS_QUICK : ROUNDS
    stayOnCpu(cpus().length - 1)
    const scene = new Scene()
    try {
      const swap = await swapping(scene)
      const { rules, contenders: ours } = await pointsman(scene, { lines: TABLE })
      const untracked = await pointsman(scene, {
        lines: UNTRACKED_LINES,
        label: 'just-enough',
        methods: ['DR'],
        untracked: true,
        servers: 100,
      })
      const justEnough = untracked.contenders.map((one) => ({ ...one, goal: UNTRACKED }))
      const floors = [
        await constantHeader(scene),
        await floor(scene, 'parse'),
        await floor(scene, 'line'),
        await floor(scene, 'stateless'),
      ]
      const route = await routing(scene)
      const nat = await dnat(scene)
      let kernel: readonly Contender[] = []
      await part(report, 'kernel IPVS', async () => {
        kernel = await ipvs(scene)
      })
      const everybody = [swap, ...floors, ...ours, ...justEnough, route, nat, ...kernel]
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
        established(1_048_576, [swap, ...floors, ours[0]!, ours[2]!, ...justEnough, route]),
      )
      if (quick) return
      report.title('new flows')
      await part(report, 'new flows', () =>
        contest(scene, report, [swap, ...ours, route, nat, ...kernel], 5, 16_384, (round) => ({
          flows: 16_384,
          first: NEW + round * 16_384,
          random: false,
        })),
      )
    } finally {
      await scene.close()
    }
  },
}

/** Where the processor is emulated, a packet takes a hundred times as long, and memory nothing. */
const GUEST = { lines: 262_144, packets: 16_384, flows: 4096, newFlows: 4096 } as const
const OF_IPVS: Readonly<Record<WireMethod, Goal>> = {
  DR: { of: 'ratio', bound: 'least', limit: 5 },
  TUN: { of: 'ratio', bound: 'least', limit: 5 },
  NAT: { of: 'ratio', bound: 'least', limit: 4 },
}
const NEW_OF_IPVS: Goal = { of: 'ratio', bound: 'least', limit: 4 }

/** Each method beside the same of kernel IPVS, in the same rounds: nothing else, so that it ends in minutes. */
export async function besideIpvs(report: Reporter): Promise<void> {
  stayOnCpu(cpus().length - 1)
  const scene = new Scene()
  try {
    const kernel = await ipvs(scene)
    const { rules, contenders: ours } = await pointsman(scene, { lines: GUEST.lines })
    const swap = await swapping(scene)
    for (const [at, method] of WIRE_METHODS.entries()) {
      const beside = [kernel[at]!, ours[at]!, swap]
      report.title(`${method}, 1 flow`)
      await part(report, `${method}, 1 flow`, () => {
        rules.forgetConnections()
        for (const contender of beside) scene.send(contender, { flows: 1, random: false }, 1024)
        const flows = { flows: 1, random: true }
        contest(scene, report, beside, ROUNDS, GUEST.packets, () => flows, OF_IPVS[method])
      })
      report.title(`${method}, ${GUEST.flows} flows`)
      await part(report, `${method}, ${GUEST.flows} flows`, () => {
        const flows = { flows: GUEST.flows, random: true }
        for (const contender of beside) scene.send(contender, { ...flows, random: false }, GUEST.flows)
        contest(scene, report, beside, ROUNDS, GUEST.packets, () => flows, OF_IPVS[method])
      })
      report.title(`${method}, new flows`)
      await part(report, `${method}, new flows`, () =>
        contest(
          scene,
          report,
          beside,
          ROUNDS,
          GUEST.newFlows,
          (round) => ({ flows: GUEST.newFlows, first: NEW + round * GUEST.newFlows, random: false }),
          NEW_OF_IPVS,
        ),
      )
    }
  } finally {
    await scene.close()
  }
}
