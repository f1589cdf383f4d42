/**
 * Filters as they are in the maps, which are the only place where they are: a million of them would weigh many
 * times as much in this process. What is for one service has a number of its own (`scope`), which stands in
 * the record `gates` of the service's slot for as long as the service is this one.
 */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import { PM_TICK_SHIFT, ServiceRecord } from '../../dataplane/layout/layout.gen.ts'
import { endpointText } from '../../net/endpoint.ts'
import { prefixText } from '../../net/prefix.ts'
import { type FilterEntry, FilterTable } from '../compile/filters.ts'
import { serviceOfImage } from '../compile/images.ts'
import type {
  ComparedFilters,
  Filter,
  FilterBatch,
  FilterChange,
  FilterDifference,
  FilterListing,
  StatedFilters,
} from '../model/filter.ts'
import { serviceKey, serviceText } from '../model/identity.ts'
import { done, type Outcome, refuse, success } from '../model/outcome.ts'
import type { ServiceId } from '../model/service.ts'
import { ORIGINS, type Origin, type SourceName, type StatingSource } from '../model/source.ts'
import type { LedgerView } from '../plan/ledger.ts'
import type { Filters } from '../rules/applier.ts'
import type { Gates } from './gates.ts'

const TICK_MS = 2 ** PM_TICK_SHIFT / 1e6
/** More is not looked at in one go. */
const SLICE = 8192

type Undo = (() => void)[]

export class FilterMaps implements Filters {
  readonly #dataplane: Dataplane
  readonly #ledger: LedgerView
  readonly #services: MapMemory
  readonly #gates: Gates
  readonly #table: FilterTable
  /** By source and identity of the service: lists of services that may not be in force yet. */
  readonly #lists = new Map<StatingSource, ReadonlyMap<string, readonly Filter[]>>()
  /** Slots of services whose list had no room, and why. */
  readonly #lacking = new Map<number, string>()
  origins: (owner: SourceName) => Origin = (owner) => ORIGINS[owner]

  constructor(dataplane: Dataplane, ledger: LedgerView, gates: Gates) {
    this.#dataplane = dataplane
    this.#ledger = ledger
    this.#services = dataplane.map('services')
    this.#gates = gates
    this.#table = new FilterTable(dataplane)
    gates.skipScopes(this.#table.lastScope)
  }

  get count(): number {
    return this.#table.count
  }

  /** null: there is no such service in the maps. */
  #slot(service: ServiceId): number | null {
    const holding = this.#ledger.serviceOfKey(serviceKey(service))
    return holding?.state === 'live' ? holding.slot : null
  }

  /** null: there is no such service in the maps. */
  #scope(service: ServiceId | null): number | null {
    if (service === null) return 0
    const slot = this.#slot(service)
    return slot === null ? null : this.#gates.scopeFor(slot)
  }

  /** Services that have filters of their own, by scope. */
  #byScope(): ReadonlyMap<number, ServiceId> {
    const services = new Map<number, ServiceId>()
    for (const { slot, state } of this.#ledger.holdings()) {
      const scope = this.#gates.scopeOf(slot)
      if (scope === 0 || state !== 'live') continue
      const id = this.#serviceAt(slot)
      if (id !== null) services.set(scope, id)
    }
    return services
  }

  #serviceAt(slot: number): ServiceId | null {
    return serviceOfImage(this.#services.view, slot * ServiceRecord.size)?.service.id ?? null
  }

  *list(): Generator<FilterListing> {
    const services = this.#byScope()
    for (const entry of this.#table.entries()) {
      const { prefix, action, owner, scope, expires } = entry
      const service = scope === 0 ? null : services.get(scope)
      if (service === undefined || this.#isOver(entry)) continue
      const leftMs = expires === 0 ? null : ((expires - this.#dataplane.nowTicks()) | 0) * TICK_MS
      yield { prefix, action, service, leftMs, owner }
    }
  }

  #isOver({ expires }: FilterEntry): boolean {
    return expires !== 0 && ((expires - this.#dataplane.nowTicks()) | 0) <= 0
  }

  /** All of it, or nothing. */
  change(change: FilterChange, owner: SourceName): Outcome {
    const undo: Undo = []
    const outcome = this.#change(change, owner, undo)
    if (!outcome.ok) for (const step of undo.reverse()) step()
    return outcome
  }

  #change({ flush, delete: gone, add }: FilterChange, owner: SourceName, undo: Undo): Outcome {
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

  #take(entry: FilterEntry, undo: Undo): void {
    this.#table.remove(entry.prefix, entry.scope)
    undo.push(() => void this.#table.put(entry))
  }

  #delete({ prefixes, action, service }: FilterBatch, owner: SourceName, undo: Undo): Outcome {
    const scope = this.#scope(service)
    if (scope === null) return unknown(service)
    for (const prefix of prefixes) {
      const entry = this.#table.get(prefix, scope)
      if (entry === null || entry.action !== action) {
        return refuse('ENOENT', `${prefixText(prefix)} is not in that list, see: pointsman ${action} list`)
      }
      if (entry.owner !== owner) return refuse('EBUSY', this.#owned(entry, service))
      this.#take(entry, undo)
    }
    return success(undefined)
  }

  #add({ prefixes, action, service, forMs }: FilterBatch, owner: SourceName, undo: Undo): Outcome {
    const scope = this.#scope(service)
    if (scope === null) return unknown(service)
    // 0 would be for ever.
    const expires = forMs === null ? 0 : (this.#dataplane.nowTicks() + Math.ceil(forMs / TICK_MS)) >>> 0 || 1
    for (const prefix of prefixes) {
      const before = this.#table.get(prefix, scope)
      if (before !== null && before.owner !== owner) return refuse('EBUSY', this.#owned(before, service))
      const full = this.#put({ prefix, action, owner, scope, expires }, undo)
      if (full !== null) return refuse('ENOSPC', full)
    }
    return done
  }

  /** What is wrong if there is no room. */
  #put(entry: FilterEntry, undo: Undo): string | null {
    const { prefix, scope } = entry
    const before = this.#table.get(prefix, scope)
    if (!this.#table.put(entry)) return this.#noRoom(prefixText(prefix))
    undo.push(
      before === null ? () => void this.#table.remove(prefix, scope) : () => void this.#table.put(before),
    )
    return null
  }

  #noRoom(what: string): string {
    return `No room for ${what}: there are ${this.#table.count} prefixes; start pointsmand with a larger --filters, after pointsman detach`
  }

  #owned({ prefix, action, owner }: FilterEntry, service: ServiceId | null): string {
    const { title, instead } = this.origins(owner)
    if (owner !== 'manual') return `${prefixText(prefix)} belongs to ${title}: ${instead}`
    const of = service === null ? '' : ` --service ${nameOf(service)}`
    const remove = `pointsman ${action} delete ${prefixText(prefix)}${of}`
    return `${prefixText(prefix)} belongs to ${title}: delete it there: ${remove}, or take it over: pointsman apply --take-over`
  }

  // What sources state

  compare({ filters, services, takeOver }: StatedFilters, owner: StatingSource): ComparedFilters {
    const differences: FilterDifference[] = []
    const refused: { readonly filter: Filter; readonly message: string }[] = []
    let kept = 0
    for (const filter of filters) {
      const slot = filter.service === null ? null : this.#slot(filter.service)
      const scope = slot === null ? 0 : this.#gates.scopeOf(slot)
      const own = filter.service !== null && scope === 0
      const before = own ? null : this.#table.get(filter.prefix, scope)
      const same = before !== null && before.action === filter.action && before.expires === 0
      if (before?.owner === owner) kept++
      else if (
        before !== null &&
        !this.#isOver(before) &&
        !(before.owner === 'manual' && (takeOver || same))
      ) {
        refused.push({ filter, message: this.#owned(before, filter.service) })
        continue
      }
      if (same) continue
      if (before !== null)
        differences.push({ difference: 'deleted', filter: { ...filter, action: before.action } })
      differences.push({ difference: 'added', filter })
    }
    const added = differences.filter(({ difference }) => difference === 'added').length
    if (added > this.#table.capacity - this.#table.count) {
      const filter = filters.at(-1)!
      refused.push({ filter, message: this.#noRoom(`${added} more`) })
    }
    if (this.#table.countOf(owner) > kept) {
      for (const [entry, service] of this.#leftOut(filters, services, owner)) {
        const { prefix, action } = entry
        differences.push({ difference: 'deleted', filter: { prefix, action, service } })
      }
    }
    return { differences, refused }
  }

  /** What the source has said before and says no more. */
  #leftOut(
    filters: readonly Filter[],
    services: ReadonlySet<string>,
    owner: StatingSource,
  ): readonly (readonly [FilterEntry, ServiceId | null])[] {
    const wanted = new Set(filters.map(({ prefix, service }) => nameOfFilter(prefix, service)))
    const byScope = this.#byScope()
    return [...this.#table.entries()].flatMap((entry) => {
      if (entry.owner !== owner) return []
      const service = entry.scope === 0 ? null : byScope.get(entry.scope)
      // Not before its service: that would be open to everybody meanwhile.
      if (service === undefined || (service !== null && !services.has(serviceKey(service)))) return []
      return wanted.has(nameOfFilter(entry.prefix, service)) ? [] : [[entry, service] as const]
    })
  }

  state(stated: StatedFilters, owner: StatingSource): ComparedFilters {
    const compared = this.compare(stated, owner)
    if (compared.refused.length > 0) return compared
    const undo: Undo = []
    const left = this.#table.countOf(owner) > 0 ? this.#leftOut(stated.filters, stated.services, owner) : []
    // Nobody who is allowed before and afterwards is turned away in between.
    for (const filter of allowedFirst(stated.filters)) {
      const scope = this.#scope(filter.service)
      if (scope === null) continue
      const { prefix, action } = filter
      const full = this.#put({ prefix, action, owner, scope, expires: 0 }, undo)
      if (full === null) continue
      for (const step of undo.reverse()) step()
      return { differences: [], refused: [{ filter, message: full }] }
    }
    for (const [entry] of left) this.#table.remove(entry.prefix, entry.scope)
    this.#lists.set(owner, listsOf(stated.filters))
    return compared
  }

  /** A service has been written into a slot, and packets do not find it yet: those who may not reach it never do. */
  filled(slot: number): void {
    this.#lacking.delete(slot)
    const id = this.#lists.size === 0 ? null : this.#serviceAt(slot)
    if (id === null) return
    for (const [owner, lists] of this.#lists) {
      for (const { prefix, action } of lists.get(serviceKey(id)) ?? []) {
        const full = this.#put({ prefix, action, owner, scope: this.#gates.scopeFor(slot), expires: 0 }, [])
        if (full !== null) this.#lacking.set(slot, `Service "${serviceText(id)}": ${full}`)
      }
    }
  }

  /** Tries again what had no room; what is wrong if it has none. */
  lacking(): string | null {
    for (const slot of [...this.#lacking.keys()]) this.filled(slot)
    const [full = null] = this.#lacking.values()
    return full
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

/** As a command takes it. */
function nameOf(id: ServiceId): string {
  if (id.kind === 'fwmark') return `fwmark${id.family === 6 ? 6 : ''}/${id.mark}`
  return `${id.protocol}/${endpointText(id)}`
}

function nameOfFilter(prefix: Filter['prefix'], service: ServiceId | null): string {
  return `${prefixText(prefix)} ${service === null ? '' : serviceKey(service)}`
}

function allowedFirst(filters: readonly Filter[]): readonly Filter[] {
  const of = (wanted: Filter['action']) => filters.filter(({ action }) => action === wanted)
  return [...of('allow'), ...of('deny')]
}

function listsOf(filters: readonly Filter[]): ReadonlyMap<string, readonly Filter[]> {
  const lists = new Map<string, Filter[]>()
  for (const filter of allowedFirst(filters)) {
    if (filter.service === null) continue
    const key = serviceKey(filter.service)
    const list = lists.get(key)
    if (list === undefined) lists.set(key, [filter])
    else list.push(filter)
  }
  return lists
}
