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
import { type GivenHop, giveHop } from '../../dataplane/given-hops.ts'
import {
  ConnFlag,
  ConnKind,
  ConnStatus,
  LiveRecord,
  PM_CONN_ACTIVE,
  PM_CONN_GENERATIONS,
  PM_CONN_HELD,
  PM_CONN_HOLDS,
  PM_CONN_STATUS,
  PM_NEIGHBOUR_CHECK4,
  PM_NEIGHBOUR_CHECK6,
  PM_WAYS,
} from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { addressToBytes, familyOf } from '../../net/address.ts'
import { linesOf, placeOf } from './place.ts'
import { type ConnectionTable, claimedHead, freedHead, type Head, isLive, type LineFields } from './table.ts'

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
export type FixedHop = GivenHop

export interface Wish {
  /** The client's direction. */
  readonly there: Flow
  /** The answers', as they arrive. */
  readonly back: Flow
  /** Index in reals, of a record of its own. */
  readonly real: number
  /** enum pm_method */
  readonly method: number
  readonly hop: FixedHop
  /** How long the lines live without a packet. */
  readonly ticks: number
}

/** A line that was published, and by whom it is ours. */
interface Owned {
  readonly table: ConnectionTable
  readonly line: number
  readonly word: number
}

export interface Prepared {
  readonly real: number
  readonly lines: readonly [Owned, Owned]
}

/** A line that is being written. */
interface Claimed {
  readonly line: number
  readonly head: Head
}

/** Where answers leave, in the map `neighbours`. */
const ANSWERS = { 4: PM_NEIGHBOUR_CHECK4, 6: PM_NEIGHBOUR_CHECK6 } as const
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
    const { real } = wish
    const until = (now + wish.ticks) >>> 0
    this.#lead(table, wish.hop)
    fill(table, there.line, wish.there, {
      ...{ kind: ConnKind.In, method: wish.method, real, peer: back.line, neighbour: 0 },
    })
    fill(table, back.line, wish.back, {
      ...{
        kind: ConnKind.Reply,
        method: wish.method,
        real,
        peer: there.line,
        neighbour: ANSWERS[table.family],
      },
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
        { table, line: there.line, word: thereLive.word },
        { table, line: back.line, word: backLive.word },
      ],
    }
  }

  /** False: one of the lines was taken away. Then what was asked over them says nothing. */
  isThere({ lines }: Prepared): boolean {
    return lines.every(({ table, line, word }) => isSameOwner(table.word(line), word))
  }

  free({ real, lines: [there, back] }: Prepared): void {
    this.#end(there.table, there.line, there.word, real)
    this.#end(back.table, back.line, back.word, null)
  }

  /** A line for this flow; one that an earlier daemon left for the same is taken over. */
  #claim(table: ConnectionTable, flow: Flow, now: number): Claimed | null {
    const place = placeOf(table.levels.seed, {
      ...{ addresses: loaded(flow), first: 0, words: table.family === 4 ? 1 : 4 },
      ...{ sport: swapped(flow.from.port), dport: swapped(flow.to.port), protocol: flow.protocol },
    })
    const stands = table.levels.toSearch().flatMap((level) => linesOf(place, table.levels.mask(level)))
    for (const line of stands) {
      const head = table.head(line)
      if (!isLive(head.word) || !isFlow(table, line, flow)) continue
      if ((table.flags(line) & ConnFlag.Check) === 0) return null
      const real = table.kind(line) === ConnKind.In ? table.real(line) : null
      if (!this.#end(table, line, head.word, real)) return null
    }
    for (;;) {
      const [level] = table.levels.toSearch()
      const claimed = claimFree(table, linesOf(place, table.levels.mask(level)), now)
      if (claimed !== null || !table.levels.grow()) return claimed
    }
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

  /** Where answers leave: the same for all, so that a record with another content is one that is over. */
  #lead(table: ConnectionTable, hop: FixedHop): void {
    giveHop(this.#dataplane, ANSWERS[table.family], hop)
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
}

/** Of the lines where a key may stand, one that nobody has. */
function claimFree(table: ConnectionTable, lines: readonly number[], now: number): Claimed | null {
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
    if (table.swapHead(line, from, head)) return { line, head }
  }
  return null
}

/** The words of both addresses as the program loads them from a packet: the first byte lowest. */
function loaded({ from, to }: Flow): Uint32Array {
  const bytes = Uint8Array.from([...addressToBytes(from.address), ...addressToBytes(to.address)])
  return new Uint32Array(bytes.buffer)
}

function swapped(port: number): number {
  return ((port & 0xff) << 8) | (port >>> 8)
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
  return { word: ((claimed & (PM_CONN_GENERATIONS | PM_CONN_HOLDS)) | ConnStatus.Live) >>> 0, until }
}

/** Everything behind the head of a claimed line. */
function fill(
  table: ConnectionTable,
  line: number,
  flow: Flow,
  rest: Pick<LineFields, 'kind' | 'method' | 'real' | 'peer' | 'neighbour'>,
): void {
  table.fill(line, {
    protocol: flow.protocol,
    sport: flow.from.port,
    dport: flow.to.port,
    source: flow.from.address,
    destination: flow.to.address,
    ...rest,
    flags: ConnFlag.Check,
  })
}
