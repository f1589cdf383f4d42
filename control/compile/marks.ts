/**
 * Marking rules as the packet program looks them up (bpf/mark.h): kinds, most specific first; the keys of each
 * kind, found by hash; and for each key the ports cut into spans that do not overlap, each with the mark of the
 * rule with the fewest ports.
 */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import {
  MarkField,
  MarkKeyRecord,
  MarkKindRecord,
  MarkSpanRecord,
  PM_BUCKET,
  PM_MARK_BUCKETS,
  PM_MARK_HALF,
  PM_MARK_KINDS,
  PM_MARK_KINDS4_SHIFT,
  PM_MARK_KINDS6_SHIFT,
  PM_MARK_RULES,
  PM_MARK_SPANS,
} from '../../dataplane/layout/layout.gen.ts'
import { writeAddress } from '../../net/address.ts'
import type { Prefix } from '../../net/prefix.ts'
import {
  ALL_PORTS,
  compareKinds,
  comparePorts,
  kindKey,
  kindOf,
  type MarkKind,
  type MarkRule,
  protocolNumber,
} from '../model/mark.ts'
import { planPlace } from './service-index.ts'

const KEY_WORDS = MarkKeyRecord.size / 4
/** All of a key but its spans. */
const IDENTITY_WORDS = MarkKeyRecord.offsets.first / 4

export interface MarkMaps {
  readonly kinds: MapMemory
  readonly index: MapMemory
  readonly keys: MapMemory
  readonly spans: MapMemory
}

export function markMaps(dataplane: Dataplane): MarkMaps {
  return {
    kinds: dataplane.map('mark_kinds'),
    index: dataplane.map('mark_index'),
    keys: dataplane.map('mark_keys'),
    spans: dataplane.map('mark_spans'),
  }
}

interface Span {
  readonly from: number
  readonly to: number
  readonly mark: number
}

interface Key {
  /** Identity words; the others 0. */
  readonly image: Uint32Array
  readonly rules: MarkRule[]
}

/**
 * Fills a half that no packet looks at.
 * @param ifindexOf null: there is no such interface, and its rules wait
 * @returns the word that switches over to it
 */
export function fillMarks(
  maps: MarkMaps,
  half: 0 | 1,
  rules: Iterable<MarkRule>,
  ifindexOf: (name: string) => number | null,
): number {
  const kinds = new Map<string, { readonly kind: MarkKind; readonly rules: MarkRule[] }>()
  for (const rule of rules) {
    if (rule.interface !== null && ifindexOf(rule.interface) === null) continue
    const kind = kindOf(rule)
    const key = kindKey(kind)
    const known = kinds.get(key)
    if (known === undefined) kinds.set(key, { kind, rules: [rule] })
    else known.rules.push(rule)
  }
  const keys: Key[] = []
  const used = { 4: 0, 6: 0 }
  const sorted = [...kinds.values()].sort((a, b) => compareKinds(a.kind, b.kind))
  for (const { kind, rules: ofKind } of sorted) {
    const number = used[kind.family]++
    writeKind(maps, half, kind, number)
    keys.push(...keysOf(ofKind, number, ifindexOf))
  }
  writeKeys(maps, half, keys)
  return half | (used[4] << PM_MARK_KINDS4_SHIFT) | (used[6] << PM_MARK_KINDS6_SHIFT)
}

export function halfOf(word: number): 0 | 1 {
  return (word & PM_MARK_HALF) === 0 ? 0 : 1
}

/** Whether some rule is in there. */
export function anyMarks(word: number): boolean {
  return word >>> PM_MARK_KINDS4_SHIFT !== 0
}

function writeKind(maps: MarkMaps, half: number, kind: MarkKind, number: number): void {
  const at = (half * 2 + (kind.family === 6 ? 1 : 0)) * PM_MARK_KINDS + number
  MarkKindRecord.write(maps.kinds.view, at * MarkKindRecord.size, {
    source: kind.source,
    destination: kind.destination,
    fields: (kind.protocol ? MarkField.Protocol : 0) | (kind.interface ? MarkField.Interface : 0),
  })
}

const noBytes = new Uint8Array(16)

function prefixBytes(prefix: Prefix | null): Uint8Array {
  if (prefix === null) return noBytes
  const bytes = new Uint8Array(16)
  writeAddress(prefix.address, bytes, 0)
  return bytes
}

/** Rules of one kind by what else than ports they look at. */
function keysOf(
  rules: readonly MarkRule[],
  kind: number,
  ifindexOf: (name: string) => number | null,
): readonly Key[] {
  const keys = new Map<string, Key>()
  for (const rule of rules) {
    const image = new Uint32Array(KEY_WORDS)
    const view = new DataView(image.buffer)
    const bytes = new Uint8Array(image.buffer)
    bytes.set(prefixBytes(rule.source), MarkKeyRecord.offsets.saddr)
    bytes.set(prefixBytes(rule.destination), MarkKeyRecord.offsets.daddr)
    MarkKeyRecord.setIfindex(view, 0, rule.interface === null ? 0 : (ifindexOf(rule.interface) ?? 0))
    MarkKeyRecord.setKind(view, 0, kind)
    MarkKeyRecord.setProtocol(view, 0, protocolNumber(rule.protocol))
    MarkKeyRecord.setFamily(view, 0, rule.family)
    const name = image.subarray(0, IDENTITY_WORDS).join(' ')
    const known = keys.get(name)
    if (known === undefined) keys.set(name, { image, rules: [rule] })
    else known.rules.push(rule)
  }
  return [...keys.values()]
}

/**
 * The ports of rules that differ in nothing else, as spans in order: at every port the rule with the fewest
 * ports counts. Neighbours of one mark are one span.
 */
export function spansOf(rules: readonly MarkRule[]): readonly Span[] {
  const ranges = rules.map(({ ports, mark }) => ({ ...(ports ?? ALL_PORTS), mark })).sort(comparePorts)
  const edges = [...new Set(ranges.flatMap(({ from, to }) => [from, to + 1]))].sort((a, b) => a - b)
  const place = new Map(edges.map((edge, i) => [edge, i]))
  const marks = new Array<number>(edges.length).fill(0)
  // Who looks for a piece without a mark goes on from one that has one to the next: each is painted once.
  const next = edges.map((_, i) => i)
  const unmarked = (from: number): number => {
    let at = from
    while (next[at] !== at) {
      next[at] = next[next[at]!]!
      at = next[at]!
    }
    return at
  }
  for (const { from, to, mark } of ranges) {
    const end = place.get(to + 1)!
    for (let at = unmarked(place.get(from)!); at < end; at = unmarked(at + 1)) {
      marks[at] = mark
      next[at] = at + 1
    }
  }
  const spans: { from: number; to: number; mark: number }[] = []
  for (const [i, mark] of marks.entries()) {
    if (mark === 0) continue
    const last = spans.at(-1)
    const from = edges[i]!
    const to = edges[i + 1]! - 1
    if (last !== undefined && last.mark === mark && last.to === from - 1) last.to = to
    else spans.push({ from, to, mark })
  }
  return spans
}

function writeKeys(maps: MarkMaps, half: number, keys: readonly Key[]): void {
  const index = { entries: PM_MARK_BUCKETS, u64: new BigUint64Array(PM_MARK_BUCKETS * PM_BUCKET) }
  const firstKey = half * PM_MARK_RULES
  const hashes = keys.map(({ image }) => markHash(image))
  let span = half * PM_MARK_SPANS
  for (const [i, { image, rules }] of keys.entries()) {
    const view = new DataView(image.buffer)
    const spans = spansOf(rules)
    MarkKeyRecord.setFirst(view, 0, span)
    MarkKeyRecord.setCount(view, 0, spans.length)
    for (const each of spans) MarkSpanRecord.write(maps.spans.view, span++ * MarkSpanRecord.size, each)
    maps.keys.u32.set(image, (firstKey + i) * KEY_WORDS)
    const stores = planPlace(index, (slot) => hashes[slot - firstKey]!, firstKey + i, hashes[i]!)
    if (stores === null) throw new Error(`No room in the index of marking rules for key ${i}`)
    for (const { at, entry } of stores) index.u64[at] = entry
  }
  maps.index.u64.set(index.u64, half * PM_MARK_BUCKETS * PM_BUCKET)
}

function mix(h: number, word: number): number {
  const mixed = Math.imul(h ^ word, 0x85ebca6b)
  return mixed ^ (mixed >>> 13)
}

/** `pm_mark_hash` in bpf/mark.h. */
export function markHash(image: Uint32Array): number {
  const { saddr, daddr, ifindex, kind } = MarkKeyRecord.offsets
  let h = 0x9e3779b9
  for (let i = 0; i < 4; i++) {
    h = mix(h, image[saddr / 4 + i]!)
    h = mix(h, image[daddr / 4 + i]!)
  }
  h = mix(h, image[ifindex / 4]!)
  // Kind, protocol and family share a word, in this order.
  h = mix(h, image[kind / 4]!)
  h = Math.imul(h, 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
