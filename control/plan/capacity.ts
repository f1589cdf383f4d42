/**
 * Whether rules will fit into the maps, asked before they are accepted: what is admitted can be brought in
 * force in the end. Removed real servers count for as long as connections keep their index; without any the
 * index is there for others.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import { LiveRecord } from '../../dataplane/layout/layout.gen.ts'
import { SH_TABLE_SIZE } from '../compile/lookup-table.ts'
import { MH_TABLE_SIZE } from '../model/scheduler.ts'
import type { VirtualService } from '../model/service.ts'
import type { ServiceEntry } from '../rules/entries.ts'
import type { Room, Services } from '../rules/room.ts'
import type { LedgerView, ServiceHolding } from './ledger.ts'
import { blockSize } from './ranges.ts'

const LIVE_WORDS = LiveRecord.size / 4
const ACTIVE = LiveRecord.offsets.active / 4
const INACTIVE = LiveRecord.offsets.inactive / 4
const PERSISTENT = LiveRecord.offsets.persistent / 4
/**
 * Counting real servers with connections costs what the maps hold, and connections come and go: for so long
 * a count is believed that has room (ms), and one that has none. Wrong by then, the one admits a service
 * that will have to wait, and the other refuses one that a moment later fits.
 */
const ROOM_MS = 1000
const NO_ROOM_MS = 100

/** Whether connections refer to a real server. */
export function isPinned(live: MapMemory, real: number): boolean {
  const at = real * LIVE_WORDS
  const { u32 } = live
  return u32[at + ACTIVE] !== 0 || u32[at + INACTIVE] !== 0 || u32[at + PERSISTENT] !== 0
}

/** Blocks of members, all of one size. */
interface Demand {
  readonly size: number
  readonly blocks: number
}

/** What a service of so many real servers takes: where connections are not remembered, a table before its own besides. */
function demandOf({ scheduler, untracked }: VirtualService, servers: number): Demand {
  const table =
    scheduler === 'mh' ? MH_TABLE_SIZE : scheduler === 'sh' || scheduler === 'dh' ? SH_TABLE_SIZE : 0
  return { size: blockSize(servers + table), blocks: servers === 0 ? 0 : untracked ? 2 : 1 }
}

export class Capacity implements Room {
  readonly #ledger: LedgerView
  readonly #live: MapMemory
  readonly #nowMs: () => number
  #demand = new MemberDemand()
  #servers = 0
  /** Real servers, and services, that are not wanted any more but have connections. */
  readonly #pinnedServers: PinnedCount
  readonly #pinnedServices: PinnedCount

  constructor(ledger: LedgerView, live: MapMemory, nowMs: () => number) {
    this.#ledger = ledger
    this.#live = live
    this.#nowMs = nowMs
    this.#pinnedServers = new PinnedCount(nowMs)
    this.#pinnedServices = new PinnedCount(nowMs)
  }

  admitsService(service: string, services: Services): boolean {
    const { sizes, servicesFree } = this.#ledger
    const free = sizes.services - services.size
    if (free <= 0) return false
    // Those held are wanted ones and gone ones; where both fit, nobody has to be counted.
    if (services.size + (sizes.services - servicesFree) < sizes.services) return true
    const held = this.#ledger.serviceOfKey(service)
    const back = held !== undefined && this.#hasPinned(held)
    return this.#pinnedServices.admits(free, back, () => this.#countPinnedServices(services))
  }

  #hasPinned({ reals }: ServiceHolding): boolean {
    for (const real of reals.values()) if (isPinned(this.#live, real)) return true
    return false
  }

  #countPinnedServices(services: Services): number {
    let count = 0
    for (const holding of this.#ledger.holdings()) {
      if (!services.has(holding.key) && this.#hasPinned(holding)) count++
    }
    return count
  }

  admitsServer(service: ServiceEntry, server: string, services: Services): boolean {
    const { value } = service
    const count = service.servers.length
    const members = this.#demand.after(demandOf(value, count), demandOf(value, count + 1))
    if (members > this.#ledger.sizes.members) return false
    const held = this.#ledger.serviceOfKey(service.key)?.reals.get(server)
    const back = held !== undefined && isPinned(this.#live, held)
    const { sizes, realsFree } = this.#ledger
    const free = sizes.reals - this.#servers
    if (free <= 0) return false
    if (sizes.reals - realsFree < free) {
      if (back) this.#pinnedServers.isBack()
      return true
    }
    return this.#pinnedServers.admits(free, back, () => this.#countPinnedServers(services))
  }

  #countPinnedServers(services: Services): number {
    let count = 0
    for (const { key, reals } of this.#ledger.holdings()) {
      const wanted = services.get(key)
      for (const [server, real] of reals) {
        if (wanted?.byKey.has(server) !== true && isPinned(this.#live, real)) count++
      }
    }
    return count
  }

  admitsEdit(service: ServiceEntry, value: VirtualService): boolean {
    const count = service.servers.length
    const before = demandOf(service.value, count)
    const after = demandOf(value, count)
    return (
      after.size * after.blocks <= before.size * before.blocks ||
      this.#demand.after(before, after) <= this.#ledger.sizes.members
    )
  }

  entered(service: ServiceEntry): void {
    this.#demand.add(demandOf(service.value, service.servers.length))
    this.#servers += service.servers.length
  }

  left(service: ServiceEntry): void {
    this.#demand.remove(demandOf(service.value, service.servers.length))
    this.#servers -= service.servers.length
  }

  fork(): Capacity {
    const fork = new Capacity(this.#ledger, this.#live, this.#nowMs)
    fork.#demand = this.#demand.copy()
    fork.#servers = this.#servers
    return fork
  }
}

/** How many of those that are gone have connections, and so keep their place: known for a moment. */
class PinnedCount {
  readonly #nowMs: () => number
  #count = 0
  #atMs = Number.NEGATIVE_INFINITY

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /**
   * Whether one more can be taken in, of which note is taken.
   * @param free places that nobody wants
   * @param back it is one of those that are gone
   */
  admits(free: number, back: boolean, count: () => number): boolean {
    const fits = (): boolean => this.#count - (back ? 1 : 0) < free
    const ageMs = this.#nowMs() - this.#atMs
    if (!(ageMs < NO_ROOM_MS || (ageMs < ROOM_MS && fits()))) {
      this.#count = count()
      this.#atMs = this.#nowMs()
    }
    if (!fits()) return false
    if (back) this.isBack()
    return true
  }

  /** One of those counts as wanted from now on. */
  isBack(): void {
    this.#count--
  }
}

/** How many members all services need, in blocks. */
class MemberDemand {
  #total = 0
  /** How many services need a block of each size. */
  readonly #sizes = new Map<number, number>()

  copy(): MemberDemand {
    const copy = new MemberDemand()
    copy.#total = this.#total
    for (const [size, services] of this.#sizes) copy.#sizes.set(size, services)
    return copy
  }

  add({ size, blocks }: Demand): void {
    if (blocks === 0) return
    this.#total += size * blocks
    this.#sizes.set(size, (this.#sizes.get(size) ?? 0) + 1)
  }

  remove({ size, blocks }: Demand): void {
    if (blocks === 0) return
    this.#total -= size * blocks
    const left = (this.#sizes.get(size) ?? 0) - 1
    if (left <= 0) this.#sizes.delete(size)
    else this.#sizes.set(size, left)
  }

  /**
   * The need once a service grows from one block size to another, with room to rewrite the largest: for a
   * moment it holds two ranges, the old one until packets have left it.
   */
  after(from: Demand, to: Demand): number {
    let largest = to.size
    for (const size of this.#sizes.keys()) if (size > largest) largest = size
    return this.#total - from.size * from.blocks + to.size * to.blocks + largest
  }
}
