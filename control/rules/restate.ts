/**
 * A source says anew all that it wants: what of the rules is its own becomes that, and nothing else does.
 * Only what differs from what was said before is touched.
 */
import { endpointText } from '../../net/endpoint.ts'
import { sameServer, sameService } from '../model/equal.ts'
import type { Filter } from '../model/filter.ts'
import type { Hold } from '../model/hold.ts'
import { serverKey, serviceKey, serviceText } from '../model/identity.ts'
import type { SourceLimit } from '../model/limit.ts'
import type { MarkRule } from '../model/mark.ts'
import type { RealServer } from '../model/server.ts'
import type { ServiceId, VirtualService } from '../model/service.ts'
import { ORIGINS, type Origin, type SourceName, type StatingSource } from '../model/source.ts'
import { type ServiceEntry, stated } from './entries.ts'
import type { Statement } from './layers.ts'
import { type Rules, statedServer } from './rules.ts'

/** Services that are as they were between two looks at whether others are to go first. */
const STRIDE = 256

export interface Restatement {
  readonly source: StatingSource
  /** In the order of adding; the very same statement as the last time says the same, and is not looked at. */
  readonly services: readonly Statement[]
  /** Services that commands state otherwise become the source's, instead of being refused. */
  readonly takeOver: boolean
  /** Sources that may reach its services or not, or how often, and which packets have which mark. */
  readonly filters: readonly Filter[]
  readonly limits: readonly SourceLimit[]
  readonly marks: readonly MarkRule[]
}

export type RuleChange =
  | { readonly change: 'add service'; readonly id: ServiceId; readonly after: VirtualService }
  | {
      readonly change: 'edit service'
      readonly id: ServiceId
      readonly before: VirtualService
      readonly after: VirtualService
    }
  | { readonly change: 'delete service'; readonly id: ServiceId; readonly before: VirtualService }
  /** Commands stated it; the rule itself may stay the same. */
  | { readonly change: 'take over'; readonly id: ServiceId; readonly from: SourceName }
  | { readonly change: 'add server'; readonly id: ServiceId; readonly after: RealServer }
  | {
      readonly change: 'edit server'
      readonly id: ServiceId
      readonly before: RealServer
      readonly after: RealServer
      /** Its weight is held by hand: what the source says of it waits. */
      readonly hold: Hold | null
    }
  | {
      readonly change: 'delete server'
      readonly id: ServiceId
      readonly before: RealServer
      /** It ends with the real server. */
      readonly hold: Hold | null
    }
  /** id null: of all services. */
  | {
      readonly change: 'add filter' | 'delete filter'
      readonly id: ServiceId | null
      readonly filter: Filter
    }
  | { readonly change: 'add limit' | 'delete limit'; readonly id: ServiceId; readonly limit: SourceLimit }
  | { readonly change: 'add mark' | 'delete mark'; readonly id: null; readonly rule: MarkRule }

/** What of a statement cannot be. */
export interface RefusedStatement {
  /** Identity; empty: what is refused is about none. */
  readonly service: string
  /** Identity of the real server; null: the service itself. */
  readonly server: string | null
  readonly message: string
  /** What was stated, where that is no service: as it was handed over. */
  readonly what?: Filter | MarkRule
}

export interface Restated {
  readonly changes: readonly RuleChange[]
  /** Any: then nothing has changed. */
  readonly refused: readonly RefusedStatement[]
}

export function ownedBy(id: ServiceId, origin: Origin): string {
  return `Service "${serviceText(id)}" belongs to ${origin.title}: ${origin.instead}`
}

/**
 * Changes a draft of the rules; a step for each service, so that whoever drives it can let others go first.
 * @param origins who the sources are, in words
 */
export function* restate(
  rules: Rules,
  { source, services, takeOver }: Pick<Restatement, 'source' | 'services' | 'takeOver'>,
  origins: ReadonlyMap<SourceName, Origin>,
): Generator<undefined, Restated> {
  const changes: RuleChange[] = []
  const refused: RefusedStatement[] = []
  const wanted = new Set<string>()
  for (const { service } of services) wanted.add(serviceKey(service.id))
  // Removals go first: what they free may be what the others need.
  for (const entry of [...rules.entries()]) {
    if (entry.owner !== source || wanted.has(entry.key)) continue
    for (const { said, key } of stated(entry)) {
      changes.push({
        change: 'delete server',
        id: entry.value.id,
        before: said,
        hold: rules.holdOf(entry.key, key),
      })
    }
    changes.push({ change: 'delete service', id: entry.value.id, before: entry.value })
    rules.deleteService(entry.value.id)
    yield
  }
  let alike = 0
  for (const statement of services) {
    const { id } = statement.service
    const key = serviceKey(id)
    const entry = rules.findKey(key)
    if (entry?.owner === source && entry.statement === statement) {
      if (++alike % STRIDE === 0) yield
      continue
    }
    if (entry !== undefined && entry.owner !== source) {
      if (entry.owner !== 'manual' || !(takeOver || says(entry, statement))) {
        const origin = origins.get(entry.owner) ?? ORIGINS[entry.owner]
        refused.push({ service: key, server: null, message: refusal(id, entry.owner, origin) })
        continue
      }
      changes.push({ change: 'take over', id, from: entry.owner })
      rules.giveTo(id, source)
    }
    const before = refused.length
    restateService(rules, statement, source, changes, refused)
    if (refused.length === before) rules.isAsStated(key, statement)
    yield
  }
  return { changes, refused }
}

function refusal(id: ServiceId, owner: SourceName, origin: Origin): string {
  const text = ownedBy(id, origin)
  return owner === 'manual' ? `${text}, or take it over: pointsman apply --take-over` : text
}

/** Whether the entry is exactly as stated: then it does not matter to anybody whose it is. */
function says(entry: ServiceEntry, { service, servers }: Statement): boolean {
  if (!sameService(entry.value, service)) return false
  let count = 0
  for (const _ of stated(entry)) count++
  return (
    count === servers.length &&
    servers.every((server) => {
      const known = statedServer(entry, serverKey(server.id))
      return known !== undefined && sameServer(known.said, server)
    })
  )
}

function restateService(
  rules: Rules,
  { service, servers }: Statement,
  source: SourceName,
  changes: RuleChange[],
  refused: RefusedStatement[],
): void {
  const { id } = service
  const key = serviceKey(id)
  const before = rules.findKey(key)
  if (before === undefined) {
    const outcome = rules.addService(service, source)
    if (!outcome.ok) {
      refused.push({ service: key, server: null, message: outcome.message })
      return
    }
    changes.push({ change: 'add service', id, after: service })
  }
  const names = servers.map((server) => serverKey(server.id))
  if (before !== undefined) {
    const wanted = new Set(names)
    for (const { key: server, said } of [...stated(before)]) {
      if (wanted.has(server)) continue
      changes.push({ change: 'delete server', id, before: said, hold: rules.holdOf(key, server) })
      rules.deleteServer(id, said.id)
    }
    // What a scheduler has room for may depend on how many are left.
    if (!sameService(before.value, service)) {
      const old = before.value
      const outcome = rules.editService(service)
      if (outcome.ok) changes.push({ change: 'edit service', id, before: old, after: service })
      else refused.push({ service: key, server: null, message: outcome.message })
    }
  }
  for (const [index, server] of servers.entries()) {
    const name = names[index]!
    const entry = rules.findKey(key)!
    const known = before === undefined ? undefined : statedServer(entry, name)
    if (known !== undefined && sameServer(known.said, server)) continue
    const said = known?.said
    const outcome = said === undefined ? rules.addServerTo(entry, name, server) : rules.editServer(id, server)
    if (!outcome.ok) {
      refused.push({
        service: key,
        server: name,
        message: `Real server "${endpointText(server.id)}": ${outcome.message}`,
      })
    } else if (said === undefined) {
      changes.push({ change: 'add server', id, after: server })
    } else {
      changes.push({
        change: 'edit server',
        id,
        before: said,
        after: server,
        hold: rules.holdOf(key, name),
      })
    }
  }
}
