/**
 * Claims by destination and a span of ports: what marking rules lead to a service, answers to health checks. As
 * they come they overlap; as claims no two of them are about the same packets.
 */
import type { Family } from '../../../net/address.ts'
import { cut, type Prefix, prefixText } from '../../../net/prefix.ts'
import type { Protocol } from '../../../net/protocol.ts'

export interface PortSpan {
  /** Both included. */
  readonly from: number
  readonly to: number
}

/** Packets of a protocol to a destination, as it is asked for. */
export interface SpanBox {
  readonly protocol: Protocol
  readonly prefix: Prefix
  /** Null: fragments, whatever their ports. */
  readonly ports: PortSpan | null
}

/** One that overlaps no other. */
export interface SpanClaim extends SpanBox {
  readonly of: 'spans'
  readonly family: Family
}

export function spanKey({ protocol, prefix, ports }: SpanBox): string {
  return `${protocol} ${prefixText(prefix)} ${ports === null ? 'fragments' : `${ports.from}-${ports.to}`}`
}

/**
 * Claims for all packets that are in some box, none twice: nftables refuses intervals that overlap. Prefixes
 * are in one another or apart, so that a longer one has the ports which the one around it leaves over.
 */
export function claimsOf(boxes: readonly SpanBox[]): readonly SpanClaim[] {
  const around = new Surroundings<readonly PortSpan[]>()
  const claims: SpanClaim[] = []
  for (const { protocol, prefix, boxes: here } of byPrefix(boxes)) {
    const claim = { of: 'spans', family: prefix.family, protocol, prefix } as const
    const outer = around.of(protocol, prefix) ?? []
    const own = merged(here.map(({ ports }) => ports ?? PIECES))
    around.put(protocol, prefix, merged([...own, ...outer]))
    for (const ports of without(own, outer)) claims.push({ ...claim, ports: isPieces(ports) ? null : ports })
  }
  return claims
}

/**
 * For who finds only the longest prefix: the lowest and the highest port of all claims on each prefix and those
 * around it.
 */
export function hullsOf(claims: readonly SpanClaim[]): readonly SpanBox[] {
  const around = new Surroundings<PortSpan>()
  const pieces = new Surroundings<true>()
  return byPrefix(claims).flatMap(({ protocol, prefix, boxes }) => {
    const outer = around.of(protocol, prefix)
    const spans = boxes.flatMap(({ ports }) => (ports === null ? [] : [ports]))
    if (outer !== undefined) spans.push(outer)
    const box = { protocol, prefix }
    const hulls: SpanBox[] = []
    if (spans.length > 0) {
      const hull = {
        from: Math.min(...spans.map(({ from }) => from)),
        to: Math.max(...spans.map(({ to }) => to)),
      }
      around.put(protocol, prefix, hull)
      hulls.push({ ...box, ports: hull })
    }
    if (boxes.some(({ ports }) => ports === null) || pieces.of(protocol, prefix) === true) {
      pieces.put(protocol, prefix, true)
      hulls.push({ ...box, ports: null })
    }
    return hulls
  })
}

/** Fragments, as a port that there is none of, and no neighbour of any. */
const PIECES: PortSpan = { from: 1 << 17, to: 1 << 17 }

function isPieces({ from }: PortSpan): boolean {
  return from === PIECES.from
}

interface Group {
  readonly protocol: SpanBox['protocol']
  readonly prefix: Prefix
  readonly boxes: SpanBox[]
}

/** All of a protocol and prefix together, shorter prefixes first. */
function byPrefix(boxes: readonly SpanBox[]): readonly Group[] {
  const groups = new Map<string, Group>()
  for (const box of boxes) {
    const { protocol, prefix } = box
    const key = groupKey(protocol, prefix)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { protocol, prefix, boxes: [box] })
    else group.boxes.push(box)
  }
  return [...groups.values()].sort((a, b) => a.prefix.length - b.prefix.length)
}

/** What the prefixes around one have; shorter ones are to be put first. */
class Surroundings<T> {
  readonly #of = new Map<string, T>()
  readonly #lengths: number[] = []

  put(protocol: string, prefix: Prefix, what: T): void {
    this.#of.set(groupKey(protocol, prefix), what)
    if (this.#lengths.at(-1) !== prefix.length) this.#lengths.push(prefix.length)
  }

  /** Of the longest one. */
  of(protocol: string, prefix: Prefix): T | undefined {
    for (let i = this.#lengths.length - 1; i >= 0; i--) {
      const length = this.#lengths[i]!
      if (length >= prefix.length) continue
      const what = this.#of.get(groupKey(protocol, cut(prefix.address, length)))
      if (what !== undefined) return what
    }
    return undefined
  }
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
