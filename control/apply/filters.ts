/**
 * Filters as they are in the maps, which are the only place where they are: a million of them would weigh many
 * times as much in this process. What is for one service has a number of its own (`scope`), which stands in
 * the record `gates` of the service's slot for as long as the service is this one.
 */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import { GateRecord, PM_TICK_SHIFT, ServiceRecord } from '../../dataplane/layout/layout.gen.ts'
import { prefixText } from '../../net/prefix.ts'
import { type FilterEntry, FilterTable } from '../compile/filters.ts'
import { serviceOfImage } from '../compile/images.ts'
import type { FilterBatch, FilterChange, FilterListing } from '../model/filter.ts'
import { serviceKey, serviceText } from '../model/identity.ts'
import { done, type Outcome, refuse, success } from '../model/outcome.ts'
import type { ServiceId } from '../model/service.ts'
import type { Origin, SourceName } from '../model/source.ts'
import type { LedgerView } from '../plan/ledger.ts'
import type { Filters } from '../rules/applier.ts'

const TICK_MS = 2 ** PM_TICK_SHIFT / 1e6
/** More is not looked at in one go. */
const SLICE = 8192

export class FilterMaps implements Filters {
  readonly #dataplane: Dataplane
  readonly #ledger: LedgerView
  readonly #services: MapMemory
  readonly #gates: MapMemory
  readonly #table: FilterTable
  readonly #origins: (owner: SourceName) => Origin

  constructor(dataplane: Dataplane, ledger: LedgerView, origins: (owner: SourceName) => Origin) {
    this.#dataplane = dataplane
    this.#ledger = ledger
    this.#services = dataplane.map('services')
    this.#gates = dataplane.map('gates')
    this.#table = new FilterTable(dataplane)
    this.#origins = origins
  }

  get count(): number {
    return this.#table.count
  }

  #orderOf(slot: number): number {
    return ServiceRecord.getOrder(this.#services.view, slot * ServiceRecord.size)
  }

  #scopeOfSlot(slot: number): number {
    const base = slot * GateRecord.size
    const current = GateRecord.getOrder(this.#gates.view, base) === this.#orderOf(slot)
    return current ? GateRecord.getScope(this.#gates.view, base) : 0
  }

  /** null: there is no such service in the maps. */
  #scope(service: ServiceId | null): number | null {
    if (service === null) return 0
    const holding = this.#ledger.serviceOfKey(serviceKey(service))
    if (holding?.state !== 'live') return null
    const scope = this.#scopeOfSlot(holding.slot)
    return scope === 0 ? this.#newScope(holding.slot) : scope
  }

  #newScope(slot: number): number {
    let scope = 0
    for (let base = 0; base < this.#gates.bytes.length; base += GateRecord.size) {
      scope = Math.max(scope, GateRecord.getScope(this.#gates.view, base))
    }
    const order = this.#orderOf(slot)
    GateRecord.write(this.#gates.view, slot * GateRecord.size, {
      order,
      scope: scope + 1,
      rate: 0,
      connections: 0,
    })
    return scope + 1
  }

  /** Services that have filters of their own, by scope. */
  #byScope(): ReadonlyMap<number, ServiceId> {
    const services = new Map<number, ServiceId>()
    for (const { slot, state } of this.#ledger.holdings()) {
      const scope = this.#scopeOfSlot(slot)
      if (scope === 0 || state !== 'live') continue
      const read = serviceOfImage(this.#services.view, slot * ServiceRecord.size)
      if (read !== null) services.set(scope, read.service.id)
    }
    return services
  }

  *list(): Generator<FilterListing> {
    const services = this.#byScope()
    const now = this.#dataplane.nowTicks()
    for (const { prefix, action, owner, scope, expires } of this.#table.entries()) {
      const service = scope === 0 ? null : services.get(scope)
      const leftMs = expires === 0 ? null : ((expires - now) | 0) * TICK_MS
      if (service === undefined || (leftMs !== null && leftMs <= 0)) continue
      yield { prefix, action, service, leftMs, owner }
    }
  }

  /** All of it, or nothing. */
  change(change: FilterChange, owner: SourceName): Outcome {
    const undo: (() => void)[] = []
    const outcome = this.#change(change, owner, undo)
    if (!outcome.ok) for (const step of undo.reverse()) step()
    return outcome
  }

  #change({ flush, delete: gone, add }: FilterChange, owner: SourceName, undo: (() => void)[]): Outcome {
    if (flush !== null) {
      const scope = this.#scope(flush.service)
      if (scope === null) return unknown(flush.service)
      const flushed = [...this.#table.entries()].filter(
        (entry) => entry.owner === owner && entry.action === flush.action && entry.scope === scope,
      )
      for (const entry of flushed) this.#take(entry, undo)
    }
    for (const batch of gone) {
      const outcome = this.#delete(batch, owner, undo)
      if (!outcome.ok) return outcome
    }
    for (const batch of add) {
      const outcome = this.#add(batch, owner, undo)
      if (!outcome.ok) return outcome
    }
    return done
  }

  #take(entry: FilterEntry, undo: (() => void)[]): void {
    this.#table.remove(entry.prefix, entry.scope)
    undo.push(() => void this.#table.put(entry))
  }

  #delete({ prefixes, action, service }: FilterBatch, owner: SourceName, undo: (() => void)[]): Outcome {
    const scope = this.#scope(service)
    if (scope === null) return unknown(service)
    for (const prefix of prefixes) {
      const entry = this.#table.get(prefix, scope)
      if (entry === null || entry.action !== action) {
        return refuse('ENOENT', `${prefixText(prefix)} is not in that list, see: pointsman ${action} list`)
      }
      if (entry.owner !== owner) return this.#owned(entry)
      this.#take(entry, undo)
    }
    return success(undefined)
  }

  #add({ prefixes, action, service, forMs }: FilterBatch, owner: SourceName, undo: (() => void)[]): Outcome {
    const scope = this.#scope(service)
    if (scope === null) return unknown(service)
    // 0 would be for ever.
    const expires = forMs === null ? 0 : (this.#dataplane.nowTicks() + Math.ceil(forMs / TICK_MS)) >>> 0 || 1
    for (const prefix of prefixes) {
      const before = this.#table.get(prefix, scope)
      if (before !== null && before.owner !== owner) return this.#owned(before)
      if (!this.#table.put({ prefix, action, owner, scope, expires })) {
        return refuse(
          'ENOSPC',
          `No room for ${prefixText(prefix)}: there are ${this.#table.count} prefixes; start pointsmand with a larger --filters, after pointsman detach`,
        )
      }
      undo.push(
        before === null ? () => void this.#table.remove(prefix, scope) : () => void this.#table.put(before),
      )
    }
    return done
  }

  #owned({ prefix, owner }: FilterEntry): Outcome<never> {
    const { title, instead } = this.#origins(owner)
    return refuse('EBUSY', `${prefixText(prefix)} belongs to ${title}: ${instead}`)
  }

  /** Makes room where something is over or its service is gone: a little of it. */
  expireSlice(): void {
    if (this.#table.count === 0) return
    const services = this.#byScope()
    this.#table.expireSlice(SLICE, this.#dataplane.nowTicks(), (scope) => services.has(scope))
  }
}

function unknown(service: ServiceId | null): Outcome<never> {
  return refuse('ESRCH', `No service "${service === null ? '' : serviceText(service)}" in force`)
}
