/** What `pointsman status` shows. */
import type { Answers, Dataplane } from '../../dataplane/dataplane.ts'
import type { SendFailures } from '../../dataplane/kernel/failures.ts'
import { netDeviceName } from '../../linux/device.ts'
import { CHECK_DEVICE } from '../../linux/netlink/probe-pair.ts'
import { endpointText } from '../../net/endpoint.ts'
import type { Attachment } from '../apply/attachments.ts'
import type { MapApplier } from '../apply/map-applier.ts'
import { holdJson, serviceIdJson } from '../front/api/schema/service.ts'
import { poolJson } from '../front/api/schema/source.ts'
import type { Status } from '../front/api/schema/status.ts'
import type { HealthInShort } from '../health/health.ts'
import type { Director } from '../model/director.ts'
import { serviceKey, serviceText } from '../model/identity.ts'
import { placeText } from '../model/site.ts'
import type { HeldServer } from '../rules/holds.ts'
import type { SiteSource } from '../source/site-source.ts'
import type { Sources } from '../source/sources.ts'

export type { Status }

export interface StatusFacts {
  /** Who counts frames that the kernel did not send, or why nobody does; null where it does not apply. */
  readonly sendFailures: SendFailures | string | null
  readonly version: string
  readonly startedAt: Date
  readonly reason: string
  readonly adopted: boolean
  readonly dataplane: Dataplane | null
  readonly applier: MapApplier | null
  readonly director: Director
  /** What states whole sets of services. */
  readonly sources: Sources
  readonly holds: readonly HeldServer[]
  /** What checks have found. */
  readonly health: HealthInShort | null
  /** What the machine has too little room for, in sentences. */
  readonly warnings: readonly string[]
  /** Interfaces that packets are to be taken from. */
  readonly attachments: readonly Attachment[]
}

export function readStatus(facts: StatusFacts): Status {
  const { dataplane, director, applier } = facts
  const rules = director.rules()
  // The link of questions is ours, and nobody has asked for it.
  const interfaces = (dataplane?.interfaces() ?? []).filter(({ name }) => name !== CHECK_DEVICE)
  const missing = facts.attachments.flatMap((one) =>
    one.state === 'attached' ? [] : [{ name: one.wanted, state: one.state, why: one.why }],
  )
  return {
    version: facts.version,
    pid: process.pid,
    startedAt: facts.startedAt.toISOString(),
    forwarding: interfaces.length > 0 && missing.length === 0,
    dataplane: {
      kind: dataplane?.plane ?? 'none',
      reason: facts.reason,
      adopted: facts.adopted,
      program: dataplane?.program() ?? null,
      interfaces: interfaces.map(({ name, ifindex, mode, note, relayed }) => ({
        name,
        ifindex,
        mode,
        ...(note === undefined ? {} : { note }),
        ...(relayed === undefined ? {} : { relayed }),
      })),
      missing,
      answers: companionShown(dataplane?.answers?.()),
      cutting: companionShown(dataplane?.cutting?.()),
      own: ownShown(applier),
      warnings: [...(dataplane?.warnings ?? []), ...(applier?.warnings() ?? []), ...facts.warnings],
      sendFailures: sendFailures(facts.sendFailures),
    },
    services: rules.length,
    realServers: rules.reduce((sum, { servers }) => sum + servers.length, 0),
    connections: connections(applier),
    capacity: dataplane === null ? {} : { ...dataplane.sizes },
    sources: facts.sources.all().flatMap(refusedSource),
    pools: facts.sources
      .all()
      .flatMap(({ pools }) => pools.map(poolJson))
      .filter(({ state, skipped }) => state !== 'current' || skipped > 0),
    health: healthShown(facts.health),
    holds: facts.holds.map(({ service, server, hold }) => ({
      service: serviceIdJson(service),
      server: endpointText(server),
      hold: holdJson(hold),
    })),
    notInForce: notInForce(rules, director.states()),
    repairs: Object.fromEntries(applier?.repairs ?? []),
    unsupported: rules
      .map(({ service, servers }) => ({
        service: serviceIdJson(service.id),
        reasons: [...director.unsupported(service, servers)],
      }))
      .filter(({ reasons }) => reasons.length > 0),
    memoryMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  }
}

function companionShown(state: Answers | null | undefined): Status['dataplane']['answers'] {
  if (state == null) return null
  return { seen: state.seen, interfaces: [...state.interfaces], refused: [...state.refused] }
}

function ownShown(applier: MapApplier | null): Status['dataplane']['own'] {
  const own = applier?.ownClients ?? null
  return own === null ? null : { served: own.served, refused: [...own.refused] }
}

/** As the last sweep over all lines counted them; without a data plane there are none. */
function connections(applier: MapApplier | null): Status['connections'] {
  if (applier === null) return { ipv4: 0, ipv6: 0, templates: 0 }
  const { lastSweep } = applier
  if (lastSweep === null) return null
  return { ipv4: lastSweep.connections4, ipv6: lastSweep.connections6, templates: lastSweep.templates }
}

function refusedSource({ source, path, state }: SiteSource): Status['sources'] {
  if (state.state !== 'refused') return []
  const complaints = state.complaints.map(({ at, message }) => `${placeText(at)}: ${message}`)
  return [{ source, path, since: new Date(state.sinceMs).toISOString(), goesOn: state.goesOn, complaints }]
}

function healthShown(health: HealthInShort | null): Status['health'] {
  if (health === null) return null
  const servicesDown = health.servicesDown.map(({ service, sinceMs, sorry }) => ({
    service: serviceText(service.id),
    since: new Date(sinceMs).toISOString(),
    sorry,
  }))
  return { ...health, servicesDown }
}

function notInForce(
  rules: ReturnType<Director['rules']>,
  states: ReturnType<Director['states']>,
): Status['notInForce'] {
  if (states.size === 0) return []
  return rules.flatMap(({ service: { id } }) => {
    const state = states.get(serviceKey(id))
    return state === undefined ? [] : [{ service: serviceIdJson(id), ...state }]
  })
}

function sendFailures(counting: SendFailures | string | null): Status['dataplane']['sendFailures'] {
  if (counting === null) return null
  if (typeof counting === 'string') return { counted: false, why: counting, ways: [] }
  const ways = counting.read().map(({ ifindex, error, frames }) => ({
    interface: netDeviceName(ifindex) ?? `interface ${ifindex}, which is gone`,
    error,
    frames: Number(frames),
  }))
  return { counted: true, why: null, ways }
}
