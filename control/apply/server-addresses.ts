/**
 * Addresses of the real servers in force, which are to stay resolved. Followed index by index: to go through a
 * hundred thousand at each change would keep everybody waiting.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import { RealRecord, Slot } from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { serverIdOfImage } from '../compile/images.ts'

export interface AddressChange {
  readonly added: readonly IpAddress[]
  readonly dropped: readonly IpAddress[]
  /** There is more. */
  readonly more: boolean
}

/** Indices in one go while what has been touched is looked at. */
const FOLLOWED = 2048

export class ServerAddresses {
  readonly #reals: MapMemory
  readonly #byIndex: (IpAddress | undefined)[] = []
  /** By address: one index mostly, and a hundred thousand sets would weigh more than all else here. */
  readonly #indices = new Map<IpAddress, number | Set<number>>()
  /** To be looked at again. */
  readonly #touched = new Set<number>()
  #beside: ReadonlySet<IpAddress> = new Set()
  readonly #told = new Set<IpAddress>()
  /** May have come, or gone, since they were told. */
  readonly #changed = new Set<IpAddress>()
  /** Where it stands among them: what was taken leaves holes, and to go past them each time would never end. */
  #turn: Iterator<IpAddress> | null = null

  constructor(reals: MapMemory) {
    this.#reals = reals
  }

  /** A real server has come to this index, has left it, or is another: looked at when somebody asks. */
  touch(real: number): void {
    this.#touched.add(real)
  }

  /** Looks at some of what was touched; false when nothing is left. */
  catchUp(most = FOLLOWED): boolean {
    let left = most
    for (const real of this.#touched) {
      if (left-- <= 0) return true
      this.#touched.delete(real)
      this.#follow(real)
    }
    return false
  }

  #follow(real: number): void {
    const base = real * this.#reals.entrySize
    const isLive = RealRecord.getSlot(this.#reals.view, base) === Slot.Live
    const now = isLive ? serverIdOfImage(this.#reals.view, base).address : undefined
    const before = this.#byIndex[real]
    if (now === before) return
    if (before !== undefined) this.#leave(before, real)
    if (now !== undefined) this.#enter(now, real)
    this.#byIndex[real] = now
  }

  #enter(address: IpAddress, real: number): void {
    const there = this.#indices.get(address)
    if (there === undefined) {
      this.#indices.set(address, real)
      this.#changed.add(address)
    } else if (typeof there === 'number') this.#indices.set(address, new Set([there, real]))
    else there.add(real)
  }

  #leave(address: IpAddress, real: number): void {
    const there = this.#indices.get(address)
    if (typeof there === 'object') there.delete(real)
    if (there !== real && !(typeof there === 'object' && there.size === 0)) return
    this.#indices.delete(address)
    this.#changed.add(address)
  }

  /** Of the real server in force at this index. */
  at(real: number): IpAddress | undefined {
    if (this.#touched.delete(real)) this.#follow(real)
    return this.#byIndex[real]
  }

  /** Indices of the real servers that have this address, as far as they have been looked at. */
  of(address: IpAddress): Iterable<number> {
    const there = this.#indices.get(address)
    return typeof there === 'object' ? there : there === undefined ? [] : [there]
  }

  /** From now on these are wanted, too, whether or not a real server in force has them. */
  wantAlso(beside: ReadonlySet<IpAddress>): void {
    for (const address of this.#beside) if (!beside.has(address)) this.#changed.add(address)
    for (const address of beside) if (!this.#beside.has(address)) this.#changed.add(address)
    this.#beside = beside
  }

  #isWanted(address: IpAddress): boolean {
    return this.#indices.has(address) || this.#beside.has(address)
  }

  /** All there are; what changes from now on is told by `take`. */
  all(): Iterable<IpAddress> {
    while (this.catchUp());
    this.#changed.clear()
    this.#turn = null
    this.#told.clear()
    for (const address of this.#indices.keys()) this.#told.add(address)
    for (const address of this.#beside) this.#told.add(address)
    return this.#told
  }

  /** Some of what has come and gone since it was told. */
  take(most: number): AddressChange {
    const [added, dropped]: [IpAddress[], IpAddress[]] = [[], []]
    const untold = this.catchUp()
    while (this.#changed.size > 0 && added.length + dropped.length < most) {
      this.#turn ??= this.#changed.values()
      const { done, value: address } = this.#turn.next()
      if (done === true) {
        this.#turn = null
        continue
      }
      this.#changed.delete(address)
      const isThere = this.#isWanted(address)
      if (isThere === this.#told.has(address)) continue
      if (isThere) {
        this.#told.add(address)
        added.push(address)
      } else {
        this.#told.delete(address)
        dropped.push(address)
      }
    }
    return { added, dropped, more: untold || this.#changed.size > 0 }
  }
}
