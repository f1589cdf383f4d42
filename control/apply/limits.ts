/** Limits of services for each source, as they are in the maps, which are the only place where they are. */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import { ServiceRecord } from '../../dataplane/layout/layout.gen.ts'
import { serviceOfImage } from '../compile/images.ts'
import { isUntracked } from '../compile/untracked.ts'
import { serviceKey, serviceText } from '../model/identity.ts'
import {
  type ComparedLimits,
  type LimitChange,
  type LimitListing,
  type LimitSettings,
  limitText,
  type SourceLimit,
  type StatedLimits,
} from '../model/limit.ts'
import { done, type Outcome, refuse } from '../model/outcome.ts'
import type { ServiceId } from '../model/service.ts'
import type { Origin, SourceName, StatingSource } from '../model/source.ts'
import type { LedgerView } from '../plan/ledger.ts'
import type { Limits } from '../rules/applier.ts'
import type { GateLimit, Gates } from './gates.ts'

function same(a: LimitSettings, b: LimitSettings): boolean {
  return a.rate === b.rate && a.connections === b.connections && a.length === b.length
}

export class LimitMaps implements Limits {
  readonly #ledger: LedgerView
  readonly #services: MapMemory
  readonly #gates: Gates
  readonly #origins: (owner: SourceName) => Origin
  /** By source and identity of the service: of services that may not be in force yet. */
  readonly #stated = new Map<StatingSource, ReadonlyMap<string, SourceLimit>>()

  constructor(
    dataplane: Dataplane,
    ledger: LedgerView,
    gates: Gates,
    origins: (owner: SourceName) => Origin,
  ) {
    this.#ledger = ledger
    this.#services = dataplane.map('services')
    this.#gates = gates
    this.#origins = origins
  }

  get count(): number {
    return this.#gates.limited().length
  }

  /** null: there is no such service in the maps. */
  #slot(service: ServiceId): number | null {
    const holding = this.#ledger.serviceOfKey(serviceKey(service))
    return holding?.state === 'live' ? holding.slot : null
  }

  #serviceAt(slot: number): ServiceId | null {
    return serviceOfImage(this.#services.view, slot * ServiceRecord.size)?.service.id ?? null
  }

  list(): LimitListing[] {
    return this.#gates.limited().flatMap((slot) => {
      const service = this.#serviceAt(slot)
      const limit = this.#gates.limitOf(slot)
      const live = service !== null && this.#slot(service) === slot
      return live && limit !== null ? [{ service, ...limit }] : []
    })
  }

  change({ delete: gone, add }: LimitChange, owner: SourceName): Outcome {
    const changes: { readonly slot: number; readonly limit: GateLimit | null }[] = []
    for (const service of gone) {
      const slot = this.#slot(service)
      if (slot === null) return unknown(service)
      const before = this.#gates.limitOf(slot)
      if (before === null) {
        return refuse('ENOENT', `Service "${serviceText(service)}" has no limit, see: pointsman limit list`)
      }
      if (before.owner !== owner) return refuse('EBUSY', this.#owned(service, before))
      changes.push({ slot, limit: null })
    }
    for (const { service, rate, connections, length } of add) {
      const slot = this.#slot(service)
      if (slot === null) return unknown(service)
      const wrong = tooLong(service, length)
      if (wrong !== null) return refuse('EINVAL', wrong)
      if (
        connections > 0 &&
        isUntracked(ServiceRecord.getFlags(this.#services.view, slot * ServiceRecord.size))
      ) {
        return refuse(
          'EINVAL',
          `Cannot limit connections at a time of service "${serviceText(service)}": they are not counted, it is tracked just enough; limit their rate (--rate), or edit it without --untracked`,
        )
      }
      const before = this.#gates.limitOf(slot)
      if (before !== null && before.owner !== owner) return refuse('EBUSY', this.#owned(service, before))
      changes.push({ slot, limit: { rate, connections, length, owner } })
    }
    for (const { slot, limit } of changes) this.#gates.setLimit(slot, limit)
    return done
  }

  #owned(service: ServiceId, { owner, ...limit }: GateLimit): string {
    const { title, instead } = this.#origins(owner)
    const text = `The limit of service "${serviceText(service)}" (${limitText(limit)}) belongs to ${title}`
    if (owner !== 'manual') return `${text}: ${instead}`
    return `${text}: delete it there: pointsman limit delete, or take it over: pointsman apply --take-over`
  }

  // What sources state

  compare({ limits, services, takeOver }: StatedLimits, owner: StatingSource): ComparedLimits {
    const differences: ComparedLimits['differences'][number][] = []
    const refused: ComparedLimits['refused'][number][] = []
    const wanted = new Set<number>()
    for (const limit of limits) {
      const slot = this.#slot(limit.service)
      const before = slot === null ? null : this.#gates.limitOf(slot)
      if (slot !== null) wanted.add(slot)
      const alike = before !== null && same(before, limit)
      if (before !== null && before.owner !== owner && !(before.owner === 'manual' && (takeOver || alike))) {
        refused.push({ limit, message: this.#owned(limit.service, before) })
      } else if (!alike) {
        if (before !== null)
          differences.push({ difference: 'deleted', limit: { ...before, service: limit.service } })
        differences.push({ difference: 'added', limit })
      }
    }
    for (const { service, owner: other, ...limit } of this.list()) {
      // What goes with its service is not told.
      if (other !== owner || wanted.has(this.#slot(service) ?? -1) || !services.has(serviceKey(service)))
        continue
      differences.push({ difference: 'deleted', limit: { ...limit, service } })
    }
    return { differences, refused }
  }

  state(stated: StatedLimits, owner: StatingSource): void {
    const wanted = new Map(stated.limits.map((limit) => [serviceKey(limit.service), limit]))
    for (const { service, owner: other } of this.list()) {
      const key = serviceKey(service)
      const slot = this.#slot(service)
      if (other === owner && slot !== null && !wanted.has(key) && stated.services.has(key)) {
        this.#gates.setLimit(slot, null)
      }
    }
    for (const { service, ...limit } of stated.limits) {
      const slot = this.#slot(service)
      if (slot !== null) this.#gates.setLimit(slot, { ...limit, owner })
    }
    this.#stated.set(owner, wanted)
  }

  /** A service has been written into a slot, and packets do not find it yet. */
  filled(slot: number): void {
    const id = this.#stated.size === 0 ? null : this.#serviceAt(slot)
    if (id === null) return
    for (const [owner, limits] of this.#stated) {
      const limit = limits.get(serviceKey(id))
      if (limit === undefined) continue
      const { rate, connections, length } = limit
      this.#gates.setLimit(slot, { rate, connections, length, owner })
    }
  }
}

/** What is wrong with a prefix length; null: nothing. */
function tooLong(service: ServiceId, length: number): string | null {
  const bits = service.family === 4 ? 32 : 128
  return length <= bits
    ? null
    : `Cannot use prefix /${length}: addresses of IPv${service.family} have ${bits} bits`
}

function unknown(service: ServiceId): Outcome<never> {
  return refuse('ESRCH', `No service "${serviceText(service)}" in force`)
}
