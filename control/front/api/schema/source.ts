/** Sources of services, what they state, and weights held by hand, as they cross the API. */
import { z } from 'zod'
import { endpointText } from '../../../../net/endpoint.ts'
import { prefixText } from '../../../../net/prefix.ts'
import { serverKey, serviceKey } from '../../../model/identity.ts'
import { limitText } from '../../../model/limit.ts'
import { markText } from '../../../model/mark.ts'
import type { NamedPoolState } from '../../../model/pool.ts'
import { type Complaint, placeText } from '../../../model/site.ts'
import { SOURCES } from '../../../model/source.ts'
import type { RuleChange } from '../../../rules/restate.ts'
import { differences, type SiteSource } from '../../../source/site-source.ts'
import { holdAnswer, holdJson, serviceIdJson, serviceNameAnswer } from './service.ts'

/** 31 days. */
const HOLD_MAX_S = 2678400

export const holdBody = z
  .strictObject({
    weight: z.int().min(0).max(2147483647).default(0).meta({ description: '0 drains' }),
    forS: z
      .int()
      .min(1)
      .max(HOLD_MAX_S)
      .optional()
      .meta({ description: 'ends by itself after so many seconds' }),
    by: z.string().max(80).default('the API').meta({ description: 'shown to whoever wonders' }),
  })
  .meta({ id: 'HoldRequest' })

export const sourceBody = z
  .strictObject({
    path: z
      .string()
      .regex(/^\//, 'expected an absolute path')
      .optional()
      .meta({ description: "file on the daemon's machine; its own unless given" }),
    takeOver: z.boolean().default(false).meta({
      description: 'take over services that commands state otherwise, instead of refusing',
    }),
  })
  .meta({ id: 'SourceRequest' })

const complaintAnswer = z.object({
  at: z.string().meta({ description: 'file:line:column' }),
  message: z.string(),
  severity: z.enum(['error', 'remark']),
})

export const poolAnswer = z
  .object({
    pool: z.string(),
    registry: z.string(),
    kind: z.enum(['etcd', 'zookeeper', 'consul', 'dns']),
    name: z.string().meta({ description: 'what it is called in the registry' }),
    state: z.enum(['unheard', 'current', 'away', 'held']).meta({
      description:
        'unheard: nothing is known yet; away: the registry does not answer, the last good set stays; held: it has lost too many at once, the last good set stays',
    }),
    since: z.string().nullable().meta({ description: 'of away and held; else of the last change' }),
    heard: z.string().nullable().meta({ description: 'when it was last known to be so' }),
    servers: z.int().nullable().meta({ description: 'that it has in force' }),
    why: z.string().nullable().meta({ description: 'of away and held' }),
    skipped: z.int().meta({ description: 'entries that are no real servers' }),
    skippedEntries: z
      .array(z.object({ key: z.string(), why: z.string() }))
      .meta({ description: 'the first of them' }),
  })
  .meta({ id: 'PoolState' })
export type PoolShown = z.infer<typeof poolAnswer>

export function poolJson(pool: NamedPoolState): PoolShown {
  const trouble = pool.held ?? pool.away
  const since = trouble?.sinceMs ?? pool.changedMs
  return {
    pool: pool.pool,
    registry: pool.registry,
    kind: pool.kind,
    name: pool.name,
    state:
      pool.held !== null
        ? 'held'
        : pool.away !== null
          ? 'away'
          : pool.heardMs === null
            ? 'unheard'
            : 'current',
    since: timeText(since),
    heard: timeText(pool.heardMs),
    servers: pool.servers,
    why: trouble?.why ?? null,
    skipped: pool.badCount,
    skippedEntries: [...pool.bad],
  }
}

const timeText = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString())

export const goesOnAnswer = z.enum(['before', 'last good', 'rules']).meta({
  id: 'GoesOn',
  description:
    'what is in force of a source that is refused: what it said before; what it said before the daemon started, as that kept it; the rules alone, without checks',
})

const sourceAnswer = z
  .object({
    source: z.enum(SOURCES),
    path: z.string().nullable(),
    state: z.enum(['unread', 'in force', 'refused']).meta({
      description: 'refused: what was read last is wrong, and what was in force before still is',
    }),
    since: z.string().nullable(),
    goesOn: goesOnAnswer.nullable().meta({ description: 'null unless it is refused' }),
    services: z.int().meta({ description: 'that it has in force' }),
    watched: z.array(z.string()).meta({ description: 'files that are read again whenever they change' }),
    pools: z.array(poolAnswer).meta({ description: 'those that follow a registry' }),
    complaints: z.array(complaintAnswer),
  })
  .meta({ id: 'Source' })
export const sourcesAnswer = z.array(sourceAnswer)
export type SourceShown = z.infer<typeof sourceAnswer>

export const changeAnswer = z
  .object({
    change: z.enum([
      'add service',
      'edit service',
      'delete service',
      'take over',
      'add server',
      'edit server',
      'delete server',
      'add filter',
      'delete filter',
      'add limit',
      'delete limit',
      'add mark',
      'delete mark',
    ]),
    service: serviceNameAnswer
      .nullable()
      .meta({ description: 'null: what is denied, allowed or marked for all services' }),
    server: z.string().optional().meta({ description: 'address:port' }),
    differences: z.array(z.string()).meta({ example: ['weight 3 -> 0'] }),
    hold: holdAnswer.nullable().meta({ description: 'the weight is held by hand' }),
    connections: z.int().meta({ description: 'live ones that it touches, counted in the table' }),
  })
  .meta({ id: 'Change' })
export type ChangeShown = z.infer<typeof changeAnswer>

export const changesAnswer = z
  .object({ path: z.string(), changes: z.array(changeAnswer), complaints: z.array(complaintAnswer) })
  .meta({ id: 'Changes' })

export const appliedAnswer = z
  .object({
    path: z.string(),
    ownPath: z.string().meta({ description: 'what the next reload reads' }),
    counts: z.record(z.string(), z.int()).meta({ description: 'changes by kind' }),
    complaints: z.array(complaintAnswer).meta({ description: 'remarks' }),
  })
  .meta({ id: 'Applied' })

export function complaintJson({ at, message, severity }: Complaint): z.infer<typeof complaintAnswer> {
  return { at: placeText(at), message, severity }
}

export function sourceJson(source: SiteSource, services: number): SourceShown {
  const { state } = source
  return {
    source: source.source,
    path: source.from,
    state: state.state,
    since: new Date(state.sinceMs).toISOString(),
    services,
    watched: [...(source.site?.watched ?? [])],
    pools: source.pools.map(poolJson),
    goesOn: state.state === 'refused' ? state.goesOn : null,
    complaints: state.state === 'refused' ? state.complaints.map(complaintJson) : [],
  }
}

/** @param connections of a real server, by identities */
export function changeJson(
  change: RuleChange,
  connections: (service: string, server: string | null) => number,
): ChangeShown {
  if (change.id === null) return gateJson(change)
  const key = serviceKey(change.id)
  const service = serviceIdJson(change.id)
  switch (change.change) {
    case 'add service':
      return { change: change.change, service, differences: [], hold: null, connections: 0 }
    case 'delete service':
      return {
        change: change.change,
        service,
        differences: [],
        hold: null,
        connections: connections(key, null),
      }
    case 'edit service':
      return {
        change: change.change,
        service,
        differences: [...differences(change.before, change.after)],
        hold: null,
        connections: connections(key, null),
      }
    case 'take over':
      return {
        change: change.change,
        service,
        differences: [`from ${change.from}`],
        hold: null,
        connections: 0,
      }
    case 'add server':
      return {
        change: change.change,
        service,
        server: endpointText(change.after.id),
        differences: [`${change.after.method}, weight ${change.after.weight}`],
        hold: null,
        connections: 0,
      }
    case 'edit server':
    case 'delete server':
      return {
        change: change.change,
        service,
        server: endpointText(change.before.id),
        differences: change.change === 'edit server' ? [...differences(change.before, change.after)] : [],
        hold: change.hold === null ? null : holdJson(change.hold),
        connections: connections(key, serverKey(change.before.id)),
      }
    case 'add filter':
    case 'delete filter':
    case 'add limit':
    case 'delete limit':
      return gateJson(change)
    default:
      return change satisfies never
  }
}

type GateChange = Extract<
  RuleChange,
  { readonly filter: unknown } | { readonly limit: unknown } | { readonly rule: unknown }
>

function gateJson(change: GateChange): ChangeShown {
  const words =
    'rule' in change
      ? `mark ${markText(change.rule)}`
      : 'limit' in change
        ? `limit ${limitText(change.limit)}`
        : `${change.filter.action} ${prefixText(change.filter.prefix)}`
  return {
    change: change.change,
    service: change.id === null ? null : serviceIdJson(change.id),
    differences: [words],
    hold: null,
    connections: 0,
  }
}
