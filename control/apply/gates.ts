/**
 * What stands in front of one service, by its slot: the number that its own prefixes have, and its limits. A record
 * is about the service whose order it names; a later one in the same slot begins with nothing.
 */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import { GateRecord, ServiceRecord } from '../../dataplane/layout/layout.gen.ts'
import type { LimitSettings } from '../model/limit.ts'
import { SOURCES, type SourceName } from '../model/source.ts'

const NO_GATE = { order: 0, scope: 0, rate: 0, connections: 0, length: 0, owner: 0 }

export interface GateLimit extends LimitSettings {
  readonly owner: SourceName
}

export class Gates {
  readonly #services: MapMemory
  readonly #gates: MapMemory
  /** The last number that a service was given. */
  #lastScope = 0
  /** The last order, of all that records name. */
  readonly lastOrder: number
  /** Slots that have had a limit. */
  readonly #limited = new Set<number>()

  constructor(dataplane: Dataplane) {
    this.#services = dataplane.map('services')
    this.#gates = dataplane.map('gates')
    const { view, entries } = this.#gates
    let lastOrder = 0
    for (let slot = 0; slot < entries; slot++) {
      const base = slot * GateRecord.size
      lastOrder = Math.max(lastOrder, GateRecord.getOrder(view, base))
      this.#lastScope = Math.max(this.#lastScope, GateRecord.getScope(view, base))
      if (GateRecord.getRate(view, base) !== 0 || GateRecord.getConnections(view, base) !== 0)
        this.#limited.add(slot)
    }
    this.lastOrder = lastOrder
  }

  /** Scopes up to this one are in use, maybe by prefixes of services that are no more. */
  skipScopes(last: number): void {
    this.#lastScope = Math.max(this.#lastScope, last)
  }

  #orderOf(slot: number): number {
    return ServiceRecord.getOrder(this.#services.view, slot * ServiceRecord.size)
  }

  #isCurrent(slot: number): boolean {
    return GateRecord.getOrder(this.#gates.view, slot * GateRecord.size) === this.#orderOf(slot)
  }

  #store(slot: number, field: keyof typeof GateRecord.offsets, value: number): void {
    Atomics.store(this.#gates.u32, (slot * GateRecord.size + GateRecord.offsets[field]) / 4, value)
  }

  /** Packets find the record of a service when it is complete. */
  #open(slot: number): void {
    if (this.#isCurrent(slot)) return
    this.#store(slot, 'order', 0)
    GateRecord.write(this.#gates.view, slot * GateRecord.size, NO_GATE)
    this.#store(slot, 'order', this.#orderOf(slot))
  }

  /** 0: the service has no prefixes of its own. */
  scopeOf(slot: number): number {
    return this.#isCurrent(slot) ? GateRecord.getScope(this.#gates.view, slot * GateRecord.size) : 0
  }

  scopeFor(slot: number): number {
    const scope = this.scopeOf(slot)
    if (scope !== 0) return scope
    this.#lastScope++
    this.#open(slot)
    this.#store(slot, 'scope', this.#lastScope)
    return this.#lastScope
  }

  limitOf(slot: number): GateLimit | null {
    const { view } = this.#gates
    const base = slot * GateRecord.size
    if (!this.#isCurrent(slot)) return null
    const rate = GateRecord.getRate(view, base)
    const connections = GateRecord.getConnections(view, base)
    if (rate === 0 && connections === 0) return null
    const owner = SOURCES[GateRecord.getOwner(view, base)] ?? 'manual'
    return { rate, connections, length: GateRecord.getLength(view, base), owner }
  }

  setLimit(slot: number, limit: GateLimit | null): void {
    if (limit === null) {
      if (this.limitOf(slot) !== null) {
        this.#store(slot, 'rate', 0)
        this.#store(slot, 'connections', 0)
      }
      this.#limited.delete(slot)
      return
    }
    this.#open(slot)
    this.#store(slot, 'owner', SOURCES.indexOf(limit.owner))
    this.#store(slot, 'length', limit.length)
    this.#store(slot, 'rate', limit.rate)
    this.#store(slot, 'connections', limit.connections)
    this.#limited.add(slot)
  }

  /** Slots of services that have a limit. */
  limited(): readonly number[] {
    return [...this.#limited].filter((slot) => this.limitOf(slot) !== null)
  }
}
