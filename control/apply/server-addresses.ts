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

export class ServerAddresses {
  readonly #reals: MapMemory
  readonly #byIndex = new Map<number, IpAddress>()
  /** Of how many real servers each is the address. */
  readonly #counts = new Map<IpAddress, number>()
  #beside: ReadonlySet<IpAddress> = new Set()
  readonly #told = new Set<IpAddress>()
  /** May have come, or gone, since they were told. */
  readonly #changed = new Set<IpAddress>()

  constructor(reals: MapMemory) {
    this.#reals = reals
  }

  /** A real server has come to this index, has left it, or is another. */
  touch(real: number): void {
    const base = real * this.#reals.entrySize
    const isLive = RealRecord.getSlot(this.#reals.view, base) === Slot.Live
    const now = isLive ? serverIdOfImage(this.#reals.view, base).address : undefined
    const before = this.#byIndex.get(real)
    if (now === before) return
    if (before !== undefined) this.#count(before, -1)
    if (now === undefined) this.#byIndex.delete(real)
    else {
      this.#byIndex.set(real, now)
      this.#count(now, 1)
    }
  }

  /** From now on these are wanted, too, whether or not a real server in force has them. */
  wantAlso(beside: ReadonlySet<IpAddress>): void {
    for (const address of this.#beside) if (!beside.has(address)) this.#count(address, -1)
    for (const address of beside) if (!this.#beside.has(address)) this.#count(address, 1)
    this.#beside = beside
  }

  #count(address: IpAddress, by: 1 | -1): void {
    const count = (this.#counts.get(address) ?? 0) + by
    if (count === 0) this.#counts.delete(address)
    else this.#counts.set(address, count)
    this.#changed.add(address)
  }

  /** All there are; what changes from now on is told by `take`. */
  all(): Iterable<IpAddress> {
    this.#changed.clear()
    this.#told.clear()
    for (const address of this.#counts.keys()) this.#told.add(address)
    return this.#told
  }

  /** Some of what has come and gone since it was told. */
  take(most: number): AddressChange {
    const [added, dropped]: [IpAddress[], IpAddress[]] = [[], []]
    for (const address of this.#changed) {
      if (added.length + dropped.length >= most) break
      this.#changed.delete(address)
      const isThere = this.#counts.has(address)
      if (isThere === this.#told.has(address)) continue
      if (isThere) {
        this.#told.add(address)
        added.push(address)
      } else {
        this.#told.delete(address)
        dropped.push(address)
      }
    }
    return { added, dropped, more: this.#changed.size > 0 }
  }
}
