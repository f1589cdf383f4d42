/** The packet program in wasm, in this process: nanoseconds per packet of a batch, nothing around it. */
import { cpus } from 'node:os'
import { builtFile } from '../dataplane/assets.ts'
import { putInterface } from '../dataplane/interface-table.ts'
import { JobRecord, PM_HEADROOM, Verdict } from '../dataplane/layout/layout.gen.ts'
import { openWasm } from '../dataplane/userspace/wasm-file.ts'
import type { WasmDataplane } from '../dataplane/wasm/program.ts'
import { macBytes } from '../test/packets/bytes.ts'
import { stayOnCpu, threadNs } from './bpf.ts'
import { FORWARDED, LABEL, METHODS, type Method, VIP } from './methods.ts'
import { DIRECTOR } from './network.ts'
import { BenchRules, expectVerdict, hopTo, readVerdicts } from './rules.ts'
import { part, type Reporter, type Row, type Section } from './section.ts'
import { compare, median } from './statistics.ts'
import { type Family, flowBase, fromClients, MAC, setFlow, type Traffic, toClients } from './traffic.ts'

/** Laying down a million flows takes its time here; one method shows what they cost. */
function flowsOf(method: Method, family: Family): readonly number[] {
  return method === 'direct-routing' && family === 4 ? [1, 65_536, 1_048_576] : [1, 65_536]
}

const ROUNDS = 9
/** Packets of a call, as many as the userspace plane hands over when it is busy. */
const BATCH = 256
const BATCHES = 40
const TABLE = 4_194_304
/** Room for a frame, what goes in front of it and behind it. */
const STRIDE = 256
const ETHERNET_SHIFT = 2
const CLIENT_SIDE = 1
const SERVER_SIDE = 2
const FLOOR = 'frame that is not IP'

/** Frames in linear memory, renewed before every call of the program. */
class Batches {
  readonly #plane: WasmDataplane
  readonly #rules: BenchRules
  readonly #jobs: number
  readonly #frames: number
  readonly #view: DataView
  readonly #bytes: Uint8Array
  #seed = 88_172_645

  constructor(plane: WasmDataplane, rules: BenchRules) {
    this.#plane = plane
    this.#rules = rules
    this.#jobs = plane.owner.allocate(BATCH * JobRecord.size)
    this.#frames = plane.owner.allocate(BATCH * STRIDE)
    this.#view = new DataView(plane.owner.memory.buffer)
    this.#bytes = new Uint8Array(plane.owner.memory.buffer)
  }

  /** Nanoseconds per packet of `batches` calls; flows in random order, or in turn from `first` on. */
  run(traffic: Traffic, flows: number, ifindex: number, batches: number, first: number | null): number {
    let ns = 0
    for (let batch = 0; batch < batches; batch++) {
      this.#fill(traffic, flows, ifindex, first === null ? null : first + batch * BATCH)
      this.#rules.holdNextHops()
      this.#plane.owner.setNow(this.#plane.nowTicks())
      const started = threadNs()
      this.#plane.owner.runBatch(this.#jobs, BATCH)
      ns += threadNs() - started
    }
    return ns / (batches * BATCH)
  }

  #fill(traffic: Traffic, flows: number, ifindex: number, first: number | null): void {
    const base = flowBase(traffic)
    const { length } = traffic.frame
    for (let n = 0; n < BATCH; n++) {
      const data = this.#frames + n * STRIDE + PM_HEADROOM + ETHERNET_SHIFT
      this.#bytes.set(traffic.frame, data)
      const flow = first === null ? this.#random() : first + n
      setFlow(traffic, this.#view, data, flow & (flows - 1), base)
      JobRecord.write(this.#view, this.#jobs + n * JobRecord.size, {
        data,
        linear: length,
        length,
        ifindex,
        verdict: 0,
        action: 0,
        flags: 0,
        moved: 0,
        segment: 0,
        connection: 0,
        cut: 0,
      })
    }
  }

  /** xorshift32 */
  #random(): number {
    this.#seed ^= this.#seed << 13
    this.#seed ^= this.#seed >>> 17
    this.#seed ^= this.#seed << 5
    return this.#seed >>> 0
  }
}

interface Bench {
  readonly plane: WasmDataplane
  readonly rules: BenchRules
  readonly batches: Batches
}

function open(): Bench {
  const plane = openWasm({
    sizes: {
      services: 256,
      serviceBuckets: 64,
      reals: 1024,
      members: 4096,
      connections4: TABLE,
      connections6: TABLE,
      cpus: 1,
    },
    wasmPath: builtFile('pointsman.wasm'),
    fib: () => ({
      result: 'ok',
      ifindex: SERVER_SIDE,
      smac: macBytes(MAC.director),
      dmac: macBytes(MAC.server),
      mtu: 1500,
    }),
  })
  for (const [name, ifindex] of [
    ['c0', CLIENT_SIDE],
    ['r0', SERVER_SIDE],
  ] as const) {
    putInterface(plane, { name, ifindex, mac: macBytes(MAC.director), mtu: 1500 })
  }
  const rules = new BenchRules(plane)
  rules.reachBy(() => hopTo(SERVER_SIDE))
  return { plane, rules, batches: new Batches(plane, rules) }
}

/** One packet of every flow, in order; nanoseconds per packet of each sixteenth. */
function pass(bench: Bench, traffic: Traffic, flows: number, ifindex: number, verdict: number): number[] {
  const before = readVerdicts(bench.plane)
  const batches = Math.max(1, flows / BATCH)
  const slice = Math.max(1, batches / 16)
  const results: number[] = []
  for (let batch = 0; batch < batches; batch += slice) {
    results.push(bench.batches.run(traffic, flows, ifindex, slice, batch * BATCH))
  }
  expectVerdict(bench.plane, before, verdict, batches * BATCH)
  return results
}

const notIp: Traffic = {
  ...fromClients({ address: VIP[6], port: 80 }),
  frame: Uint8Array.from(fromClients({ address: VIP[6], port: 80 }).frame, (byte, at) =>
    at === 13 ? 0xdc : byte,
  ),
}

/** Rounds of the floor and the traffic in turns. */
function measure(bench: Bench, traffic: Traffic, flows: number, ifindex: number, verdict: number): Row {
  const target: number[] = []
  const floor: number[] = []
  bench.batches.run(traffic, flows, ifindex, BATCHES, null)
  for (let round = 0; round < ROUNDS; round++) {
    floor.push(bench.batches.run(notIp, 1, CLIENT_SIDE, BATCHES, null))
    const before = readVerdicts(bench.plane)
    target.push(bench.batches.run(traffic, flows, ifindex, BATCHES, null))
    expectVerdict(bench.plane, before, verdict, BATCHES * BATCH)
  }
  const { value, reference, ratio, interval, least } = compare(target, floor)
  return {
    name: '',
    unit: 'ns/packet',
    value,
    best: least,
    reference: { name: FLOOR, value: reference },
    ratio,
    ...(interval === null ? {} : { ratioInterval: interval }),
  }
}

const endpoint = (family: Family) => ({ address: VIP[family], port: 80 })
const text = (flows: number): string => `${flows.toLocaleString('en')} flow${flows === 1 ? '' : 's'}`

function connections(bench: Bench, report: Reporter, method: Method, family: Family): void {
  const { rules } = bench
  rules.clear()
  rules.add({
    at: endpoint(family),
    method,
    servers: Array.from({ length: method === 'nat' ? 1 : 100 }, (_, n) => ({
      address: DIRECTOR.real[family],
      port: 8000 + n,
    })),
    source: DIRECTOR.server[family],
  })
  const server = { address: DIRECTOR.real[family], port: 8000 }
  const most = Math.max(...flowsOf(method, family))
  for (const flows of flowsOf(method, family)) {
    rules.forgetConnections(family)
    const syn = fromClients(endpoint(family), { flags: 'S' })
    const first = pass(bench, syn, flows, CLIENT_SIDE, FORWARDED[method])
    if (method === 'nat') pass(bench, toClients(server, 'SA'), flows, SERVER_SIDE, Verdict.ForwardNatReply)
    const traffic = fromClients(endpoint(family))
    pass(bench, traffic, flows, CLIENT_SIDE, FORWARDED[method])
    if (flows === most) {
      const name = `first packet, ${LABEL[method]} IPv${family}, ${text(flows)}`
      report.row({ name, unit: 'ns/packet', value: median(first), best: Math.min(...first) })
    }
    const row = measure(bench, traffic, flows, CLIENT_SIDE, FORWARDED[method])
    report.row({ ...row, name: `${LABEL[method]} IPv${family}, ${text(flows)}` })
    if (method !== 'nat') continue
    const reply = measure(bench, toClients(server, 'A'), flows, SERVER_SIDE, Verdict.ForwardNatReply)
    report.row({ ...reply, name: `NAT reply IPv${family}, ${text(flows)}` })
  }
}

function notOurs(bench: Bench, report: Reporter, family: Family): void {
  bench.rules.clear()
  bench.rules.add({ at: endpoint(family), method: 'direct-routing', servers: [endpoint(family)] })
  const other = fromClients({ address: family === 4 ? '10.200.9.9' : 'fd00:200::99', port: 443 })
  const row = measure(bench, other, 1, CLIENT_SIDE, Verdict.PassNoService)
  report.row({ ...row, name: `not ours, IPv${family}, 1 flow` })
}

export const wasm: Section = {
  name: 'wasm',
  about: `the packet program alone in wasm, batches of ${BATCH} packets`,
  secondsMax: 150,
  async run(report) {
    stayOnCpu(cpus().length - 1)
    const bench = open()
    for (const method of METHODS) {
      for (const family of [4, 6] as const) {
        await part(report, `${LABEL[method]} IPv${family}`, () => connections(bench, report, method, family))
      }
    }
    for (const family of [4, 6] as const) {
      await part(report, `not ours, IPv${family}`, () => notOurs(bench, report, family))
    }
  },
}
