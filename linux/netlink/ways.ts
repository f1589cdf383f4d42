/**
 * The ways of this host to a set of addresses, as the kernel routes them, kept up to date: asked again only
 * where the answer can differ. A table of a million routes may flap beside it; what concerns none of these
 * addresses costs one look into a sorted list.
 */
import type { IpAddress } from '../../net/address.ts'
import { AddressOrder } from './address-order.ts'
import { type Hop, hopKey } from './kept-neighbours.ts'
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
/** More than this are no longer told one by one. */
const LEARNT_MAX = 65_536

export class Ways {
  readonly #questions: Questions
  readonly #known = new Map<IpAddress, Way>()
  readonly #wanted = new Set<IpAddress>()
  readonly #order = new AddressOrder()
  /** Known, and not wanted: forgotten when it next is said what is wanted. */
  readonly #strays = new Set<IpAddress>()
  /** Next hops of wanted addresses, and of how many each. */
  readonly #hops = new Map<string, Hop & { count: number }>()
  /** Whose turn it is to be asked without any event. */
  #turn: Iterator<IpAddress> | null = null
  /** To be asked. */
  readonly #open = new Set<IpAddress>()
  /** Counts ways that are others than they were. */
  changes = 0
  /** Those by which hops have become known that were not, since it was asked; null: anybody's may have. */
  #learnt: Set<IpAddress> | null = new Set()

  constructor(questions: Questions) {
    this.#questions = questions
  }

  /** From now on the ways to exactly these addresses are known. */
  want(addresses: Iterable<IpAddress>): void {
    const wanted = new Set(addresses)
    this.wantAlso(
      wanted,
      [...this.#wanted].filter((address) => !wanted.has(address)),
    )
  }

  /** From now on the ways to some more addresses are known, and those to others are not. */
  wantAlso(added: Iterable<IpAddress>, dropped: Iterable<IpAddress>): void {
    for (const address of dropped) {
      if (!this.#wanted.delete(address)) continue
      this.#order.delete(address)
      this.#open.delete(address)
      this.#countHop(address, -1)
      this.#known.delete(address)
    }
    for (const address of added) {
      if (this.#wanted.has(address)) continue
      this.#wanted.add(address)
      this.#order.add(address)
      this.#strays.delete(address)
      if (this.#known.has(address)) this.#countHop(address, 1)
      else this.#open.add(address)
    }
    for (const address of this.#strays) this.#known.delete(address)
    this.#strays.clear()
  }

  #countHop(address: IpAddress, by: 1 | -1): void {
    const way = this.#known.get(address)
    if (way?.kind !== 'unicast') return
    const hop = { address: way.gateway ?? address, ifindex: way.ifindex }
    const key = hopKey(hop)
    const count = (this.#hops.get(key)?.count ?? 0) + by
    if (count === 0) this.#hops.delete(key)
    else this.#hops.set(key, { ...hop, count })
  }

  /** Next hops of the wanted addresses, each once. */
  hops(): Iterable<Hop> {
    return this.#hops.values()
  }

  /** undefined while the kernel has not been asked, or has not answered yet. */
  to(address: IpAddress): Way | undefined {
    return this.#known.get(address)
  }

  /** What was asked elsewhere. */
  learn(address: IpAddress, way: Way): void {
    const isWanted = this.#wanted.has(address)
    if (this.#known.has(address)) this.changes += 1
    else this.#learn(address)
    if (isWanted) this.#countHop(address, -1)
    else this.#strays.add(address)
    this.#known.set(address, way)
    if (isWanted) this.#countHop(address, 1)
  }

  #learn(address: IpAddress): void {
    if (this.#learnt !== null && this.#learnt.size < LEARNT_MAX) this.#learnt.add(address)
    else this.#learnt = null
  }

  /** The link-layer address of a neighbour has become known: of one that is asked for, or leads to others. */
  neighbourLearnt(hop: Hop): void {
    const users = this.#hops.get(hopKey(hop))?.count ?? 0
    const way = this.#known.get(hop.address)
    const itself = way?.kind === 'unicast' && way.gateway === null && way.ifindex === hop.ifindex ? 1 : 0
    if (users > itself) this.#learnt = null
    else this.#learn(hop.address)
  }

  /** Whose next hops have become known since this was asked before; null: anybody's may have. */
  takeLearnt(): ReadonlySet<IpAddress> | null {
    const learnt = this.#learnt
    if (learnt === null || learnt.size > 0) this.#learnt = new Set()
    return learnt
  }

  /** Something is to be asked. */
  get isOpen(): boolean {
    return this.#open.size > 0
  }

  /** A route to this prefix has changed; whether it concerns any of the addresses. */
  prefixChanged(prefix: Prefix): boolean {
    return this.#order.within(prefix, (address) => this.#open.add(address)) > 0
  }

  /**
   * Interfaces have changed: what leads out by them may not any more; `routable`: what has no way may have
   * one. Whether any way leads out by them.
   */
  interfacesChanged(ifindices: ReadonlySet<number>, routable: boolean): boolean {
    // Many thousand ways, and storms of other news: looked through only for what can concern them.
    if (ifindices.size === 0 && !routable) return false
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

  /** Some more are to be asked, by turns, without any event. */
  reconsider(count: number): void {
    for (let left = count; left > 0; left--) {
      this.#turn ??= this.#wanted.values()
      const { done, value } = this.#turn.next()
      if (done === true) {
        this.#turn = null
        return
      }
      this.#open.add(value)
    }
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
