/**
 * What marking rules give the mark of a service to, read from the maps as the packet program reads them
 * (bpf/mark.h). By protocol, destination and destination ports: which source and interface a rule is about, and
 * which of several rules wins, is for the program to say, and what it passes reaches the stack all the same.
 */
import type { Family } from '../../../net/address.ts'
import { readAddress } from '../../../net/address.ts'
import { cut, type Prefix, prefixText } from '../../../net/prefix.ts'
import type { Dataplane, MapMemory } from '../../dataplane.ts'
import {
  MarkKeyRecord,
  MarkKindRecord,
  MarkSpanRecord,
  PM_BUCKET,
  PM_MARK_BUCKETS,
  PM_MARK_HALF,
  PM_MARK_KINDS,
  PM_MARK_RULES,
  PM_MARK_SPANS,
  SettingsRecord,
} from '../../layout/layout.gen.ts'

export interface PortSpan {
  /** Both included. */
  readonly from: number
  readonly to: number
}

/** TCP or UDP to a destination. No two of them are about the same packets. */
export interface MarkedClaim {
  readonly of: 'marked'
  readonly family: Family
  readonly protocol: 'tcp' | 'udp'
  readonly prefix: Prefix
  /** Null: fragments, whatever their ports. */
  readonly ports: PortSpan | null
}

/** What a rule is about; rules overlap. */
export interface MarkedBox {
  readonly protocol: 'tcp' | 'udp'
  readonly prefix: Prefix
  readonly ports: PortSpan
}

/** Marks that services have, by family. */
export type ServiceMarks = Readonly<Record<Family, ReadonlySet<number>>>

const PROTOCOLS = new Map<number, readonly ('tcp' | 'udp')[]>([
  [0, ['tcp', 'udp']],
  [6, ['tcp']],
  [17, ['udp']],
])

export function boxKey({ protocol, prefix, ports }: MarkedBox): string {
  return `${protocol} ${prefixText(prefix)} ${ports.from}-${ports.to}`
}

export function markedKey({ protocol, prefix, ports }: MarkedClaim): string {
  const what = ports === null ? 'fragments' : `${ports.from}-${ports.to}`
  return `marked ${protocol} ${prefixText(prefix)} ${what}`
}

/** Piece of a map: first word, and how many. */
type Piece = readonly [map: MapMemory, first: number, words: number]

export class MarkedReader {
  readonly #settings: MapMemory
  readonly #kinds: MapMemory
  readonly #index: MapMemory
  readonly #keys: MapMemory
  readonly #spans: MapMemory
  /** The half in use as it was read last; a half is filled anew many times. */
  #seen: readonly Uint32Array[] = []
  #word = 0
  #marks = ''
  #boxes: readonly MarkedBox[] = []

  constructor(dataplane: Pick<Dataplane, 'map'>) {
    this.#settings = dataplane.map('settings')
    this.#kinds = dataplane.map('mark_kinds')
    this.#index = dataplane.map('mark_index')
    this.#keys = dataplane.map('mark_keys')
    this.#spans = dataplane.map('mark_spans')
  }

  /** The same array as before where nothing has changed. */
  read(marks: ServiceMarks): readonly MarkedBox[] {
    const word = this.#settings.u32[SettingsRecord.offsets.marks / 4]!
    const named = `${[...marks[4]].sort()} ${[...marks[6]].sort()}`
    const nobody = marks[4].size + marks[6].size === 0
    const pieces = nobody ? [] : this.#pieces(word & PM_MARK_HALF)
    if (word === this.#word && named === this.#marks && this.#isAsSeen(pieces)) return this.#boxes
    this.#word = word
    this.#marks = named
    this.#seen = pieces.map(([{ u32 }, first, words]) => u32.slice(first, first + words))
    this.#boxes = nobody ? [] : this.#boxesOf(word & PM_MARK_HALF, marks)
    return this.#boxes
  }

  #pieces(half: number): readonly Piece[] {
    const piece = (map: MapMemory, records: number): Piece => {
      const words = (records * map.entrySize) / 4
      return [map, half * words, words]
    }
    return [
      piece(this.#kinds, 2 * PM_MARK_KINDS),
      piece(this.#index, PM_MARK_BUCKETS),
      piece(this.#keys, PM_MARK_RULES),
      piece(this.#spans, PM_MARK_SPANS),
    ]
  }

  #isAsSeen(pieces: readonly Piece[]): boolean {
    return (
      pieces.length === this.#seen.length &&
      pieces.every(([{ u32 }, first, words], n) => {
        const seen = this.#seen[n]!
        for (let i = 0; i < words; i++) if (seen[i] !== u32[first + i]) return false
        return true
      })
    )
  }

  #boxesOf(half: number, marks: ServiceMarks): readonly MarkedBox[] {
    const boxes: MarkedBox[] = []
    const first = half * PM_MARK_BUCKETS * PM_BUCKET
    for (let i = first; i < first + PM_MARK_BUCKETS * PM_BUCKET; i++) {
      const slot = Number(this.#index.u64[i]! >> 32n)
      if (slot > 0 && slot <= this.#keys.entries) boxes.push(...this.#boxesOfKey(half, slot - 1, marks))
    }
    return boxes
  }

  #boxesOfKey(half: number, slot: number, marks: ServiceMarks): readonly MarkedBox[] {
    const key = MarkKeyRecord.read(this.#keys.view, slot * this.#keys.entrySize)
    const family = key.family === 4 ? 4 : 6
    const protocols = PROTOCOLS.get(key.protocol) ?? []
    const kind = (half * 2 + (family === 6 ? 1 : 0)) * PM_MARK_KINDS + key.kind
    const { destination } = MarkKindRecord.read(this.#kinds.view, kind * this.#kinds.entrySize)
    const at = slot * this.#keys.entrySize + MarkKeyRecord.offsets.daddr
    const prefix = cut(readAddress(this.#keys.bytes, at, family), destination)
    const boxes: MarkedBox[] = []
    for (let i = key.first; i < Math.min(key.first + key.count, this.#spans.entries); i++) {
      const { from, to, mark } = MarkSpanRecord.read(this.#spans.view, i * this.#spans.entrySize)
      if (!marks[family].has(mark)) continue
      for (const protocol of protocols) boxes.push({ protocol, prefix, ports: { from, to } })
    }
    return boxes
  }
}

/**
 * Claims for all packets that are in some box, none twice: nftables refuses intervals that overlap. Prefixes
 * are in one another or apart, so that a longer one has the ports which the one around it leaves over.
 */
export function claimsOf(boxes: readonly MarkedBox[]): readonly MarkedClaim[] {
  const groups = new Map<string, { readonly of: MarkedBox; readonly spans: PortSpan[] }>()
  for (const box of boxes) {
    const key = groupKey(box.protocol, box.prefix)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { of: box, spans: [box.ports] })
    else group.spans.push(box.ports)
  }
  /** Ports that a prefix and those around it have. */
  const covered = new Map<string, readonly PortSpan[]>()
  const claims: MarkedClaim[] = []
  const lengths = new Set<number>()
  for (const { of, spans } of [...groups.values()].sort((a, b) => a.of.prefix.length - b.of.prefix.length)) {
    const { protocol, prefix } = of
    const { family } = prefix
    const around = [...lengths]
      .filter((length) => length < prefix.length)
      .reverse()
      .map((length) => covered.get(groupKey(protocol, cut(prefix.address, length))))
      .find((spans) => spans !== undefined)
    lengths.add(prefix.length)
    const own = merged(spans)
    covered.set(groupKey(protocol, prefix), merged([...own, ...(around ?? [])]))
    const claim = { of: 'marked', family, protocol, prefix } as const
    for (const ports of without(own, around ?? [])) claims.push({ ...claim, ports })
    if (around === undefined) claims.push({ ...claim, ports: null })
  }
  return claims
}

function groupKey(protocol: string, prefix: Prefix): string {
  return `${protocol} ${prefixText(prefix)}`
}

/** In order, and apart from one another. */
function merged(spans: readonly PortSpan[]): readonly PortSpan[] {
  const result: { from: number; to: number }[] = []
  for (const { from, to } of spans.toSorted((a, b) => a.from - b.from)) {
    const last = result.at(-1)
    if (last !== undefined && from <= last.to + 1) last.to = Math.max(last.to, to)
    else result.push({ from, to })
  }
  return result
}

/** What is in `spans` and not in `others`, both merged. */
function without(spans: readonly PortSpan[], others: readonly PortSpan[]): readonly PortSpan[] {
  return spans.flatMap((span) => {
    const left: PortSpan[] = []
    let from = span.from
    for (const other of others) {
      if (other.to < from || other.from > span.to) continue
      if (other.from > from) left.push({ from, to: other.from - 1 })
      from = other.to + 1
    }
    if (from <= span.to) left.push({ from, to: span.to })
    return left
  })
}
