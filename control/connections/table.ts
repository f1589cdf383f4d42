/** One connection table (IPv4 or IPv6) as the daemon reads it: live memory, a line at a time. */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import {
  Conn4Record,
  Conn6Record,
  ConnFlag,
  ConnKind,
  ConnRecord,
  ConnStatus,
  PM_CONN_CLASS_MASK,
  PM_CONN_CLASS_SHIFT,
  PM_CONN_GENERATION,
  PM_CONN_GENERATIONS,
  PM_CONN_HOLDS,
  PM_CONN_KIND_MASK,
  PM_CONN_METHOD_MASK,
  PM_CONN_METHOD_SHIFT,
  PM_CONN_STATE_MASK,
  PM_CONN_STATE_SHIFT,
  PM_CONN_STATUS,
  PM_CONTROL_OPEN,
  PM_NONE,
  TemplateState,
} from '../../dataplane/layout/layout.gen.ts'
import type { Family, IpAddress } from '../../net/address.ts'
import { addressToBytes, ipv4FromNumber, readAddress } from '../../net/address.ts'
import { CallIds } from './call-ids.ts'
import { TableLevels } from './levels.ts'
import { type Place, placeOf, placeOfTemplate } from './place.ts'

const { offsets } = ConnRecord
const WORD = offsets.word / 4
/** Protocol, traits and the index of the next hop share a word. */
const TRAITS = offsets.protocol / 4
const EXPIRES = offsets.expires / 4
const REAL = offsets.real / 4
const PEER = offsets.peer / 4
const PORTS = offsets.sport / 4
const SOURCE4 = Conn4Record.offsets.saddr / 4
const SOURCE6 = Conn6Record.offsets.saddr / 4
const FLAGS = ~(PM_CONN_KIND_MASK | (PM_CONN_METHOD_MASK << PM_CONN_METHOD_SHIFT)) & 0xff

/** Ticks from `now` until `then`, negative when past; both modulo 2^32. */
export function ticksUntil(now: number, then: number): number {
  return (then - now) | 0
}

/**
 * What a line stands for at one moment (bpf/line.h): its word, and the time it ends. All that changes in a
 * live line; read once, and swapped as a whole.
 */
export interface Head {
  readonly word: number
  readonly until: number
}

export function isLive(word: number): boolean {
  return (word & PM_CONN_STATUS) === ConnStatus.Live
}

function headBits({ word, until }: Head): bigint {
  return (BigInt(until >>> 0) << 32n) | BigInt(word >>> 0)
}

/** The head of a line that is taken from whoever has `word`, at this time. */
export function claimedHead(word: number, nowTicks: number): Head {
  const generation = (word + PM_CONN_GENERATION) & PM_CONN_GENERATIONS
  return { word: ((word & PM_CONN_HOLDS) | generation | ConnStatus.Claimed) >>> 0, until: nowTicks >>> 0 }
}

/** The word of a line that is claimed with `own`, as that of a live one in the state that `from` says. */
export function liveWord(own: number, from: number): number {
  const state = from & (PM_CONN_STATE_MASK << PM_CONN_STATE_SHIFT)
  return ((own & (PM_CONN_GENERATIONS | PM_CONN_HOLDS)) | state | ConnStatus.Live) >>> 0
}

/** The head of a line that nobody has any more. */
export function freedHead(word: number): Head {
  return { word: ((word & (PM_CONN_HOLDS | PM_CONN_GENERATIONS)) | ConnStatus.Freed) >>> 0, until: 0 }
}

/** `pm_traits` */
export function traitsOf(kind: number, method: number, flags: number): number {
  return kind | (method << PM_CONN_METHOD_SHIFT) | flags
}

/** A line's fields behind its head. */
export interface LineFields {
  readonly protocol: number
  readonly sport: number
  readonly dport: number
  readonly source: IpAddress
  readonly destination: IpAddress
  readonly kind: number
  readonly method: number
  readonly flags: number
  readonly real: number
  readonly peer: number
  /** Index in `neighbours` of a next hop; 0: none is kept in the line. */
  readonly neighbour: number
}

export class ConnectionTable {
  readonly family: Family
  readonly lines: number
  readonly levels: TableLevels
  /** The table as words, for loops that look at every line. */
  readonly u32: Uint32Array
  /** Words from one line to the next. */
  readonly stride: number
  readonly #u64: BigUint64Array
  readonly #view: DataView
  readonly #bytes: Uint8Array
  /** A word for each line: see pm_controls in bpf/types.h. */
  readonly #controls: Uint32Array
  readonly #calls: CallIds

  constructor(dataplane: Dataplane, family: Family) {
    const map = dataplane.map(family === 4 ? 'connections4' : 'connections6')
    this.family = family
    this.lines = map.entries
    this.levels = new TableLevels(dataplane, family, map.entries)
    this.u32 = map.u32
    this.stride = map.entrySize / 4
    this.#u64 = map.u64
    this.#view = map.view
    this.#bytes = map.bytes
    this.#controls = dataplane.map(family === 4 ? 'controls4' : 'controls6').u32
    this.#calls = new CallIds(dataplane, family)
  }

  /** How many connections a persistence template controls. */
  controlled(template: number): number {
    return Atomics.load(this.#controls, template) & ~PM_CONTROL_OPEN
  }

  /** It controls so many, if it is still this many that are counted; false: it is not. */
  recount(template: number, from: number, to: number): boolean {
    const [was, is] = [from | PM_CONTROL_OPEN, to | PM_CONTROL_OPEN].map((word) => word >>> 0)
    return Atomics.compareExchange(this.#controls, template, was!, is!) === was
  }

  /** No connection counts on this template any more; false if one does. Its line has to be claimed. */
  close(template: number): boolean {
    const open = PM_CONTROL_OPEN >>> 0
    return Atomics.compareExchange(this.#controls, template, open, 0) === open
  }

  /** The template of a connection, which counts it; -1 if none does. */
  template(line: number): number {
    if ((this.flags(line) & ConnFlag.Controlled) === 0 || this.kind(line) !== ConnKind.In) return -1
    const template = Atomics.load(this.#controls, line)
    return template < this.lines ? template : -1
  }

  /** A connection of this template has ended. */
  uncontrol(template: number): void {
    Atomics.sub(this.#controls, template, 1)
  }

  word(line: number): number {
    return Atomics.load(this.u32, line * this.stride + WORD)
  }

  isLive(line: number): boolean {
    return isLive(this.word(line))
  }

  head(line: number): Head {
    const bits = Atomics.load(this.#u64, (line * this.stride) / 2)
    return { word: Number(bits & 0xffff_ffffn), until: Number(bits >> 32n) }
  }

  /** Replaces a line's head if it is still `from`; the winner owns what goes with it. */
  swapHead(line: number, from: Head, to: Head): boolean {
    const bits = headBits(from)
    return Atomics.compareExchange(this.#u64, (line * this.stride) / 2, bits, headBits(to)) === bits
  }

  expires(line: number): number {
    return this.u32[line * this.stride + EXPIRES]!
  }

  real(line: number): number {
    return this.u32[line * this.stride + REAL]!
  }

  protocol(line: number): number {
    return this.u32[line * this.stride + TRAITS]! & 0xff
  }

  #traits(line: number): number {
    return (this.u32[line * this.stride + TRAITS]! >>> 8) & 0xff
  }

  kind(line: number): number {
    return this.#traits(line) & PM_CONN_KIND_MASK
  }

  method(line: number): number {
    return (this.#traits(line) >>> PM_CONN_METHOD_SHIFT) & PM_CONN_METHOD_MASK
  }

  /** `ConnFlag` bits. */
  flags(line: number): number {
    return this.#traits(line) & FLAGS
  }

  /** Index in `neighbours` of the next hop that the line keeps; 0: none. */
  neighbour(line: number): number {
    return this.u32[line * this.stride + TRAITS]! >>> 16
  }

  state(line: number): number {
    return (this.word(line) >>> PM_CONN_STATE_SHIFT) & PM_CONN_STATE_MASK
  }

  class(line: number): number {
    return (this.word(line) >>> PM_CONN_CLASS_SHIFT) & PM_CONN_CLASS_MASK
  }

  /** Where lines of this one's key may stand. Of a line that is being written it says nothing. */
  place(line: number): Place {
    const base = line * this.stride
    const ports = this.u32[base + PORTS]!
    const place = placeOf(this.levels.seed, {
      addresses: this.u32,
      first: base + (this.family === 4 ? SOURCE4 : SOURCE6),
      words: this.family === 4 ? 1 : 4,
      sport: ports & 0xffff,
      dport: ports >>> 16,
      protocol: this.protocol(line),
    })
    return this.isByCall(line) ? placeOfTemplate(place, this.neighbour(line)) : place
  }

  /** The line of the other direction if it still belongs to this one, else -1. */
  peer(line: number): number {
    const peer = this.u32[line * this.stride + PEER]!
    if (peer === PM_NONE || peer >= this.lines || !this.isLive(peer)) return -1
    return this.u32[peer * this.stride + PEER] === line ? peer : -1
  }

  /** Whether that line says that it belongs to this one. */
  leadsTo(peer: number, line: number): boolean {
    return this.u32[peer * this.stride + PEER] === line
  }

  /** Ticks left, of the later direction; negative when past. */
  remaining(line: number, now: number): number {
    const own = ticksUntil(now, this.expires(line))
    const peer = this.peer(line)
    return peer < 0 ? own : Math.max(own, ticksUntil(now, this.expires(peer)))
  }

  /** Source and destination of a line's packets. */
  addresses(line: number): { source: IpAddress; destination: IpAddress } {
    const base = line * this.stride * 4
    if (this.family === 4) {
      return {
        source: ipv4FromNumber(Conn4Record.getSaddr(this.#view, base)),
        destination: ipv4FromNumber(Conn4Record.getDaddr(this.#view, base)),
      }
    }
    const at = (field: 'saddr' | 'daddr'): IpAddress =>
      readAddress(this.#bytes, base + Conn6Record.offsets[field], 6)
    return { source: at('saddr'), destination: at('daddr') }
  }

  /** Both addresses as numbers, IPv4 in the first of four words: for who looks at very many lines. */
  addressWords(line: number, source: Uint32Array, destination: Uint32Array): void {
    const base = line * this.stride * 4
    if (this.family === 4) {
      source[0] = Conn4Record.getSaddr(this.#view, base)
      destination[0] = Conn4Record.getDaddr(this.#view, base)
      return
    }
    const { saddr, daddr } = Conn6Record.offsets
    for (let i = 0; i < 4; i++) {
      source[i] = this.#view.getUint32(base + saddr + 4 * i)
      destination[i] = this.#view.getUint32(base + daddr + 4 * i)
    }
  }

  /** Whether a template is for one call of its client's: its key has a tag, which stands where a next hop would. */
  isByCall(line: number): boolean {
    return this.kind(line) === ConnKind.Template && this.neighbour(line) !== 0
  }

  /** Of such a template, the Call-ID; null where it is not known any more. */
  callId(line: number): string | null {
    return this.#calls.of(line, this.word(line))
  }

  ports(line: number): { source: number; destination: number } {
    const base = line * this.stride * 4
    return {
      source: this.isByCall(line) ? 0 : ConnRecord.getSport(this.#view, base),
      destination: ConnRecord.getDport(this.#view, base),
    }
  }

  /** Whether the line stands for a connection that is listed and counted. */
  isConnection(line: number): boolean {
    const kind = this.kind(line)
    if (kind === ConnKind.Template) return !this.isSource(line)
    return kind === ConnKind.In && !this.isCheck(line)
  }

  /** Whether a template leads nowhere, and only counts the connections of a source. */
  isSource(line: number): boolean {
    return (this.state(line) & TemplateState.Source) !== 0
  }

  /** A health check of ours: nobody's connection. */
  isCheck(line: number): boolean {
    return (this.flags(line) & ConnFlag.Check) !== 0
  }

  /** Writes everything behind the head. Only for whoever has claimed the line. */
  fill(line: number, wanted: LineFields): void {
    const base = line * this.stride * 4
    const view = this.#view
    ConnRecord.setSport(view, base, wanted.sport)
    ConnRecord.setDport(view, base, wanted.dport)
    ConnRecord.setProtocol(view, base, wanted.protocol)
    ConnRecord.setTraits(view, base, traitsOf(wanted.kind, wanted.method, wanted.flags))
    ConnRecord.setNeighbour(view, base, wanted.neighbour)
    ConnRecord.setReal(view, base, wanted.real)
    ConnRecord.setPeer(view, base, wanted.peer)
    const at = this.family === 4 ? Conn4Record.offsets : Conn6Record.offsets
    this.#bytes.set(addressToBytes(wanted.source), base + at.saddr)
    this.#bytes.set(addressToBytes(wanted.destination), base + at.daddr)
  }
}
