/**
 * The ways of this host to a set of addresses, as the kernel routes them, kept up to date: asked again only
 * where the answer can differ. A table of a million routes may flap beside it; what concerns none of these
 * addresses costs one look into a sorted list.
 */
import { addressToBytes, familyOf, type IpAddress } from '../../net/address.ts'
import type { Answer, Questions } from './questions.ts'
import { decodeRoute, type Prefix, RouteKind, routeQuery } from './rtnetlink.ts'

/** Where the kernel would send a packet of ours. */
export type Way =
  | { readonly kind: 'none' }
  | { readonly kind: 'local' }
  | {
      readonly kind: 'unicast'
      readonly ifindex: number
      readonly gateway: IpAddress | null
      /** The source address the kernel would choose. */
      readonly source: IpAddress | null
      /** Of the route, 0 where only the link's counts. */
      readonly mtu: number
    }

/** Questions in one go, between which others have their turn. */
const SLICE = 96
/** Up to so many addresses are put in place, more are sorted anew. */
const FEW = 64

export class Ways {
  readonly #questions: Questions
  /** In order of their keys, by family. */
  #sorted: { 4: Wanted<number>[]; 6: Wanted<string>[] } = { 4: [], 6: [] }
  readonly #known = new Map<IpAddress, Way>()
  readonly #wanted = new Set<IpAddress>()
  /** To be asked. */
  readonly #open = new Set<IpAddress>()
  /** Counts ways that are others than they were. */
  changes = 0
  /** Counts ways that were not known before. */
  learnt = 0

  constructor(questions: Questions) {
    this.#questions = questions
  }

  /** From now on the ways to exactly these addresses are known. */
  want(addresses: Iterable<IpAddress>): void {
    const wanted = new Set(addresses)
    const dropped = [...this.#wanted].filter((address) => !wanted.has(address))
    const added = [...wanted].filter((address) => !this.#wanted.has(address))
    for (const address of dropped) {
      this.#wanted.delete(address)
      this.#open.delete(address)
    }
    for (const address of added) {
      this.#wanted.add(address)
      if (!this.#known.has(address)) this.#open.add(address)
    }
    for (const address of this.#known.keys()) if (!wanted.has(address)) this.#known.delete(address)
    if (added.length + dropped.length > FEW) this.#sort()
    else {
      for (const address of dropped) this.#takeOut(address)
      for (const address of added) this.#putIn(address)
    }
  }

  #sort(): void {
    this.#sorted = { 4: [], 6: [] }
    for (const address of this.#wanted) {
      const bytes = addressToBytes(address)
      if (familyOf(address) === 4) this.#sorted[4].push({ address, key: numberOf(bytes) })
      else this.#sorted[6].push({ address, key: textOf(bytes) })
    }
    this.#sorted[4].sort((a, b) => a.key - b.key)
    this.#sorted[6].sort((a, b) => (a.key < b.key ? -1 : 1))
  }

  #putIn(address: IpAddress): void {
    const bytes = addressToBytes(address)
    if (familyOf(address) === 4) putInto(this.#sorted[4], { address, key: numberOf(bytes) })
    else putInto(this.#sorted[6], { address, key: textOf(bytes) })
  }

  #takeOut(address: IpAddress): void {
    const bytes = addressToBytes(address)
    if (familyOf(address) === 4) takeFrom(this.#sorted[4], address, numberOf(bytes))
    else takeFrom(this.#sorted[6], address, textOf(bytes))
  }

  /** undefined while the kernel has not been asked, or has not answered yet. */
  to(address: IpAddress): Way | undefined {
    return this.#known.get(address)
  }

  /** What was asked elsewhere. */
  learn(address: IpAddress, way: Way): void {
    if (this.#known.has(address)) this.changes += 1
    else this.learnt += 1
    this.#known.set(address, way)
  }

  wanted(): ReadonlySet<IpAddress> {
    return this.#wanted
  }

  /** Something is to be asked. */
  get isOpen(): boolean {
    return this.#open.size > 0
  }

  /** A route to this prefix has changed; whether it concerns any of the addresses. */
  prefixChanged({ family, bytes, length }: Prefix): boolean {
    if (family === 6)
      return this.#sorted[6].length > 0 && this.#openIn(this.#sorted[6], rangeOf(bytes, length))
    const size = 2 ** (32 - length)
    const low = Math.floor(numberOf(bytes) / size) * size
    return this.#openIn(this.#sorted[4], [low, low + size - 1])
  }

  #openIn<Key extends number | string>(
    sorted: readonly Wanted<Key>[],
    [low, high]: readonly [Key, Key],
  ): boolean {
    const first = lowerBound(sorted, low)
    let at = first
    for (; at < sorted.length && sorted[at]!.key <= high; at++) this.#open.add(sorted[at]!.address)
    return at > first
  }

  /**
   * Interfaces have changed: what leads out by them may not any more; `routable`: what has no way may have
   * one. Whether any way leads out by them.
   */
  interfacesChanged(ifindices: ReadonlySet<number>, routable: boolean): boolean {
    let concerns = false
    for (const [address, way] of this.#known) {
      if (!this.#wanted.has(address) || way.kind === 'local') continue
      const leads = way.kind === 'unicast' && ifindices.has(way.ifindex)
      if (leads || (routable && way.kind === 'none')) this.#open.add(address)
      concerns ||= leads
    }
    return concerns
  }

  /** Rules have changed, or events were lost. */
  anythingChanged(): void {
    for (const address of this.#wanted) this.#open.add(address)
  }

  /** Some more are to be asked, by turns, without any event; where the next turn begins. */
  reconsider(from: number, count: number): number {
    const all = [...this.#sorted[4], ...this.#sorted[6]]
    for (const { address } of all.slice(from, from + count)) this.#open.add(address)
    return from + count >= all.length ? 0 : from + count
  }

  /** Asks what is open, a slice at a time; which addresses have another way now. */
  async renew(): Promise<ReadonlySet<IpAddress>> {
    const changed = new Set<IpAddress>()
    const todo = [...this.#open]
    this.#open.clear()
    for (let at = 0; at < todo.length; at += SLICE) {
      const slice = todo.slice(at, at + SLICE).filter((address) => this.#wanted.has(address))
      const answers = await this.#questions.ask(slice.map((address) => routeQuery(address, null, 0)))
      for (const [index, address] of slice.entries()) {
        const way = wayOf(answers[index] ?? null)
        if (way === null) this.#open.add(address)
        else if (this.#wanted.has(address) && !sameWay(this.#known.get(address), way)) {
          this.learn(address, way)
          changed.add(address)
        }
      }
    }
    return changed
  }
}

interface Wanted<Key> {
  readonly address: IpAddress
  readonly key: Key
}

/** An IPv4 address in the order of its bytes. */
function numberOf(bytes: Uint8Array): number {
  return ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0
}

/** An IPv6 address in the order of its bytes. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

function rangeOf(bytes: Uint8Array, length: number): readonly [string, string] {
  const low = bytes.slice()
  const high = bytes.slice()
  for (let i = 0; i < bytes.length; i++) {
    const mask = 0xff >> Math.min(8, Math.max(0, length - i * 8))
    low[i] = low[i]! & ~mask
    high[i] = high[i]! | mask
  }
  return [textOf(low), textOf(high)]
}

function lowerBound<Key extends number | string>(sorted: readonly Wanted<Key>[], key: Key): number {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]!.key < key) low = middle + 1
    else high = middle
  }
  return low
}

function putInto<Key extends number | string>(sorted: Wanted<Key>[], wanted: Wanted<Key>): void {
  sorted.splice(lowerBound(sorted, wanted.key), 0, wanted)
}

function takeFrom<Key extends number | string>(sorted: Wanted<Key>[], address: IpAddress, key: Key): void {
  const at = lowerBound(sorted, key)
  if (sorted[at]?.address === address) sorted.splice(at, 1)
}

/** null: the kernel has not said. */
function wayOf(answer: Answer | null): Way | null {
  if (answer === null) return null
  if (answer.kind === 'result') return { kind: 'none' }
  return wayOfRoute(decodeRoute(answer.message))
}

export function wayOfRoute(route: ReturnType<typeof decodeRoute>): Way {
  if (route === null) return { kind: 'none' }
  if (route.kind === RouteKind.LOCAL) return { kind: 'local' }
  if (route.kind !== RouteKind.UNICAST) return { kind: 'none' }
  const { ifindex, gateway, preferredSource: source, mtu } = route
  return { kind: 'unicast', ifindex, gateway, source, mtu }
}

function sameWay(a: Way | undefined, b: Way): boolean {
  if (a === undefined || a.kind !== b.kind) return false
  if (a.kind !== 'unicast' || b.kind !== 'unicast') return true
  return a.ifindex === b.ifindex && a.gateway === b.gateway && a.source === b.source && a.mtu === b.mtu
}
