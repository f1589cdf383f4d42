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
  /** Order of bytes, by family. */
  #sorted: Readonly<Record<4 | 6, Wanted[]>> = { 4: [], 6: [] }
  readonly #known = new Map<IpAddress, Way>()
  readonly #wanted = new Set<IpAddress>()
  /** To be asked. */
  readonly #open = new Set<IpAddress>()

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
    const all = [...this.#wanted].map((address) => ({ address, key: keyOf(addressToBytes(address)) }))
    all.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    this.#sorted = {
      4: all.filter(({ address }) => familyOf(address) === 4),
      6: all.filter(({ address }) => familyOf(address) === 6),
    }
  }

  #putIn(address: IpAddress): void {
    const sorted = this.#sorted[familyOf(address)]
    const key = keyOf(addressToBytes(address))
    sorted.splice(lowerBound(sorted, key), 0, { address, key })
  }

  #takeOut(address: IpAddress): void {
    const sorted = this.#sorted[familyOf(address)]
    const at = lowerBound(sorted, keyOf(addressToBytes(address)))
    if (sorted[at]?.address === address) sorted.splice(at, 1)
  }

  /** undefined while the kernel has not been asked, or has not answered yet. */
  to(address: IpAddress): Way | undefined {
    return this.#known.get(address)
  }

  /** What was asked elsewhere. */
  learn(address: IpAddress, way: Way): void {
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
    const sorted = this.#sorted[family]
    if (sorted.length === 0) return false
    const [low, high] = rangeOf(bytes, length)
    const first = lowerBound(sorted, low)
    if (first === sorted.length || sorted[first]!.key > high) return false
    for (let i = first; i < sorted.length && sorted[i]!.key <= high; i++) this.#open.add(sorted[i]!.address)
    return true
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
          this.#known.set(address, way)
          changed.add(address)
        }
      }
    }
    return changed
  }
}

interface Wanted {
  readonly address: IpAddress
  readonly key: string
}

/** Bytes as a string in the same order. */
function keyOf(bytes: Uint8Array): string {
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
  return [keyOf(low), keyOf(high)]
}

function lowerBound(sorted: readonly Wanted[], key: string): number {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]!.key < key) low = middle + 1
    else high = middle
  }
  return low
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
