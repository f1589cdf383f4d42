/** The packet program against the floors: how far from the least that such a forwarder must do. */

import { cpus } from 'node:os'
import { Verdict } from '../dataplane/layout/layout.gen.ts'
import { possibleCpus } from '../linux/cpus.ts'
import { enterNetns } from '../linux/netns.ts'
import { stayOnCpu } from './bpf.ts'
import { FLOOR_LABEL, FLOORS, Floors } from './floors.ts'
import { FORWARDED, LABEL, METHODS, type Method, VIP } from './methods.ts'
import { DIRECTOR, makeDirector, Namespaces, namespacePath } from './network.ts'
import { expectVerdict, readVerdicts } from './rules.ts'
import { type Goal, part, type Reporter, type RunOptions, type Section } from './section.ts'
import { noiseOfLeast } from './statistics.ts'
import { type Bench, endpoint, establish, oneService, open, text } from './subject.ts'
import { type Family, fromClients, type Traffic, toClients } from './traffic.ts'
import { Wrapper } from './wrapper.ts'

const FLOWS = [1, 65_536, 262_144, 1_048_576] as const
const FLOWS_QUICK = [65_536, 1_048_576] as const
const MANY = 65_536
const MOST = 1_048_576

const ROUNDS = 15
const ROUNDS_QUICK = 7
/** Few enough that what the contender before has touched is still in the caches, and ours is not. */
const PACKETS = 20_000

/** Lines that a daemon reserves if nobody says otherwise, and as many for IPv6, to be compared with. */
const DEFAULT_LINES = 1_048_576
const LINES_PER_FLOW: Readonly<Record<Method, number>> = { 'direct-routing': 2, tunnel: 2, nat: 4 }

const OF_FLOOR: Readonly<Record<Family, Readonly<Record<Method, number>>>> = {
  4: { 'direct-routing': 1.3, tunnel: 1.3, nat: 1.4 },
  6: { 'direct-routing': 1.6, tunnel: 1.6, nat: 1.6 },
}
const FIRST_PACKET: Readonly<Record<Method, number>> = { 'direct-routing': 300, tunnel: 300, nat: 550 }
const OTHER_PORT: Goal = { of: 'value', bound: 'most', limit: 40 }

/** A program, the packets it gets, and what has to become of them. */
interface Contender {
  readonly name: string
  readonly program: number
  readonly traffic: Traffic
  readonly ifindex: number
  /** Ours: the verdict of every packet. */
  readonly verdict?: number
  readonly goal?: Goal
}

/** Net nanoseconds of each contender, and what the wrapper's own fastest runs differ by. */
interface Raced {
  readonly nets: readonly number[]
  readonly noise: number
}

const isReference = ({ verdict }: Contender): boolean => verdict === undefined
const atMost = (of: Goal['of'], limit: number): Goal => ({ of, bound: 'most', limit })

/**
 * The fastest run of each contender, less that of the wrapper alone with the same packets; all in turns, so
 * that each starts with the caches full of another's.
 */
function race(bench: Bench, contenders: readonly Contender[], flows: number, rounds: number): Raced {
  const { wrapper, plane } = bench
  const best = contenders.map(() => ({ with: Number.POSITIVE_INFINITY, without: [] as number[] }))
  for (let round = 0; round < rounds; round++) {
    contenders.forEach(({ program, traffic, ifindex, verdict }, index) => {
      const least = best[index]!
      wrapper.choose({ traffic, flows, random: true })
      least.without.push(wrapper.run(wrapper.references.nop, ifindex, PACKETS).ns)
      bench.rules.holdNextHops()
      const before = verdict === undefined ? [] : readVerdicts(plane)
      least.with = Math.min(least.with, wrapper.run(program, ifindex, PACKETS).ns)
      if (verdict !== undefined) expectVerdict(plane, before, verdict, PACKETS)
    })
  }
  return {
    nets: best.map(({ with: program, without }) => program - Math.min(...without)),
    noise: Math.max(...best.map(({ without }) => noiseOfLeast(without))),
  }
}

/** What everything is compared with, by packets of clients. */
function references(bench: Bench, floors: Floors, family: Family): Contender[] {
  const traffic = fromClients(endpoint(family))
  const ifindex = bench.client
  return [
    { name: 'MAC swap', program: bench.wrapper.references.swap, traffic, ifindex },
    { name: 'constant IPIP header', program: bench.wrapper.references.encap, traffic, ifindex },
    ...FLOORS.map((name) => ({
      name: FLOOR_LABEL[name],
      program: floors.program(name, family),
      traffic,
      ifindex,
    })),
  ]
}

function ours(bench: Bench, method: Method, family: Family): Contender[] {
  const program = bench.plane.programFd
  const goal = atMost('ratio', OF_FLOOR[family][method])
  const contenders: Contender[] = [
    {
      name: LABEL[method],
      program,
      traffic: fromClients(endpoint(family)),
      ifindex: bench.client,
      verdict: FORWARDED[method],
      goal,
    },
  ]
  if (method === 'nat') {
    contenders.push({
      name: 'NAT reply',
      program,
      traffic: toClients({ address: DIRECTOR.real[family], port: 8000 }, 'A'),
      ifindex: bench.server,
      verdict: Verdict.ForwardNatReply,
      goal,
    })
  }
  return contenders
}

function publish(
  report: Reporter,
  contenders: readonly Contender[],
  { nets, noise }: Raced,
  label: string,
  wanted: (contender: Contender) => boolean,
  withGoals: boolean,
): void {
  const floor = nets[contenders.findIndex(({ name }) => name === FLOOR_LABEL.line)]!
  contenders.forEach((contender, index) => {
    if (!wanted(contender)) return
    const { name, goal } = contender
    const value = nets[index]!
    report.row({
      name: `${name}, ${label}`,
      unit: 'ns/packet',
      value,
      reference: { name: FLOOR_LABEL.line, value: floor },
      ratio: value / floor,
      noise,
      ...(goal === undefined || !withGoals ? {} : { goal }),
    })
  })
}

async function established(
  report: Reporter,
  wrapper: Wrapper,
  floors: Floors,
  method: Method,
  family: Family,
  flows: number,
  rounds: number,
): Promise<void> {
  // No table is smaller than a set of either kind.
  const fitted = Math.max(4, flows * LINES_PER_FLOW[method])
  // Never too small for these flows, so that every packet meets its connection.
  const reserved = Math.max(DEFAULT_LINES, fitted)
  const tables = reserved === fitted ? [fitted] : [fitted, reserved]
  for (const [at, lines] of tables.entries()) {
    const bench = await open(wrapper, { 4: family === 4 ? lines : 4, 6: family === 6 ? lines : 4 })
    try {
      oneService(bench, method, family)
      const first = establish(bench, method, family, flows)
      floors.fit(flows)
      const contenders = [...references(bench, floors, family), ...ours(bench, method, family)]
      const raced = race(bench, contenders, flows, rounds)
      const label = `IPv${family}, ${text(flows)}, table of ${lines.toLocaleString('en')} lines`
      // References run in every round, for the ratios; one look at them is enough.
      if (method === 'direct-routing' && at === 0) {
        publish(report, contenders, raced, `IPv${family}, ${text(flows)}`, isReference, false)
      }
      publish(report, contenders, raced, label, (contender) => !isReference(contender), flows > 1)
      if (flows === MOST) {
        report.row({
          name: `first packet of ${LABEL[method]}, ${label}`,
          unit: 'ns/packet',
          value: Math.min(...first),
          goal: atMost('value', FIRST_PACKET[method]),
        })
      }
    } finally {
      await bench.plane.close()
    }
  }
}

/** Packets to a virtual address that no service is for, while the table is full of connections. */
async function otherPort(
  report: Reporter,
  wrapper: Wrapper,
  floors: Floors,
  family: Family,
  rounds: number,
): Promise<void> {
  const lines = MOST * LINES_PER_FLOW['direct-routing']
  const bench = await open(wrapper, { 4: family === 4 ? lines : 4, 6: family === 6 ? lines : 4 })
  try {
    oneService(bench, 'direct-routing', family)
    establish(bench, 'direct-routing', family, MOST)
    floors.fit(MOST)
    const stranger: Contender = {
      name: 'other port of a virtual address',
      program: bench.plane.programFd,
      traffic: fromClients({ address: VIP[family], port: 443 }),
      ifindex: bench.client,
      verdict: Verdict.PassNoService,
      goal: OTHER_PORT,
    }
    const contenders = [...references(bench, floors, family), stranger]
    const raced = race(bench, contenders, MOST, rounds)
    const label = `IPv${family}, ${text(MOST)} in the table`
    publish(report, contenders, raced, label, (contender) => contender === stranger, true)
  } finally {
    await bench.plane.close()
  }
}

export const floor: Section = {
  name: 'floor',
  about: 'the packet program in short runs with cold caches, beside the least that such a forwarder does',
  secondsMax: 300,
  async run(report: Reporter, { quick }: RunOptions) {
    const namespaces = new Namespaces()
    try {
      enterNetns(namespacePath(await makeDirector(namespaces, 'floor')))
      stayOnCpu(cpus().length - 1)
      const wrapper = new Wrapper(possibleCpus())
      const floors = new Floors()
      const rounds = quick ? ROUNDS_QUICK : ROUNDS
      try {
        for (const flows of quick ? FLOWS_QUICK : FLOWS) {
          report.title(`established connections, ${text(flows)} in random order`)
          for (const method of METHODS) {
            await part(report, `${LABEL[method]}, ${text(flows)}`, () =>
              established(report, wrapper, floors, method, 4, flows, rounds),
            )
          }
          if (quick && flows !== MANY) continue
          await part(report, `IPv6, ${text(flows)}`, () =>
            established(report, wrapper, floors, 'direct-routing', 6, flows, rounds),
          )
        }
        report.title('packets that are not ours')
        for (const family of quick ? ([4] as const) : ([4, 6] as const)) {
          await part(report, `other port, IPv${family}`, () =>
            otherPort(report, wrapper, floors, family, rounds),
          )
        }
      } finally {
        floors.close()
        wrapper.close()
      }
    } finally {
      await namespaces.remove()
    }
  },
}
