/**
 * Why a packet fares as it does: the packet program itself, in wasm, runs over a copy of a director's maps, and
 * what it has read and written is told. Nothing is changed by asking.
 */
import type { Dataplane } from '../../../dataplane/dataplane.ts'
import {
  Action,
  type FibRecord,
  InterfaceRecord,
  MAP_NAMES,
  PM_INTERFACES,
  Setting,
  SettingsRecord,
  verdictNames,
} from '../../../dataplane/layout/layout.gen.ts'
import { type FrameOut, WasmDataplane } from '../../../dataplane/wasm/program.ts'
import type { NextHop } from '../../../linux/netlink/next-hop.ts'
import { type IpAddress, readAddress } from '../../../net/address.ts'
import { endpointText } from '../../../net/endpoint.ts'
import { hex, macText } from '../../../net/packet/bytes.ts'
import { decode } from '../../../net/packet/decode.ts'
import { keyOf, type PacketKey } from '../../../net/packet/key.ts'
import { protocolOfNumber } from '../../../net/protocol.ts'
import { ConnectionTable } from '../../connections/table.ts'
import { findLine, type LineRead } from './lines.ts'
import {
  hasAddress,
  isOnePacket,
  isPersistent,
  membersOf,
  realAt,
  realText,
  type ServiceRead,
  serviceAt,
  serviceOf,
  slotsOf,
} from './reading.ts'
import { choice } from './scheduling.ts'
import type { Snapshot } from './snapshot.ts'
import type { Explanation, Line, Step } from './told.ts'
import type { VerdictWords } from './verdict-words.ts'

/** A question for the way to an address, which the copy has no answer to. */
export interface HopQuestion {
  readonly family: 4 | 6
  readonly destination: IpAddress
  readonly source: IpAddress
  readonly ifindex: number
  readonly tos: number
}

export interface ExplainerOptions {
  readonly snapshot: Snapshot
  readonly module: WebAssembly.Module
  readonly words: ReadonlyMap<string, VerdictWords>
  /** Ways that are known without the snapshot; left out: none. */
  readonly way?: (question: HopQuestion) => NextHop
  /** Of the program's memory; left out: all that it can address. */
  readonly maximumPages?: number
}

/** What a frame is, where it came in. */
export interface Arrival {
  readonly frame: Uint8Array
  readonly ifindex: number
}

export class Explainer {
  readonly plane: Dataplane
  readonly #wasm: WasmDataplane
  #snapshot: Snapshot
  readonly #words: ReadonlyMap<string, VerdictWords>
  readonly #tables: readonly [ConnectionTable, ConnectionTable]
  readonly #names: ReadonlyMap<number, string>
  /** The kernel's answers to questions. */
  readonly #learned = new Map<string, NextHop>()
  readonly #given: ((question: HopQuestion) => NextHop) | undefined
  /** What was asked in this run and answered. */
  #ways: { readonly question: HopQuestion; readonly hop: NextHop }[] = []
  #open: HopQuestion[] = []

  constructor({ snapshot, module, words, way, maximumPages }: ExplainerOptions) {
    this.#given = way
    this.#snapshot = snapshot
    this.#words = words
    this.#wasm = new WasmDataplane({
      sizes: snapshot.sizes,
      module,
      fib: (query) => this.#fib(query),
      now: () => this.#snapshot.ticks,
      ...(maximumPages === undefined ? {} : { maximumPages }),
    })
    this.plane = this.#wasm
    this.#names = new Map(snapshot.interfaces.map(({ ifindex, name }) => [ifindex, name]))
    this.#fill()
    this.#tables = [new ConnectionTable(this.#wasm, 4), new ConnectionTable(this.#wasm, 6)]
  }

  #fill(): void {
    for (const { map, offset, bytes } of this.#snapshot.chunks) this.#wasm.map(map).bytes.set(bytes, offset)
  }

  /** As it was when the snapshot was taken. */
  restore(): void {
    for (const name of MAP_NAMES) {
      const { bytes, entrySize } = this.#wasm.map(name)
      const table =
        name === 'connections4' ? this.#tables[0] : name === 'connections6' ? this.#tables[1] : null
      // What of a large table has never been touched is not touched now, either.
      bytes.fill(0, 0, table === null ? bytes.length : table.levels.inUse * entrySize)
    }
    this.#fill()
  }

  /** Another moment of the same director. */
  load(snapshot: Snapshot): void {
    this.#snapshot = snapshot
    this.restore()
  }

  /** The kernel's answer to a question that `explain` came back with. */
  learn(question: HopQuestion, hop: NextHop): void {
    if (this.#learned.size >= LEARNED_MAX) this.#learned.clear()
    this.#learned.set(questionKey(question), hop)
  }

  #fib(query: FibRecord): NextHop {
    const family = query.family === 4 ? 4 : 6
    const question: HopQuestion = {
      family,
      destination: readAddress(query.daddr, 0, family),
      source: readAddress(query.saddr, 0, family),
      ifindex: query.ifindex,
      tos: query.tos,
    }
    const hop =
      this.#given?.(question) ??
      this.#learned.get(questionKey(question)) ??
      this.#snapshot.hops.get(question.destination)
    if (hop === undefined) this.#open.push(question)
    else this.#ways.push({ question, hop })
    return hop ?? { result: 'no-neighbour' }
  }

  /** The interfaces that packets are taken from. */
  interfaces(): readonly { readonly ifindex: number; readonly name: string; readonly mac: Uint8Array }[] {
    const { view, bytes } = this.#wasm.map('interfaces')
    const taken: { ifindex: number; name: string; mac: Uint8Array }[] = []
    for (let at = 0; at < PM_INTERFACES * InterfaceRecord.size; at += InterfaceRecord.size) {
      const ifindex = InterfaceRecord.getIfindex(view, at)
      const mac = at + InterfaceRecord.offsets.mac
      if (ifindex !== 0) taken.push({ ifindex, name: this.#name(ifindex), mac: bytes.slice(mac, mac + 6) })
    }
    return taken
  }

  #name(ifindex: number): string {
    return this.#names.get(ifindex) ?? `ifindex ${ifindex}`
  }

  /**
   * Lets the packet through; its traces stay until `restore`. Questions that the copy cannot answer come back:
   * `learn` their answers, `restore`, and ask again.
   */
  explain(arrival: Arrival): Explanation | { readonly asks: readonly HopQuestion[] } {
    this.#ways = []
    this.#open = []
    const key = keyOf(arrival.frame)
    const before = key === null ? null : findLine(this.#tables, key, this.#snapshot.ticks)
    const service = key === null ? null : this.#serviceOf(key)
    const candidates = service === null ? this.#marked() : [service]
    const lists = new Map(candidates.map((one) => [one.slot, membersOf(this.#wasm, one)]))
    const [out] = this.#wasm.run([{ frame: arrival.frame, ifindex: arrival.ifindex }])
    if (out === undefined) throw new Error('The packet program returned nothing')
    if (this.#open.length > 0) return { asks: this.#open }
    const after = key === null ? null : findLine(this.#tables, key, this.#snapshot.ticks)
    const met = service ?? this.#ownerOf(after, lists)
    const members = met === null ? [] : (lists.get(met.slot) ?? [])
    return this.#tell({ arrival, key, before, after, service: met, members, out })
  }

  #serviceOf(key: PacketKey): ServiceRead | null {
    if (key.destinationPort === null) return serviceOf(this.#wasm, key, 0)
    return serviceOf(this.#wasm, key, key.destinationPort) ?? serviceOf(this.#wasm, key, 0)
  }

  /** Services that a packet may meet by a mark, which only the program gives. */
  #marked(): ServiceRead[] {
    const marked: ServiceRead[] = []
    for (const slot of slotsOf(this.#wasm, true)) {
      const service = serviceAt(this.#wasm, slot)
      if (service !== null) marked.push(service)
      if (marked.length === MARKED_MAX) break
    }
    return marked
  }

  #ownerOf(line: LineRead | null, lists: ReadonlyMap<number, unknown>): ServiceRead | null {
    const real = line === null ? null : realAt(this.#wasm, line.real)
    return real === null || !lists.has(real.service) ? null : serviceAt(this.#wasm, real.service)
  }

  #realOf({ real, virtual }: LineRead): string | null {
    const read = realAt(this.#wasm, real)
    if (read === null) return null
    return realText(read, virtual.port)
  }

  #tell(facts: Facts): Explanation {
    const { arrival, before, after, out } = facts
    const verdict = verdictName(out.verdict)
    const words = this.#words.get(verdict) ?? { meaning: '', remedy: '' }
    const line = after ?? before
    const made = after !== null && (before === null || before.line !== after.line || before.remainingMs < 0)
    const sent = out.action === Action.Send
    const service = this.#serviceName(facts, line)
    // A connection that ended by this packet had a part in it only if the packet went its way.
    const served = after ?? (verdict.startsWith('forward_') ? before : null)
    const realServer = served === null || !isAboutConnection(verdict) ? null : this.#realOf(served)
    const steps: Step[] = [
      { title: 'Packet', lines: decode(arrival.frame).map((text) => ({ text })) },
      this.#arrives(facts, verdict),
      ...this.#connection(facts, made),
      ...this.#service(facts, verdict),
      ...this.#schedule(facts, made ? after : null),
      ...this.#way(out, sent),
      ...this.#leaves(facts, sent),
      {
        title: 'Verdict',
        lines: [
          {
            text: `${verdict}: ${words.meaning}`,
            mark: sent ? 'good' : out.action === Action.Drop ? 'bad' : 'quiet',
          },
          ...(words.remedy === '' ? [] : [{ text: `What to do: ${words.remedy}` }]),
        ],
      },
    ]
    return {
      interface: this.#name(arrival.ifindex),
      verdict,
      action: out.action === Action.Send ? 'send' : out.action === Action.Drop ? 'drop' : 'pass',
      ...words,
      service,
      realServer,
      connection: made ? 'made' : before !== null && before.remainingMs >= 0 ? 'found' : 'none',
      leaves: sent ? this.#name(out.ifindex) : null,
      frame: { before: hex(arrival.frame), after: sent ? hex(out.frame) : null },
      steps,
    }
  }

  #serviceName({ service }: Facts, line: LineRead | null): string | null {
    if (line === null) return service?.name ?? null
    const real = realAt(this.#wasm, line.real)
    const owner = real === null ? null : serviceAt(this.#wasm, real.service)
    return owner?.name ?? service?.name ?? null
  }

  #arrives({ arrival }: Facts, verdict: string): Step {
    const taken = this.interfaces().find(({ ifindex }) => ifindex === arrival.ifindex)
    const name = this.#name(arrival.ifindex)
    const ready = (SettingsRecord.getFlags(this.#wasm.map('settings').view, 0) & Setting.Ready) !== 0
    const lines: Line[] = []
    if (!ready) lines.push({ text: 'no rules have been published yet', mark: 'bad' })
    if (taken === undefined) {
      lines.push({ text: `on ${name}, from which no packets are taken`, mark: 'bad' })
    } else if (verdict === 'pass_not_for_host') {
      const to = macText(arrival.frame.subarray(0, 6))
      lines.push({ text: `on ${name} for ${to}; its own address is ${macText(taken.mac)}`, mark: 'bad' })
    } else {
      lines.push({ text: `on ${name}, from which packets are taken` })
    }
    return { title: 'Arrives', lines }
  }

  #connection({ key, before, after }: Facts, made: boolean): Step[] {
    if (key === null) return []
    const title = 'Connection'
    if (key.sourcePort === null)
      return [{ title, lines: [{ text: 'shows no ports to find one by', mark: 'quiet' }] }]
    const lines: Line[] = []
    if (before === null) lines.push({ text: 'none of these ends' })
    else if (before.remainingMs < 0) lines.push({ text: 'there was one, and its time is over' })
    else lines.push({ text: `found: ${this.#lineText(before)}`, mark: 'good' })
    if (made && after !== null) lines.push({ text: `made: ${this.#lineText(after)}`, mark: 'added' })
    else if (after !== null && before !== null && after.state !== before.state)
      lines.push({ text: `becomes ${after.state}`, mark: 'added' })
    else if (after === null && before !== null && before.remainingMs >= 0)
      lines.push({ text: 'it ends here', mark: 'removed' })
    return [{ title, lines }]
  }

  #lineText(line: LineRead): string {
    const to = this.#realOf(line) ?? 'a real server that is no more'
    const gone = realAt(this.#wasm, line.real)?.isGone === true ? ', which was removed' : ''
    const direction = line.direction === 'client' ? 'from the client' : 'an answer'
    const client = endpointText(line.client)
    return `${line.state}, ${direction}; ${client} at ${to}${gone} by ${line.method}; ends in ${seconds(line.remainingMs)} if nothing comes`
  }

  #service({ key, before, service }: Facts, verdict: string): Step[] {
    if (key === null || (before !== null && before.remainingMs >= 0) || !FROM_RULES.has(stageOf(verdict)))
      return []
    const title = 'Virtual service'
    if (service !== null) {
      const more = [
        isPersistent(service) ? 'persistent' : '',
        isOnePacket(service) ? 'each packet by itself' : '',
      ].filter((text) => text !== '')
      const text = [service.name, `scheduler ${service.scheduler}`, ...more].join(', ')
      return [{ title, lines: [{ text, mark: 'good' }] }]
    }
    return [
      { title, lines: [{ text: `none for ${this.#askedFor(key)}`, mark: 'bad' }, ...this.#nearest(key)] },
    ]
  }

  #askedFor(key: PacketKey): string {
    const address = readAddress(key.destination, 0, key.family)
    const protocol = protocolOfNumber(key.protocol) ?? `protocol ${key.protocol}`
    return key.destinationPort === null
      ? `${protocol} to ${address}`
      : `${protocol}/${endpointText({ address, port: key.destinationPort })}`
  }

  /** The nearest services, and why they are not meant. */
  #nearest(key: PacketKey): Line[] {
    const same: Line[] = []
    let others = 0
    for (const slot of slotsOf(this.#wasm, false)) {
      const service = hasAddress(this.#wasm, slot, key) ? serviceAt(this.#wasm, slot) : null
      if (service === null) {
        others++
        continue
      }
      // Of an address with a thousand services, no more than are told of.
      if (same.length > NEAREST_MAX) break
      const otherPort = service.port !== key.destinationPort
      const otherProtocol = service.protocol !== key.protocol
      const why = [otherProtocol ? 'another protocol' : '', otherPort ? 'another port' : '']
      same.push({ text: `${service.name}: ${why.filter((text) => text !== '').join(', ')}` })
    }
    const address = readAddress(key.destination, 0, key.family)
    if (same.length > NEAREST_MAX) same.splice(NEAREST_MAX, same.length, { text: 'and more', mark: 'quiet' })
    if (same.length > 0) return same
    return [{ text: `no service has the address ${address}; there are ${others} with others`, mark: 'quiet' }]
  }

  #schedule({ service, members, before, out }: Facts, made: LineRead | null): Step[] {
    const nobody = verdictName(out.verdict) === 'answer_port_unreachable'
    if (service === null || (before !== null && before.remainingMs >= 0) || (made === null && !nobody))
      return []
    const title = `Scheduler ${service.scheduler}`
    if (members.length === 0)
      return [{ title, lines: [{ text: 'the service has no real servers', mark: 'bad' }] }]
    const { rule, considered } = choice(service.scheduler, members, made?.real ?? null)
    const chosen = considered.find((one) => one.chosen)
    const shown =
      considered.length > MEMBERS_MAX
        ? considered.filter((one) => one.chosen || one.words !== '')
        : considered
    const lines = shown.slice(0, MEMBERS_MAX).map(({ member, words, chosen }): Line => {
      const real = realAt(this.#wasm, member.real)
      const name = real === null ? `real server ${member.real}` : realText(real, service.port)
      const numbers = `weight ${member.weight}, ${member.active} active, ${member.inactive} inactive`
      const text = `${chosen ? '→' : ' '} ${name}  ${numbers}${words === '' ? '' : `  ${words}`}`
      return chosen ? { text, mark: 'chosen' } : { text }
    })
    const left = considered.length - lines.length
    return [
      {
        title,
        lines: [
          { text: rule, mark: 'quiet' },
          ...lines,
          ...(left > 0 ? [{ text: `  and ${left} more`, mark: 'quiet' } as const] : []),
          ...(chosen === undefined ? [{ text: 'nobody can take the connection', mark: 'bad' } as const] : []),
        ],
      },
    ]
  }

  #way(out: FrameOut, sent: boolean): Step[] {
    const lines = this.#ways.map(({ question, hop }): Line => {
      const to = `to ${question.destination}`
      if (hop.result === 'ok')
        return {
          text: `${to}: by ${this.#name(hop.ifindex)} to ${macText(hop.dmac)}, MTU ${hop.mtu}`,
        }
      return { text: `${to}: ${HOP_WORDS[hop.result]}`, mark: 'bad' }
    })
    if (lines.length === 0 && sent) {
      const text = `known: by ${this.#name(out.ifindex)} to ${macText(out.frame.subarray(0, 6))}`
      lines.push({ text, mark: 'quiet' })
    }
    return lines.length === 0 ? [] : [{ title: 'Next hop', lines }]
  }

  #leaves({ arrival, out }: Facts, sent: boolean): Step[] {
    if (!sent) return []
    const was = decode(arrival.frame)
    const is = decode(out.frame)
    const lines: Line[] = [{ text: `on ${this.#name(out.ifindex)}` }]
    for (const text of was) if (!is.includes(text)) lines.push({ text, mark: 'removed' })
    for (const text of is) lines.push(was.includes(text) ? { text } : { text, mark: 'added' })
    return [{ title: 'Leaves', lines }]
  }
}

interface Facts {
  readonly arrival: Arrival
  readonly key: PacketKey | null
  readonly before: LineRead | null
  readonly after: LineRead | null
  readonly service: ServiceRead | null
  readonly members: ReturnType<typeof membersOf>
  readonly out: FrameOut
}

/** Of services by firewall mark: beyond them the choice is told without what it was made from. */
const MARKED_MAX = 256
/** Ways that are remembered: a capture may have a packet from everybody. */
const LEARNED_MAX = 65_536
/** Services of one address that are told of where none fits. */
const NEAREST_MAX = 5
/** Of a long list. */
const MEMBERS_MAX = 24

const HOP_WORDS: Readonly<Record<Exclude<NextHop['result'], 'ok'>, string>> = {
  'no-route': 'there is no route; add one: ip route add',
  local: 'that is an address of this host',
  'no-neighbour': 'its MAC address is not known (yet)',
  'forwarding-off': 'the kernel does not forward on the receiving interface: sysctl -w net.ipv4.ip_forward=1',
}

/** Verdicts before which nobody looks at rules. */
const BEFORE_RULES = new Set([
  'not_ip',
  'not_for_host',
  'vlan',
  'malformed',
  'protocol',
  'not_configured',
  'icmp',
  'fragment',
])
const FROM_RULES = { has: (stage: string): boolean => !BEFORE_RULES.has(stage) }

function stageOf(verdict: string): string {
  return verdict.replace(/^pass_/, '')
}

/** Whether the connection's real server had a part in it. */
function isAboutConnection(verdict: string): boolean {
  return !/^pass_(no_service|not_first|martian_source|not_configured|not_ip|not_for_host|malformed)$/.test(
    verdict,
  )
}

function verdictName(number: number): string {
  return verdictNames[number] ?? `verdict_${number}`
}

function questionKey({ destination, source, ifindex, tos }: HopQuestion): string {
  return `${destination} ${source} ${ifindex} ${tos}`
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}
