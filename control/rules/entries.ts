/** What is wanted of a virtual service and its real servers. Where the maps hold it is the ledger's to know. */
import type { RealServer } from '../model/server.ts'
import type { VirtualService } from '../model/service.ts'
import type { SourceName } from '../model/source.ts'
import type { Statement } from './layers.ts'

export interface ServerEntry {
  readonly key: string
  /** As it was said: what is saved. */
  said: RealServer
  /** As it is to be in force: the same, but for the weight, which overlays may lower (layers.ts). */
  value: RealServer
  /** The last weight in force that was not 0, 0 if there was none: mh keeps a drained server's slots by it. */
  lastWeight: number
  /** No source states it: it serves because an overlay says so (a sorry server). */
  extra: boolean
}

export interface ServiceEntry {
  readonly key: string
  value: VirtualService
  /** Who states it. */
  owner: SourceName
  /** The statement that it is as it is, if nothing of it has been changed since: then that says nothing new. */
  statement: Statement | null
  /** Larger is newer. */
  readonly order: number
  /** Oldest first; IPVS's list order is the reverse. */
  readonly servers: ServerEntry[]
  readonly byKey: Map<string, ServerEntry>
  /** Real servers that are stated, and that an overlay has taken out of the list. */
  readonly away: Map<string, ServerEntry>
  /** wrr: how many real servers have each positive weight; null for other schedulers. */
  weights: Map<number, number> | null
}

export function serverEntry(key: string, value: RealServer, extra = false): ServerEntry {
  return { key, said: value, value, lastWeight: value.weight, extra }
}

export function serviceEntry(
  key: string,
  value: VirtualService,
  order: number,
  owner: SourceName,
): ServiceEntry {
  return {
    key,
    value,
    owner,
    statement: null,
    order,
    servers: [],
    byKey: new Map(),
    away: new Map(),
    weights: null,
  }
}

/** A copy that can be changed while others look at the original. */
export function copyEntry(service: ServiceEntry): ServiceEntry {
  const servers = service.servers.map((server) => ({ ...server }))
  return {
    ...service,
    servers,
    byKey: new Map(servers.map((server) => [server.key, server])),
    away: new Map(Array.from(service.away, ([key, server]) => [key, { ...server }])),
    weights: service.weights === null ? null : new Map(service.weights),
  }
}

/** The real servers as they are stated, wherever they are, oldest first as far as that is known. */
export function* stated(service: ServiceEntry): Generator<ServerEntry> {
  for (const server of service.servers) if (!server.extra) yield server
  yield* service.away.values()
}

/** The real servers in IPVS's list order: newest first. */
export function* newestFirst(service: ServiceEntry): Generator<ServerEntry> {
  for (let i = service.servers.length - 1; i >= 0; i--) yield service.servers[i]!
}
