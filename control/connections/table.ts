/** One connection table (IPv4 or IPv6) as the daemon reads it: live memory, a line at a time. */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import {
  Conn4Record,
  Conn6Record,
  ConnKind,
  ConnRecord,
  ConnStatus,
  PM_CONN_STATUS,
  PM_NONE,
  TcpState,
} from '../../dataplane/layout/layout.gen.ts'
import type { Family, IpAddress } from '../../net/address.ts'
import { ipv4FromNumber, readAddress } from '../../net/address.ts'

const { offsets } = ConnRecord
const WORD = offsets.word / 4
/** Protocol, kind, method and state share a word. */
const KIND = offsets.protocol / 4
const EXPIRES = offsets.expires / 4
const REAL = offsets.real / 4
const PEER = offsets.peer / 4
const PROTO_TCP = 6

/** Counted as active; every other state, and every other protocol, as inactive. */
export function isActive(protocol: number, state: number): boolean {
  if (protocol !== PROTO_TCP) return false
  return (
    state === TcpState.Established ||
    state === TcpState.SynSent ||
    state === TcpState.SynRecv ||
    state === TcpState.Synack
  )
}

/** Ticks from `now` until `then`, negative when past; both modulo 2^32. */
export function ticksUntil(now: number, then: number): number {
  return (then - now) | 0
}

export class ConnectionTable {
  readonly family: Family
  readonly lines: number
  /** The table as words, for loops that look at every line. */
  readonly u32: Uint32Array
  /** Words from one line to the next. */
  readonly stride: number
  readonly #view: DataView
  readonly #bytes: Uint8Array

  constructor(dataplane: Dataplane, family: Family) {
    const map = dataplane.map(family === 4 ? 'connections4' : 'connections6')
    this.family = family
    this.lines = map.entries
    this.u32 = map.u32
    this.stride = map.entrySize / 4
    this.#view = map.view
    this.#bytes = map.bytes
  }

  word(line: number): number {
    return Atomics.load(this.u32, line * this.stride + WORD)
  }

  isLive(line: number): boolean {
    return (this.word(line) & PM_CONN_STATUS) === ConnStatus.Live
  }

  /** Replaces the word if it is still `from`; the winner owns the line. */
  swapWord(line: number, from: number, to: number): boolean {
    return Atomics.compareExchange(this.u32, line * this.stride + WORD, from >>> 0, to >>> 0) === from >>> 0
  }

  storeWord(line: number, word: number): void {
    Atomics.store(this.u32, line * this.stride + WORD, word >>> 0)
  }

  expires(line: number): number {
    return this.u32[line * this.stride + EXPIRES]!
  }

  real(line: number): number {
    return this.u32[line * this.stride + REAL]!
  }

  protocol(line: number): number {
    return this.u32[line * this.stride + KIND]! & 0xff
  }

  kind(line: number): number {
    return (this.u32[line * this.stride + KIND]! >>> 8) & 0xff
  }

  method(line: number): number {
    return (this.u32[line * this.stride + KIND]! >>> 16) & 0xff
  }

  state(line: number): number {
    return this.u32[line * this.stride + KIND]! >>> 24
  }

  flags(line: number): number {
    return ConnRecord.getFlags(this.#view, line * this.stride * 4)
  }

  /** The line of the other direction if it still belongs to this one, else -1. */
  peer(line: number): number {
    const peer = this.u32[line * this.stride + PEER]!
    if (peer === PM_NONE || peer >= this.lines || !this.isLive(peer)) return -1
    return this.u32[peer * this.stride + PEER] === line ? peer : -1
  }

  /** Ticks left, of the later direction; negative when past. */
  remaining(line: number, now: number): number {
    const own = ticksUntil(now, this.expires(line))
    const peer = this.peer(line)
    return peer < 0 ? own : Math.max(own, ticksUntil(now, this.expires(peer)))
  }

  /** Source, destination and rewritten address of a line. */
  addresses(line: number): { source: IpAddress; destination: IpAddress; target: IpAddress } {
    const base = line * this.stride * 4
    if (this.family === 4) {
      return {
        source: ipv4FromNumber(Conn4Record.getSaddr(this.#view, base)),
        destination: ipv4FromNumber(Conn4Record.getDaddr(this.#view, base)),
        target: ipv4FromNumber(Conn4Record.getNewAddr(this.#view, base)),
      }
    }
    const at = (field: 'saddr' | 'daddr' | 'newAddr'): IpAddress =>
      readAddress(this.#bytes, base + Conn6Record.offsets[field], 6)
    return { source: at('saddr'), destination: at('daddr'), target: at('newAddr') }
  }

  ports(line: number): { source: number; destination: number; target: number } {
    const base = line * this.stride * 4
    return {
      source: ConnRecord.getSport(this.#view, base),
      destination: ConnRecord.getDport(this.#view, base),
      target: ConnRecord.getNewPort(this.#view, base),
    }
  }

  /** Whether the line stands for a connection that is listed and counted. */
  isConnection(line: number): boolean {
    const kind = this.kind(line)
    return kind === ConnKind.In || kind === ConnKind.Template
  }
}
