/**
 * A page of the connections there are, in an order, of those that somebody looks for. A million of them are looked
 * at once for each page, in slices, and no more is kept than the page has rows: where the next one begins, its
 * question says.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import {
  ConnStatus,
  PM_CONN_STATUS,
  RealRecord,
  sctpStateNames,
  tcpStateNames,
} from '../../dataplane/layout/layout.gen.ts'
import { protocolOfNumber } from '../../net/protocol.ts'
import type { ConnectionOrder, ConnectionPage, PageQuestion } from '../model/connection.ts'
import type { Pace } from '../model/pace.ts'
import { isBypass, listing, portAt, stateText } from './list.ts'
import { type End, type Glance, parseSearch, type Search } from './search.ts'
import { type ConnectionTable, ticksUntil } from './table.ts'

/** Lines looked at between two looks at the clock. */
const LINES = 1024
/** Numbers that a line is ordered by: an address, a port, a protocol; the last is its place, which no other has. */
const WIDTH = 7
const PLACE = WIDTH - 1
/** Places of IPv6 lines come after those of IPv4. */
const SIX = 2 ** 32

/** As `stateText` writes them. */
const STATES: ReadonlyMap<string, number> = new Map(
  [
    ...Object.values(tcpStateNames).map((name) => name.toUpperCase()),
    ...Object.values(sctpStateNames).map((name) => name.toUpperCase().replaceAll('_', '-')),
    ...['UDP', 'ASSURED', 'NONE'],
  ]
    .sort()
    .map((name, i) => [name, i]),
)

interface Tables {
  readonly tables: readonly ConnectionTable[]
  readonly reals: MapMemory
  readonly nowTicks: () => number
}

/** @returns what is wrong with the question, in words; null if it was called off */
export async function readPage(
  { tables, reals, nowTicks }: Tables,
  { search: text, order, limit, after }: PageQuestion,
  pace: Pace,
  isOver: () => boolean,
): Promise<ConnectionPage | string | null> {
  const search = parseSearch(text)
  if (typeof search === 'string') return search
  const cursor = after === null ? null : readCursor(after, order)
  if (typeof cursor === 'string') return cursor
  const rows = new Rows(limit, order.startsWith('-'), cursor?.key ?? null)
  // Times of all pages are told from the first one's moment, so that they stay in their order.
  const base = cursor?.base ?? nowTicks()
  const look = new Look(reals, search, order)
  for (const table of tables) {
    const { u32, stride } = table
    for (let line = 0; line < table.levels.inUse; line++) {
      if (line % LINES === 0 && pace.over) {
        await pace.pass()
        if (isOver()) return null
      }
      if ((u32[line * stride]! & PM_CONN_STATUS) !== ConnStatus.Live || !table.isConnection(line)) continue
      const remaining = table.remaining(line, nowTicks())
      if (remaining < 0 || !look.fits(table, line)) continue
      rows.offer(look.key(table, line, remaining + ticksUntil(base, nowTicks())))
    }
  }
  const connections = rows.places().flatMap((place) => {
    const table = tables.find(({ family }) => family === (place < SIX ? 4 : 6))!
    const line = place % SIX
    const remaining = table.remaining(line, nowTicks())
    // It may have ended while others were looked at.
    const isThere = table.isLive(line) && table.isConnection(line) && remaining >= 0
    return isThere ? [listing(table, line, remaining, reals)] : []
  })
  const last = rows.hasMore ? rows.last() : null
  return {
    connections,
    matched: rows.matched,
    next: last === null ? null : [order, base, ...last].join('~'),
  }
}

function readCursor(text: string, order: ConnectionOrder): { base: number; key: Float64Array } | string {
  const [of, ...numbers] = text.split('~')
  const [base, ...key] = numbers.map(Number)
  const isWhole = key.length === WIDTH && numbers.every((one) => /^-?\d{1,16}$/.test(one))
  if (of !== order || base === undefined || !isWhole)
    return `"${text.slice(0, 100)}" is no place in this order: ask with what the page before has as "next"`
  return { base, key: Float64Array.from(key) }
}

const end = (): End => ({ words: new Uint32Array(4), port: 0 })

/** One line at a time, in memory that is made once. */
class Look {
  readonly #reals: MapMemory
  readonly #search: Search
  readonly #order: string
  readonly #ends: boolean
  readonly #glances: Readonly<Record<4 | 6, Glance>> = { 4: glance(4), 6: glance(6) }
  readonly #key = new Float64Array(WIDTH)

  constructor(reals: MapMemory, search: Search, order: ConnectionOrder) {
    this.#reals = reals
    this.#search = search
    this.#order = order.replace('-', '')
    this.#ends = search.ends || ['client', 'service', 'server'].includes(this.#order)
  }

  fits(table: ConnectionTable, line: number): boolean {
    const glance = this.#glances[table.family]
    glance.protocol = protocolOfNumber(table.protocol(line))
    glance.state = stateText(table, line)
    if (this.#ends) this.#readEnds(table, line, glance)
    return this.#search.fits(glance)
  }

  #readEnds(table: ConnectionTable, line: number, { client, virtual, server }: Glance): void {
    table.addressWords(line, client.words, virtual.words)
    const ports = table.ports(line)
    client.port = ports.source
    virtual.port = ports.destination
    const real = table.real(line)
    if (real >= this.#reals.entries) {
      server.words.set(virtual.words)
      server.port = virtual.port
      return
    }
    const at = real * RealRecord.size
    const { view } = this.#reals
    for (let i = 0; i < 4; i++) server.words[i] = view.getUint32(at + RealRecord.offsets.addr + 4 * i)
    server.port = portAt(table, line, { port: RealRecord.getPort(view, at), isNobody: isBypass(view, at) })
  }

  /** Of the line that `fits` was asked about last; its place in the order is ascending. */
  key(table: ConnectionTable, line: number, ends: number): Float64Array {
    const glance = this.#glances[table.family]
    const key = this.#key.fill(0)
    key[PLACE] = line + (table.family === 6 ? SIX : 0)
    switch (this.#order) {
      case 'ends':
        key[0] = ends
        break
      case 'state':
        key[0] = STATES.get(glance.state) ?? STATES.size
        break
      default: {
        const { words, port } =
          this.#order === 'client' ? glance.client : this.#order === 'server' ? glance.server : glance.virtual
        key[0] = table.family * SIX + words[0]!
        key.set(words.subarray(1), 1)
        key[4] = port
        key[5] = table.protocol(line)
      }
    }
    return key
  }
}

function glance(family: 4 | 6): Glance {
  return { family, protocol: null, state: '', client: end(), virtual: end(), server: end() }
}

/** The first so many lines behind a place, in order. */
class Rows {
  readonly #keys: Float64Array
  readonly #limit: number
  readonly #sign: number
  readonly #after: Float64Array | null
  #count = 0
  #behind = 0
  matched = 0

  constructor(limit: number, descending: boolean, after: Float64Array | null) {
    this.#limit = limit
    this.#keys = new Float64Array((limit + 1) * WIDTH)
    this.#sign = descending ? -1 : 1
    this.#after = after
  }

  offer(key: Float64Array): void {
    this.matched++
    if (this.#after !== null && this.#compare(key, this.#after, 0) <= 0) return
    this.#behind++
    if (this.#count === this.#limit && this.#compareTo(key, this.#count - 1) >= 0) return
    let [low, high] = [0, this.#count]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#compareTo(key, middle) < 0) high = middle
      else low = middle + 1
    }
    this.#keys.copyWithin((low + 1) * WIDTH, low * WIDTH, this.#count * WIDTH)
    this.#keys.set(key, low * WIDTH)
    if (this.#count < this.#limit) this.#count++
  }

  #compareTo(key: Float64Array, row: number): number {
    return this.#compare(key, this.#keys, row * WIDTH)
  }

  #compare(key: Float64Array, other: Float64Array, at: number): number {
    for (let i = 0; i < WIDTH; i++) {
      const difference = key[i]! - other[at + i]!
      if (difference !== 0) return difference * this.#sign
    }
    return 0
  }

  get hasMore(): boolean {
    return this.#behind > this.#count
  }

  places(): number[] {
    return Array.from({ length: this.#count }, (_, row) => this.#keys[row * WIDTH + PLACE]!)
  }

  last(): number[] {
    return [...this.#keys.subarray((this.#count - 1) * WIDTH, this.#count * WIDTH)]
  }
}
