/** The packet program alone in the kernel: nanoseconds per packet, the wrapper's share taken off. */

import { cpus } from 'node:os'
import { Verdict } from '../dataplane/layout/layout.gen.ts'
import { possibleCpus } from '../linux/cpus.ts'
import { enterNetns } from '../linux/netns.ts'
import { stayOnCpu } from './bpf.ts'
import { FORWARDED, LABEL, METHODS, type Method, VIP } from './methods.ts'
import { DIRECTOR, makeDirector, Namespaces, namespacePath } from './network.ts'
import { type BenchServer, expectVerdict, readVerdicts } from './rules.ts'
import { type Goal, part, type Reporter, type Row, type Section } from './section.ts'
import { compare, median, medianInterval, noiseOfRuns } from './statistics.ts'
import { type Bench, endpoint, establish, oneService, open, pass, text } from './subject.ts'
import { type Family, fromClients, numbered, type Traffic, toClients, toServices } from './traffic.ts'
import { type FlowRange, Wrapper } from './wrapper.ts'

const FLOWS = [1, 65_536, 1_048_576] as const
const ROUNDS = 15
/** Short enough that most runs are not interrupted. */
const PACKETS = 20_000
const FLOOR = 'constant IPIP header'
/** design §11: bounds of one flow as multiples of the floor, of a million in nanoseconds. */
const ONE_FLOW: Readonly<Record<Method, Goal>> = {
  'direct-routing': { of: 'ratio', bound: 'most', limit: 3 },
  tunnel: { of: 'ratio', bound: 'most', limit: 4 },
  nat: { of: 'ratio', bound: 'most', limit: 5 },
}
const MILLION: Readonly<Record<Method, Goal>> = {
  'direct-routing': { of: 'value', bound: 'most', limit: 300 },
  tunnel: { of: 'value', bound: 'most', limit: 300 },
  nat: { of: 'value', bound: 'most', limit: 380 },
}
const FIRST_PACKET: Goal = { of: 'value', bound: 'most', limit: 600 }
const UNTRACKED: Goal = { of: 'value', bound: 'most', limit: 30 }
const NOT_OURS: Goal = { of: 'value', bound: 'most', limit: 30 }
/** A first packet, whatever the rules are. */
const BOUNDED: Goal = { of: 'value', bound: 'most', limit: 2000 }
const GROWTH: Goal = { of: 'ratio', bound: 'most', limit: 1.15 }

/** Lines of the connection tables: half of them hold a million NAT connections. */
const TABLE = 4_194_304
const TABLE_SMALL = 262_144
const SERVICES_MAX = 100_000

interface Measured {
  /** Net nanoseconds per packet, a number per round. */
  readonly target: number[]
  readonly floor: number[]
  /** The fastest round of the program less the fastest of the wrapper alone. */
  readonly best: number
  /** Of the wrapper alone, a number per round. */
  readonly alone: number[]
}

/** Rounds of wrapper alone, floor, program; every packet of the program must get `verdict`. */
function measure(
  bench: Bench,
  range: FlowRange,
  ifindex: number,
  verdict: number,
  rounds = ROUNDS,
): Measured {
  const { wrapper, plane } = bench
  const target: number[] = []
  const floor: number[] = []
  const alone: number[] = []
  const least = { nop: Number.POSITIVE_INFINITY, ours: Number.POSITIVE_INFINITY }
  wrapper.choose(range)
  bench.rules.holdNextHops()
  wrapper.run(plane.programFd, ifindex, PACKETS)
  const before = readVerdicts(plane)
  for (let round = 0; round < rounds; round++) {
    const nop = wrapper.run(wrapper.references.nop, ifindex, PACKETS).ns
    const encap = wrapper.run(wrapper.references.encap, ifindex, PACKETS).ns
    bench.rules.holdNextHops()
    const ours = wrapper.run(plane.programFd, ifindex, PACKETS).ns
    target.push(ours - nop)
    floor.push(encap - nop)
    alone.push(nop)
    least.nop = Math.min(least.nop, nop)
    least.ours = Math.min(least.ours, ours)
  }
  expectVerdict(plane, before, verdict, rounds * PACKETS)
  return { target, floor, alone, best: least.ours - least.nop }
}

function row(name: string, measured: Measured, goal?: Goal): Row {
  const { value, reference, ratio, interval } = compare(measured.target, measured.floor)
  const valueInterval = medianInterval(measured.target)
  return {
    name,
    unit: 'ns/packet',
    value,
    best: measured.best,
    reference: { name: FLOOR, value: reference },
    ratio,
    ...(interval === null ? {} : { ratioInterval: interval }),
    ...(valueInterval === null ? {} : { valueInterval }),
    noise: noiseOfRuns(measured.alone),
    ...(goal === undefined ? {} : { goal }),
  }
}

function connections(bench: Bench, report: Reporter, method: Method, family: Family): void {
  oneService(bench, method, family)
  for (const flows of FLOWS) {
    // IPv6 only at the ends.
    if (family === 6 && flows === FLOWS[1]) continue
    const first = establish(bench, method, family, flows)
    if (flows === FLOWS[2]) {
      report.row({
        name: `first packet, ${LABEL[method]} IPv${family}, ${text(flows)}`,
        unit: 'ns/packet',
        value: median(first),
        goal: FIRST_PACKET,
      })
    }
    const range = { traffic: fromClients(endpoint(family)), flows, random: true }
    const goal = flows === 1 ? ONE_FLOW[method] : flows === FLOWS[2] ? MILLION[method] : undefined
    const name = `${LABEL[method]} IPv${family}, ${text(flows)}`
    report.row(row(name, measure(bench, range, bench.client, FORWARDED[method]), goal))
    if (method !== 'nat') continue
    const answers = toClients({ address: DIRECTOR.real[family], port: 8000 }, 'A')
    const measured = measure(
      bench,
      { traffic: answers, flows, random: true },
      bench.server,
      Verdict.ForwardNatReply,
    )
    report.row(row(`NAT reply IPv${family}, ${text(flows)}`, measured, goal))
  }
}

/** The same packets where connections are remembered only if a change would move them: none has been. */
function justEnough(bench: Bench, report: Reporter): void {
  for (const method of ['direct-routing', 'tunnel'] as const) {
    bench.rules.clear()
    bench.rules.add({
      at: endpoint(4),
      method,
      untracked: true,
      servers: Array.from({ length: 100 }, (_, n) => ({ address: DIRECTOR.real[4], port: 8000 + n })),
      source: DIRECTOR.server[4],
    })
    for (const flows of FLOWS) {
      const range = { traffic: fromClients(endpoint(4)), flows, random: true }
      const measured = measure(bench, range, bench.client, FORWARDED[method])
      const goal = method === 'direct-routing' && flows === FLOWS[2] ? UNTRACKED : undefined
      report.row(row(`${LABEL[method]} IPv4, just enough tracking, ${text(flows)}`, measured, goal))
    }
  }
}

function notOurs(bench: Bench, report: Reporter, family: Family): void {
  const strangers = [
    { name: 'unknown address', to: { address: family === 4 ? '10.200.9.9' : 'fd00:200::99', port: 443 } },
    { name: 'other port of a virtual address', to: { address: VIP[family], port: 443 } },
  ]
  oneService(bench, 'direct-routing', family)
  for (const flows of [1, FLOWS[2]]) {
    if (flows > 1) establish(bench, 'direct-routing', family, flows)
    for (const [index, { name, to }] of strangers.entries()) {
      const range = { traffic: fromClients(to), flows, random: true }
      const measured = measure(bench, range, bench.client, Verdict.PassNoService)
      const table = flows === 1 ? 'no connections' : `as many connections in the table`
      const goal = index === 0 ? NOT_OURS : undefined
      report.row(row(`${name}, IPv${family}, ${text(flows)}, ${table}`, measured, goal))
    }
  }
}

const SERVICE_BASE = '10.208.0.0'
/** Services that traffic goes to when it goes to all of them: the power of two below their number. */
const SERVICES_IN_USE = 65_536
const GROWTH_FLOWS = FLOWS[1]

/** Rules of `count` services, one real server each. */
function manyServices(bench: Bench, count: number): void {
  bench.rules.clear()
  for (let number = 0; number < count; number++) {
    bench.rules.add({
      at: numbered(SERVICE_BASE, number),
      method: 'direct-routing',
      servers: [{ address: DIRECTOR.real[4], port: 0 }],
    })
  }
}

interface Contender {
  readonly name: string
  readonly bench: Bench
  readonly goal?: Goal
}

/** The same traffic through each contender in turns; ratios to the first. */
function inTurns(
  report: Reporter,
  what: string,
  contenders: readonly Contender[],
  rounds: number,
  run: (bench: Bench) => number,
): void {
  const results = contenders.map(() => [] as number[])
  for (let round = 0; round < rounds; round++) {
    contenders.forEach(({ bench }, index) => {
      results[index]!.push(run(bench))
    })
  }
  contenders.forEach(({ name, goal }, index) => {
    const { value, reference, ratio, interval } = compare(results[index]!, results[0]!)
    report.row({
      name: `${what}, ${name}`,
      unit: 'ns/packet',
      value,
      ...(index === 0 ? {} : { reference: { name: contenders[0]!.name, value: reference }, ratio }),
      ...(index === 0 || interval === null ? {} : { ratioInterval: interval }),
      ...(goal === undefined ? {} : { goal }),
    })
  })
}

/** One round: the program's net time over the flows of `traffic` in random order. */
function randomly(traffic: Traffic, verdict: number): (bench: Bench) => number {
  return (bench) =>
    measure(bench, { traffic, flows: GROWTH_FLOWS, random: true }, bench.client, verdict, 1).target[0]!
}

/** Packets that play a bracket of ten thousand through, which a list that was changed begins with. */
const PLAYING = 64

/** One round: a first packet of every flow into a table that is empty, or all but. */
function insertion(traffic: Traffic, flows: number): (bench: Bench) => number {
  return (bench) => {
    const { wrapper, plane, rules, client } = bench
    rules.forgetConnections()
    wrapper.choose({ traffic, flows: PLAYING, first: flows })
    rules.holdNextHops()
    wrapper.run(plane.programFd, client, PLAYING)
    return median(pass(bench, traffic, flows, bench.client, Verdict.ForwardDr))
  }
}

function growthWithServices(report: Reporter, benches: readonly Bench[]): void {
  const at = numbered(SERVICE_BASE, 0)
  const contenders = [1, 1000, SERVICES_MAX].map((count, index) => ({
    name: `${count.toLocaleString('en')} service${count === 1 ? '' : 's'}`,
    bench: benches[index]!,
    count,
    ...(count === SERVICES_MAX ? { goal: GROWTH } : {}),
  }))
  for (const { bench, count } of contenders) manyServices(bench, count)
  inTurns(report, 'first packet', contenders, 7, insertion(fromClients(at, { flags: 'S' }), GROWTH_FLOWS))
  for (const { bench } of contenders) {
    pass(bench, fromClients(at), GROWTH_FLOWS, bench.client, Verdict.ForwardDr)
  }
  inTurns(report, 'established', contenders, ROUNDS, randomly(fromClients(at), Verdict.ForwardDr))
  const other = fromClients({ ...at, port: 443 })
  inTurns(
    report,
    'other port of a virtual address',
    contenders,
    ROUNDS,
    randomly(other, Verdict.PassNoService),
  )
  const everywhere = toServices({ address: SERVICE_BASE, port: 0 }, 'S')
  const all = contenders[2]!
  inTurns(
    report,
    'first packet, a flow to each service',
    [{ name: all.name, bench: all.bench }],
    3,
    insertion(everywhere, SERVICES_IN_USE),
  )
}

function growthWithTable(report: Reporter, large: Bench, small: Bench): void {
  const contenders = [
    { name: `table of ${TABLE_SMALL.toLocaleString('en')} lines`, bench: small },
    { name: `table of ${TABLE.toLocaleString('en')} lines`, bench: large },
  ]
  for (const { bench } of contenders) {
    oneService(bench, 'direct-routing', 4)
    establish(bench, 'direct-routing', 4, GROWTH_FLOWS)
  }
  const traffic = fromClients(endpoint(4))
  inTurns(
    report,
    `established, ${text(GROWTH_FLOWS)}`,
    contenders,
    ROUNDS,
    randomly(traffic, Verdict.ForwardDr),
  )
}

function growthWithServers(report: Reporter, benches: readonly Bench[]): void {
  const counts = [3, 100, 10_000]
  for (const scheduler of ['rr', 'wlc'] as const) {
    const contenders = counts.map((count, index) => ({
      name: `${count.toLocaleString('en')} real servers`,
      bench: benches[index]!,
    }))
    counts.forEach((count, index) => {
      benches[index]!.rules.clear()
      benches[index]!.rules.add({
        at: endpoint(4),
        method: 'direct-routing',
        scheduler,
        servers: Array.from({ length: count }, (_, n) => ({ address: DIRECTOR.real[4], port: 1 + n })),
      })
    })
    // The scan of 10,000 real servers takes its time: fewer flows then.
    const flows = scheduler === 'wlc' ? 1024 : GROWTH_FLOWS
    inTurns(
      report,
      `first packet, ${scheduler}`,
      contenders,
      5,
      insertion(fromClients(endpoint(4), { flags: 'S' }), flows),
    )
    if (scheduler === 'wlc') continue
    for (const { bench } of contenders) {
      pass(bench, fromClients(endpoint(4)), flows, bench.client, Verdict.ForwardDr)
    }
    const traffic = fromClients(endpoint(4))
    inTurns(report, 'established, rr', contenders, ROUNDS, randomly(traffic, Verdict.ForwardDr))
  }
}

/** Most of the list can take no connection: every thousandth can. */
function uselessServers(report: Reporter, benches: readonly Bench[]): void {
  const servers = (useless: Partial<BenchServer>) =>
    Array.from({ length: 10_000 }, (_, n) => ({
      ...{ address: DIRECTOR.real[4], port: 1 + n },
      ...(n % 1000 === 0 ? {} : useless),
    }))
  const kinds = [{}, { weight: 0 }, { overloaded: true }] as const
  for (const scheduler of ['rr', 'wrr'] as const) {
    const contenders = ['all', 'others have weight 0', 'others are overloaded'].map((name, index) => ({
      name: index === 0 ? 'all of 10,000 real servers' : `every thousandth of 10,000, ${name}`,
      bench: benches[index]!,
      ...(index === 0 ? {} : { goal: BOUNDED }),
    }))
    contenders.forEach(({ bench }, index) => {
      bench.rules.clear()
      bench.rules.add({
        at: endpoint(4),
        method: 'direct-routing',
        scheduler,
        servers: servers(kinds[index]!),
      })
    })
    const syn = fromClients(endpoint(4), { flags: 'S' })
    inTurns(report, `first packet, ${scheduler}`, contenders, 5, insertion(syn, GROWTH_FLOWS))
  }
}

export const xdp: Section = {
  name: 'xdp',
  about: 'the packet program alone in the kernel, net of the wrapper that feeds it',
  secondsMax: 240,
  async run(report) {
    const namespaces = new Namespaces()
    try {
      enterNetns(namespacePath(await makeDirector(namespaces, 'xdp')))
      stayOnCpu(cpus().length - 1)
      const wrapper = new Wrapper(possibleCpus())
      const large = await open(wrapper, { 4: TABLE, 6: TABLE })
      try {
        report.title('established connections, and the SYN that schedules and inserts one')
        for (const method of METHODS) {
          for (const family of [4, 6] as const) {
            await part(report, `${LABEL[method]} IPv${family}`, () =>
              connections(large, report, method, family),
            )
          }
        }
        report.title('connections that are not remembered')
        await part(report, 'just enough tracking', () => justEnough(large, report))
        report.title('packets that are not ours')
        for (const family of [4, 6] as const) {
          await part(report, `not ours, IPv${family}`, () => notOurs(large, report, family))
        }
        const small: Bench[] = []
        for (let n = 0; n < 3; n++) small.push(await open(wrapper, { 4: TABLE_SMALL, 6: 4 }))
        report.title(
          `growth: ${text(GROWTH_FLOWS)}, DR, IPv4, table of ${TABLE_SMALL.toLocaleString('en')} lines`,
        )
        await part(report, 'services', () => growthWithServices(report, small))
        await part(report, 'real servers', () => growthWithServers(report, small))
        await part(report, 'useless real servers', () => uselessServers(report, small))
        await part(report, 'connection table', () => growthWithTable(report, large, small[0]!))
        for (const bench of small) await bench.plane.close()
      } finally {
        wrapper.close()
        await large.plane.close()
      }
    } finally {
      await namespaces.remove()
    }
  },
}
