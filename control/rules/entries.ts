/** The director's own, mutable record of a virtual service and its real servers. */
import type { RealServer } from '../model/server.ts'
import type { VirtualService } from '../model/service.ts'

export interface ServerEntry {
  readonly key: string
  value: RealServer
  /** The last weight that was not 0, 0 if there was none: mh keeps a drained server's slots by it. */
  lastWeight: number
  /** Index in `reals`, or -1 while the maps do not hold it. */
  real: number
}

/** rr and wrr; the other schedulers remember nothing here. */
export interface SchedulerState {
  /** Chosen last; null is the head of the list, before the first entry. */
  last: ServerEntry | null
  /** wrr: the current weight. */
  weight: number
  /** wrr: how many real servers have each positive weight; null for other schedulers. */
  weights: Map<number, number> | null
}

export interface ServiceEntry {
  readonly key: string
  value: VirtualService
  /** Larger is newer. */
  readonly order: number
  /** Oldest first; IPVS's list order is the reverse. */
  readonly servers: ServerEntry[]
  readonly byKey: Map<string, ServerEntry>
  state: SchedulerState
  /** Index in `services`, or -1 while the maps do not hold it. */
  slot: number
}

export function startState(): SchedulerState {
  return { last: null, weight: 0, weights: null }
}

export function serverEntry(key: string, value: RealServer): ServerEntry {
  return { key, value, lastWeight: value.weight, real: -1 }
}

export function serviceEntry(key: string, value: VirtualService, order: number): ServiceEntry {
  return { key, value, order, servers: [], byKey: new Map(), state: startState(), slot: -1 }
}

/** The real servers in IPVS's list order: newest first. */
export function* newestFirst(service: ServiceEntry): Generator<ServerEntry> {
  for (let i = service.servers.length - 1; i >= 0; i--) yield service.servers[i]!
}
