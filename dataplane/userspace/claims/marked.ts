/**
 * What marking rules give the mark of a service to, read from the maps as the packet program reads them
 * (bpf/mark.h). By protocol, destination and destination ports: which source and interface a rule is about, and
 * which of several rules wins, is for the program to say, and what it passes reaches the stack all the same.
 */
import type { Family } from '../../../net/address.ts'
import { readAddress } from '../../../net/address.ts'
import { cut } from '../../../net/prefix.ts'
import type { Protocol } from '../../../net/protocol.ts'
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
import type { SpanBox } from './spans.ts'

/** Marks that services have, by family. */
export type ServiceMarks = Readonly<Record<Family, ReadonlySet<number>>>

const PROTOCOLS = new Map<number, readonly Protocol[]>([
  [0, ['tcp', 'udp', 'sctp']],
  [6, ['tcp']],
  [17, ['udp']],
  [132, ['sctp']],
])

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
  #boxes: readonly SpanBox[] = []

  constructor(dataplane: Pick<Dataplane, 'map'>) {
    this.#settings = dataplane.map('settings')
    this.#kinds = dataplane.map('mark_kinds')
    this.#index = dataplane.map('mark_index')
    this.#keys = dataplane.map('mark_keys')
    this.#spans = dataplane.map('mark_spans')
  }

  /** The same array as before where nothing has changed. */
  read(marks: ServiceMarks): readonly SpanBox[] {
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

  #boxesOf(half: number, marks: ServiceMarks): readonly SpanBox[] {
    const boxes: SpanBox[] = []
    const first = half * PM_MARK_BUCKETS * PM_BUCKET
    for (let i = first; i < first + PM_MARK_BUCKETS * PM_BUCKET; i++) {
      const slot = Number(this.#index.u64[i]! >> 32n)
      if (slot > 0 && slot <= this.#keys.entries) boxes.push(...this.#boxesOfKey(half, slot - 1, marks))
    }
    return boxes
  }

  #boxesOfKey(half: number, slot: number, marks: ServiceMarks): readonly SpanBox[] {
    const key = MarkKeyRecord.read(this.#keys.view, slot * this.#keys.entrySize)
    const family = key.family === 4 ? 4 : 6
    const protocols = PROTOCOLS.get(key.protocol) ?? []
    const kind = (half * 2 + (family === 6 ? 1 : 0)) * PM_MARK_KINDS + key.kind
    const { destination } = MarkKindRecord.read(this.#kinds.view, kind * this.#kinds.entrySize)
    const at = slot * this.#keys.entrySize + MarkKeyRecord.offsets.daddr
    const prefix = cut(readAddress(this.#keys.bytes, at, family), destination)
    const boxes: SpanBox[] = []
    for (let i = key.first; i < Math.min(key.first + key.count, this.#spans.entries); i++) {
      const { from, to, mark } = MarkSpanRecord.read(this.#spans.view, i * this.#spans.entrySize)
      if (!marks[family].has(mark)) continue
      for (const protocol of protocols) boxes.push({ protocol, prefix, ports: { from, to } })
    }
    if (boxes.length > 0) for (const protocol of protocols) boxes.push({ protocol, prefix, ports: null })
    return boxes
  }
}
