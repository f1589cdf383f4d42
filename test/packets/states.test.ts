/**
 * Random conversations of TCP, UDP and SCTP, seen from both sides and from the client's alone, beside a model of the
 * state machines: state, activity, the counts of the real servers, and the time that is left.
 *
 * `POINTSMAN_STATE_EVENTS=1000000 npm test -- packets/states` is the long form.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ConnKind,
  ConnRecord,
  ConnStatus,
  LiveRecord,
  PM_CONN_ACTIVE,
  PM_CONN_KIND_MASK,
  PM_CONN_STATE_MASK,
  PM_CONN_STATE_SHIFT,
  PM_CONN_STATUS,
} from '../../dataplane/layout/layout.gen.ts'
import { Random } from '../differential/random.ts'
import { SEED } from '../property.ts'
import { CHUNK, ip, type Segment, sctp, tcp, udp } from './frame.ts'
import { openWasmProgram, type Program } from './programs.ts'
import { ENDS, fromServer, RS4, RS6, reply, request } from './scenes.ts'
import {
  ConnectionModel,
  type ModelEvent,
  type ModelSettings,
  type Protocol,
  sctpEvent,
  tcpEvent,
  UDP_EVENT,
} from './state-model.ts'

const EVENTS = Number(process.env.POINTSMAN_STATE_EVENTS ?? 24_000)
/** Connections at a time, of each protocol. */
const FLOWS = 4
const PORTS: Readonly<Record<Protocol, number>> = { tcp: 80, udp: 53, sctp: 36412 }
const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp', 'sctp']
const FLAGS = ['S', 'S', 'A', 'A', 'A', 'PA', 'FA', 'F', 'R', 'RA', 'SA', 'P', '', 'SF', 'SR', 'FU']
const CHUNKS = [...Object.values(CHUNK), 1, 10, 11, 3, 4, 12, 64, 255]
/** The program restarts a timer when that moves it by more (PM_RESTART_TICKS). */
const GRAIN = 32

interface Case {
  readonly family: 4 | 6
  readonly method: '-m' | '-g'
  readonly settings: ModelSettings
}

const CASES: readonly Case[] = ([4, 6] as const).flatMap((family) =>
  (['-m', '-g'] as const).flatMap((method) =>
    [
      { secure: false, reuseMode: 1 },
      { secure: true, reuseMode: 1 },
      { secure: false, reuseMode: 2 },
      { secure: false, reuseMode: 0 },
    ].map((settings) => ({ family, method, settings })),
  ),
)

const bracket = (address: string): string => (address.includes(':') ? `[${address}]` : address)

function rules({ family, method, settings }: Case): string[] {
  const real = bracket((family === 4 ? RS4 : RS6)[0])
  const services = [
    ['-t', PORTS.tcp],
    ['-u', PORTS.udp],
    ['--sctp-service', PORTS.sctp],
  ] as const
  return [
    `conn_reuse_mode=${settings.reuseMode}`,
    `secure_tcp=${settings.secure ? 3 : 0}`,
    ...services.flatMap(([option, port]) => {
      const at = `${bracket(ENDS[family].vip)}:${port}`
      return [`ipvsadm -A ${option} ${at} -s rr`, `ipvsadm -a ${option} ${at} -r ${real}:${port} ${method}`]
    }),
  ]
}

interface Flow {
  readonly protocol: Protocol
  readonly port: number
  readonly model: ConnectionModel
}

interface Packet {
  readonly text: string
  readonly event: ModelEvent
  segment(sport: number, dport: number): Segment
}

function draw(protocol: Protocol, random: Random): Packet {
  if (protocol === 'udp')
    return { text: 'datagram', event: UDP_EVENT, segment: (sport, dport) => udp({ sport, dport }) }
  if (protocol === 'tcp') {
    const flags = random.pick(FLAGS)
    return {
      text: flags,
      event: tcpEvent(flags),
      segment: (sport, dport) => tcp({ sport, dport, flags }),
    }
  }
  const first = random.pick(CHUNKS)
  const second = random.once(4) ? random.pick(CHUNKS) : null
  const chunks = [{ type: first, value: 'x'.repeat(random.below(4) * 4) }]
  if (second !== null) chunks.push({ type: second, value: '' })
  return {
    text: second === null ? `chunk ${first}` : `chunks ${first}, ${second}`,
    event: sctpEvent(first, second),
    segment: (sport, dport) => sctp({ sport, dport }, chunks),
  }
}

/** The line of a flow's connection; they are few, and stay where they are. */
class Lines {
  readonly #program: Program
  readonly #family: 4 | 6
  readonly #known = new Map<Flow, number>()

  constructor(program: Program, family: 4 | 6) {
    this.#program = program
    this.#family = family
  }

  find(flow: Flow): number | null {
    const known = this.#known.get(flow)
    if (known !== undefined && this.#is(known, flow)) return known
    const map = this.#program.dataplane.map(this.#family === 4 ? 'connections4' : 'connections6')
    for (let base = 0; base < map.bytes.length; base += map.entrySize) {
      if (!this.#is(base, flow)) continue
      this.#known.set(flow, base)
      return base
    }
    return null
  }

  #is(base: number, { protocol, port }: Flow): boolean {
    const map = this.#program.dataplane.map(this.#family === 4 ? 'connections4' : 'connections6')
    if (((map.u32[base / 4] ?? 0) & PM_CONN_STATUS) !== ConnStatus.Live) return false
    const numbers: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 }
    return (
      (ConnRecord.getTraits(map.view, base) & PM_CONN_KIND_MASK) === ConnKind.In &&
      ConnRecord.getProtocol(map.view, base) === numbers[protocol] &&
      ConnRecord.getSport(map.view, base) === port
    )
  }
}

async function play(one: Case, events: number, seed: number, met: Set<string>): Promise<void> {
  const { family, method, settings } = one
  let now = 1_000_000
  const program = openWasmProgram(() => now)
  const random = new Random(seed)
  try {
    await program.load(rules(one))
    const lines = new Lines(program, family)
    const flows = PROTOCOLS.flatMap((protocol) =>
      Array.from(
        { length: FLOWS },
        (_, i): Flow => ({
          protocol,
          port: 40001 + i,
          model: new ConnectionModel(protocol, settings, method === '-m'),
        }),
      ),
    )
    const { client, vip } = ENDS[family]
    for (let n = 0; n < events; n++) {
      if (random.once(20)) now = later(now, random, flows)
      const flow = random.pick(flows)
      const dport = PORTS[flow.protocol]
      const packet = draw(flow.protocol, random)
      // Answers of direct routing are seen where they pass through the director: with IPv6.
      const isAnswer = random.once(method === '-m' ? 2 : 6) && (method === '-m' || family === 6)
      if (!isAnswer) program.send('c', request(family, packet.segment(flow.port, dport)))
      else if (method === '-m') program.send('r', reply(family, packet.segment(dport, flow.port)))
      else program.send('r', fromServer(ip({ src: vip, dst: client }, packet.segment(dport, flow.port))))
      flow.model.packet(isAnswer ? 'server' : 'client', packet.event, now)
      met.add(`${flow.protocol} ${settings.secure} ${flow.model.met}`)

      const said = `seed ${seed}, event ${n}: ${flow.protocol} ${isAnswer ? 'answer' : 'request'} "${packet.text}"`
      compare(program, family, lines.find(flow), flow, now, said)
      if (n % 64 === 63 || n === events - 1) compareCounts(program, flows, now, said)
    }
  } finally {
    await program.close()
  }
}

/** Some time later, but not at a moment when the program's coarser timers and the model's could differ. */
function later(now: number, random: Random, flows: readonly Flow[]): number {
  let then = now + random.pick([1, 100, 300, 1500, 8000, 16_000, 40_000])
  const isUnclear = ({ model }: Flow) => model.left(then) > -2 && model.left(then) <= GRAIN + 1
  while (flows.some(isUnclear)) then += GRAIN
  return then
}

function compare(
  program: Program,
  family: 4 | 6,
  line: number | null,
  flow: Flow,
  now: number,
  said: string,
): void {
  const { view, u32 } = program.dataplane.map(family === 4 ? 'connections4' : 'connections6')
  const wanted = flow.model.state(now)
  // One that has run out stands there until somebody needs its line, or its ports.
  const left = line === null ? -1 : lastOf(view, u32, line, family, program) - now
  if (line === null || left < 0) {
    assert.equal(wanted, null, said)
    return
  }
  const word = u32[line / 4]!
  assert.equal((word >>> PM_CONN_STATE_SHIFT) & PM_CONN_STATE_MASK, wanted, said)
  assert.equal((word & PM_CONN_ACTIVE) !== 0, flow.model.isActive, said)
  const coarser = flow.model.left(now) - left
  assert.ok(coarser >= 0 && coarser <= GRAIN, `${said}: ${left} ticks are left, not ${flow.model.left(now)}`)
}

/** When a connection ends: the later of the timers of its two lines counts. */
function lastOf(view: DataView, u32: Uint32Array, line: number, family: 4 | 6, program: Program): number {
  const { entrySize } = program.dataplane.map(family === 4 ? 'connections4' : 'connections6')
  const own = ConnRecord.getExpires(view, line)
  const peer = ConnRecord.getPeer(view, line) * entrySize
  const isPaired =
    peer < u32.byteLength &&
    ((u32[peer / 4] ?? 0) & PM_CONN_STATUS) === ConnStatus.Live &&
    ConnRecord.getPeer(view, peer) * entrySize === line
  return isPaired ? Math.max(own, ConnRecord.getExpires(view, peer)) : own
}

/** Of those that have run out some are counted still. */
function compareCounts(program: Program, flows: readonly Flow[], now: number, said: string): void {
  const { view, bytes, entrySize } = program.dataplane.map('live')
  let active = 0
  let all = 0
  for (let base = 0; base < bytes.length; base += entrySize) {
    active += LiveRecord.getActive(view, base)
    all += LiveRecord.getActive(view, base) + LiveRecord.getInactive(view, base)
  }
  const living = flows.filter(({ model }) => model.state(now) !== null)
  const over = flows.length - living.length
  const wanted = living.filter(({ model }) => model.isActive).length
  assert.ok(active >= wanted && active <= wanted + over, `${said}: ${active} are active, not ${wanted}`)
  assert.ok(all >= living.length && all <= flows.length, `${said}: ${all} are counted, not ${living.length}`)
}

test(`${EVENTS} random packets lead where the specification's tables lead`, async () => {
  const met = new Set<string>()
  for (const [at, one] of CASES.entries())
    await play(one, Math.ceil(EVENTS / CASES.length), SEED * 1000 + at, met)
  const of = (start: string) => [...met].filter((cell) => cell.startsWith(start)).length
  // What cannot be reached (LISTEN, say) is not met; nearly everything else is.
  assert.ok(of('tcp false') > 70, `${of('tcp false')} cells of the normal table`)
  assert.ok(of('tcp true') > 60, `${of('tcp true')} cells of the secure table`)
  assert.ok(of('sctp false') > 200, `${of('sctp false')} cells of SCTP`)
})
