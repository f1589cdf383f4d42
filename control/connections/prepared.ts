/**
 * Connections that the daemon makes itself, for health checks: the two lines that a packet's first look would
 * have made, written before there is a packet. Everything is done as packets do it (bpf/line.h, bpf/room.h,
 * bpf/connect.h): a line is claimed by swapping its head, filled while it is claimed, and published by
 * another swap; whoever takes it away meanwhile has won.
 *
 * The client's line leads to a record of a real server that no service has, so that nothing of this counts
 * anywhere. The line of the answers has its way out written already: to the link where the question comes
 * from, past the host's own stack. Both carry PM_CONN_CHECK: no list, no count and no message to another
 * director has them, and their next hops stay.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import {
  ConnFlag,
  ConnKind,
  ConnStatus,
  LiveRecord,
  PM_CONN_ACTIVE,
  PM_CONN_GENERATIONS,
  PM_CONN_HELD,
  PM_CONN_HOPS,
  PM_CONN_STATUS,
  PM_WAYS,
  SettingsRecord,
} from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { addressToBytes, familyOf } from '../../net/address.ts'
import { type ConnectionTable, claimedHead, freedHead, type Head, isLive } from './table.ts'

export interface Side {
  readonly address: IpAddress
  readonly port: number
}

export interface Flow {
  /** IP protocol number. */
  readonly protocol: number
  readonly from: Side
  readonly to: Side
}

/** Where answers leave, whatever routes say. */
export interface FixedHop {
  readonly ifindex: number
  readonly smac: Uint8Array
  readonly dmac: Uint8Array
  readonly mtu: number
}

export interface Wish {
  /** The client's direction. */
  readonly there: Flow
  /** The answers', as they arrive. */
  readonly back: Flow
  /** Index in reals, of a record of its own. */
  readonly real: number
  /** enum pm_method */
  readonly method: number
  /** Where the real server takes the packet: its address and port. */
  readonly target: Side
  readonly hop: FixedHop
  /** To the real server; null: packets look it up. */
  readonly hopThere: FixedHop | null
  /** How long the lines live without a packet. */
  readonly ticks: number
}

/** A line that was published, and by whom it is ours. */
interface Owned {
  readonly table: ConnectionTable
  readonly line: number
  readonly word: number
  /** The way out that it was given. */
  readonly ifindex: number
}

export interface Prepared {
  readonly real: number
  readonly lines: readonly [Owned, Owned]
}

/** A line that is being written, and the level of the table that it stands in. */
interface Claimed {
  readonly line: number
  readonly head: Head
  readonly level: number
}

/** Of bpf/next-hop.h. */
const PM_EPOCH_SHIFT = 12
/** Attempts at a swap that packets keep winning. */
const TRIES = 8

export class PreparedConnections {
  readonly #dataplane: Dataplane
  readonly #tables: readonly [ConnectionTable, ConnectionTable]

  constructor(dataplane: Dataplane, tables: readonly [ConnectionTable, ConnectionTable]) {
    this.#dataplane = dataplane
    this.#tables = tables
  }

  /** null: there is no room, or somebody has such a connection. */
  prepare(wish: Wish): Prepared | null {
    const family = familyOf(wish.there.from.address)
    const table = this.#tables[family === 4 ? 0 : 1]
    const now = this.#dataplane.nowTicks()
    const there = this.#claim(table, wish.there, now)
    if (there === null) return null
    const back = this.#claim(table, wish.back, now)
    if (back === null) {
      table.swapHead(there.line, there.head, freedHead(there.head.word))
      return null
    }
    const { real, target, hop, hopThere } = wish
    const epoch = this.#epoch(now)
    const until = (now + wish.ticks) >>> 0
    fill(table, there.line, wish.there, target.address, {
      ...{ kind: ConnKind.In, method: wish.method, real, peer: back.line, newPort: target.port },
      level: there.level,
      hop: hopThere === null ? null : { ...hopThere, epoch },
    })
    fill(table, back.line, wish.back, wish.there.to.address, {
      ...{ kind: ConnKind.Reply, method: wish.method, real, peer: there.line, newPort: wish.there.to.port },
      level: back.level,
      hop: { ...hop, epoch },
    })
    const thereLive = liveHead(there.head.word, until)
    const backLive = liveHead(back.head.word, until)
    this.#count(real, 1)
    // A line for answers is never without its connection (bpf/connect.h).
    const published = table.swapHead(there.line, there.head, thereLive)
    if (!published || !table.swapHead(back.line, back.head, backLive)) {
      if (published) this.#end(table, there.line, thereLive.word, real)
      else this.#count(real, -1)
      table.swapHead(back.line, back.head, freedHead(back.head.word))
      return null
    }
    return {
      real,
      lines: [
        { table, line: there.line, word: thereLive.word, ifindex: hopThere?.ifindex ?? 0 },
        { table, line: back.line, word: backLive.word, ifindex: hop.ifindex },
      ],
    }
  }

  /**
   * False: one of the lines was taken away, or has lost its way out, since routes changed just when a packet
   * came. Then what was asked over them says nothing.
   */
  isThere({ lines }: Prepared): boolean {
    return lines.every(
      ({ table, line, word, ifindex }) =>
        isSameOwner(table.word(line), word) && (ifindex === 0 || table.ifindex(line) === ifindex),
    )
  }

  free({ real, lines: [there, back] }: Prepared): void {
    this.#end(there.table, there.line, there.word, real)
    this.#end(back.table, back.line, back.word, null)
  }

  /** A line for this flow; one that an earlier daemon left for the same is taken over. */
  #claim(table: ConnectionTable, flow: Flow, now: number): Claimed | null {
    const [level, ...others] = table.levels.toSearch()
    const lines = this.#linesOf(table, flow, level)
    for (const line of [...lines, ...others.flatMap((other) => this.#linesOf(table, flow, other))]) {
      const head = table.head(line)
      if (!isLive(head.word) || !isFlow(table, line, flow)) continue
      if ((table.flags(line) & ConnFlag.Check) === 0) return null
      const real = table.kind(line) === ConnKind.In ? table.real(line) : null
      if (!this.#end(table, line, head.word, real)) return null
    }
    const sets = [lines.slice(0, PM_WAYS), lines.slice(PM_WAYS)].map((set) => {
      const free = set.filter((line) => (table.word(line) & PM_CONN_STATUS) < ConnStatus.Claimed)
      return { free, used: set.length - free.length }
    })
    const [one, two] = sets as [(typeof sets)[0], (typeof sets)[0]]
    const inOrder = one.used < PM_WAYS - 1 || one.used <= two.used ? [one, two] : [two, one]
    // The first free one of a set, in the order of the search: a line that was never used ends it.
    for (const { free } of inOrder) {
      const [line] = free
      if (line === undefined) continue
      const from = table.head(line)
      if ((from.word & PM_CONN_STATUS) >= ConnStatus.Claimed) continue
      const head = claimedHead(from.word, now)
      if (table.swapHead(line, from, head)) return { line, head, level }
    }
    return null
  }

  /** Takes a line out of the table while it is its owner's; whether it was. */
  #end(table: ConnectionTable, line: number, word: number, real: number | null): boolean {
    for (let n = 0; n < TRIES; n++) {
      const head = table.head(line)
      if (!isSameOwner(head.word, word)) return false
      // A packet is writing its next hop, for nanoseconds.
      if ((head.word & PM_CONN_HELD) !== 0) continue
      const claimed = claimedHead(head.word, this.#dataplane.nowTicks())
      if (!table.swapHead(line, head, claimed)) continue
      if (real !== null) this.#uncount(real, head.word)
      table.swapHead(line, claimed, freedHead(claimed.word))
      return true
    }
    return false
  }

  /** Until when next hops that are written now are good: `pm_epoch` in bpf/next-hop.h. */
  #epoch(now: number): number {
    const { u32 } = this.#dataplane.map('settings')
    return (Atomics.load(u32, SettingsRecord.offsets.nextHopEpoch / 4) + (now >>> PM_EPOCH_SHIFT)) >>> 0
  }

  #count(real: number, by: 1 | -1): void {
    const { u32 } = this.#dataplane.map('live')
    Atomics.add(u32, (real * LiveRecord.size + LiveRecord.offsets.inactive) / 4, by)
  }

  #uncount(real: number, word: number): void {
    const { offsets, size } = LiveRecord
    const counted = (word & PM_CONN_ACTIVE) === 0 ? offsets.inactive : offsets.active
    Atomics.sub(this.#dataplane.map('live').u32, (real * size + counted) / 4, 1)
  }

  /** The lines of a level that a flow may stand in, in the order of the search (`pm_place`, `pm_nth` in bpf/lookup.h). */
  #linesOf(table: ConnectionTable, { protocol, from, to }: Flow, level: number): number[] {
    const settings = this.#dataplane.map('settings')
    const seed = settings.u32[SettingsRecord.offsets.hashSeed / 4]!
    const source = loaded(from.address)
    const destination = loaded(to.address)
    let hash = BigInt(seed)
    source.forEach((word, i) => {
      hash = stir(hash, (word << 32n) | destination[i]!)
    })
    hash = stir(hash, (swapped(from.port) << 32n) | (swapped(to.port) << 8n) | BigInt(protocol))
    hash = BigInt.asUintN(64, hash * 0xbf58476d1ce4e5b9n)
    hash ^= hash >> 32n
    const mask = (table.lines / PM_WAYS - 1) >>> level
    const first = Number(hash & 0xffff_ffffn) & mask
    const second = (first ^ (Number((hash >> 33n) & 0xffff_ffffn) | 1)) & mask
    const way = Number(hash >> 62n)
    return [first, second].flatMap((set) =>
      Array.from({ length: PM_WAYS }, (_, n) => set * PM_WAYS + ((way + n) % PM_WAYS)),
    )
  }
}

function stir(hash: bigint, word: bigint): bigint {
  const product = BigInt.asUintN(64, (hash ^ word) * 0x9e3779b97f4a7c15n)
  return product ^ (product >> 29n)
}

/** The words of an address as the program loads them from a packet: the first byte lowest. */
function loaded(address: IpAddress): bigint[] {
  const bytes = addressToBytes(address)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: bytes.length / 4 }, (_, i) => BigInt(view.getUint32(i * 4, true)))
}

function swapped(port: number): bigint {
  return BigInt(((port & 0xff) << 8) | (port >>> 8))
}

function isSameOwner(one: number, other: number): boolean {
  return ((one ^ other) & (PM_CONN_STATUS | PM_CONN_GENERATIONS)) === 0
}

function isFlow(table: ConnectionTable, line: number, { protocol, from, to }: Flow): boolean {
  if (table.protocol(line) !== protocol || table.kind(line) === ConnKind.Template) return false
  const ports = table.ports(line)
  if (ports.source !== from.port || ports.destination !== to.port) return false
  const { source, destination } = table.addresses(line)
  return source === from.address && destination === to.address
}

/** State 0 of both protocols: no packet yet, counted as inactive. */
function liveHead(claimed: number, until: number): Head {
  return { word: ((claimed & (PM_CONN_GENERATIONS | PM_CONN_HOPS)) | ConnStatus.Live) >>> 0, until }
}

interface Rest {
  readonly kind: number
  readonly method: number
  readonly real: number
  readonly peer: number
  readonly newPort: number
  readonly level: number
  readonly hop: (FixedHop & { readonly epoch: number }) | null
}

/** Everything behind the head of a claimed line. */
function fill(table: ConnectionTable, line: number, flow: Flow, target: IpAddress, rest: Rest): void {
  const { kind, method, real, peer, newPort, level, hop } = rest
  table.fill(line, {
    protocol: flow.protocol,
    sport: flow.from.port,
    dport: flow.to.port,
    source: flow.from.address,
    destination: flow.to.address,
    // A tunnel's far end may be of the other family: it stands in the record of the real server only.
    target: familyOf(target) === table.family ? target : flow.to.address,
    ...{ kind, method, real, peer, newPort, level },
    flags: ConnFlag.Check,
    hop,
  })
}
