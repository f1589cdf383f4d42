/** A Service with its endpoints, as virtual services. Pure. */

import {
  type Family,
  familyOf,
  type IpAddress,
  isMulticast,
  parseAddress,
  unspecified,
} from '../../../net/address.ts'
import { bitsOf, cut, type Prefix, prefixText } from '../../../net/prefix.ts'
import type { Protocol } from '../../../net/protocol.ts'
import type { Check } from '../../model/check.ts'
import { DEFAULT_HEALTH_POLICY, NO_SERVER_POLICY } from '../../model/health-policy.ts'
import { WHOLE_ADDRESS } from '../../model/limits.ts'
import { translates } from '../../model/server.ts'
import type { SiteFilter, SiteServer, SiteService } from '../../model/site.ts'
import type { KubeNode, KubeService, KubeSlice, ServicePort, SliceEndpoint } from './objects.ts'
import type { KubernetesSettings } from './settings.ts'

const PROTOCOLS: Readonly<Record<string, Protocol>> = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' }
const CHECK_MS = 2000

/** @param addresses that it has been given */
export function buildServices(
  service: KubeService,
  addresses: readonly string[],
  slices: readonly KubeSlice[],
  nodes: readonly KubeNode[],
  settings: KubernetesSettings,
): readonly SiteService[] {
  const { namespace, name } = service.meta
  return addresses.flatMap((text) => {
    const address = parseAddress(text)
    if (address === null) return []
    const family = familyOf(address)
    return service.ports.flatMap((port): SiteService[] => {
      const protocol = PROTOCOLS[port.protocol]
      if (protocol === undefined || port.port === 0) return []
      const servers =
        settings.targets === 'nodes'
          ? nodeServers(service, port, slices, nodes, family, settings)
          : podServers(port, slices, family, settings)
      return [
        {
          service: {
            id: { kind: 'address', protocol, address, family, port: port.port },
            scheduler: settings.scheduler,
            schedulerFlags: 0,
            onePacket: false,
            untracked: false,
            persistenceTimeoutS: service.affinityS,
            netmask: WHOLE_ADDRESS[family],
            persistenceEngine: null,
          },
          servers,
          health: DEFAULT_HEALTH_POLICY,
          filters: sourceFilters(service, family),
          limit: null,
          at: { file: `service ${namespace}/${name}`, line: 1, column: 1 },
        },
      ]
    })
  })
}

/** `10.0.0.0/8`, `10.1.2.3/8` for the same as the API server takes it; null: it is none. */
export function parseSourceRange(text: string): Prefix | null {
  const [, before = '', digits] = /^\s*([^/\s]+)(?:\/(\d{1,3}))?\s*$/.exec(text) ?? []
  const address = parseAddress(before)
  if (address === null) return null
  const bits = bitsOf(familyOf(address))
  const length = digits === undefined ? bits : Number(digits)
  return length > bits ? null : cut(address, length)
}

/** These and nobody else; who names ranges of one family alone lets nobody of the other in. */
function sourceFilters({ sourceRanges }: KubeService, family: Family): readonly SiteFilter[] {
  if (sourceRanges.length === 0) return []
  const own = sourceRanges.map(parseSourceRange).filter((prefix) => prefix?.family === family)
  const allowed = new Map(own.flatMap((one) => (one === null ? [] : [[prefixText(one), one] as const])))
  if ([...allowed.values()].some(({ length }) => length === 0)) return []
  const all = cut(unspecified(family), 0)
  return [
    ...[...allowed.values()].map((prefix) => ({ prefix, action: 'allow' as const })),
    { prefix: all, action: 'deny' },
  ]
}

function realServer(
  address: IpAddress,
  port: number,
  weight: number,
  { method }: KubernetesSettings,
  checks: readonly Check[] = [],
): SiteServer {
  return {
    real: {
      id: { address, family: familyOf(address), port },
      method,
      tunnel: { type: 'ipip' },
      weight,
      upperThreshold: 0,
      lowerThreshold: 0,
    },
    checks,
    policy: NO_SERVER_POLICY,
    pool: null,
  }
}

/** A pod that is going takes no new connections and keeps its old ones; unless there are no others. */
function weigh(endpoints: readonly SliceEndpoint[]): (endpoint: SliceEndpoint) => number | null {
  const anyReady = endpoints.some(({ ready }) => ready)
  return ({ ready, serving, terminating }) => {
    if (ready) return 1
    if (!serving || !terminating) return null
    return anyReady ? 0 : 1
  }
}

function podServers(
  { name, protocol, port: own }: ServicePort,
  slices: readonly KubeSlice[],
  family: 4 | 6,
  settings: KubernetesSettings,
): readonly SiteServer[] {
  const weightOf = weigh(slices.flatMap(({ endpoints }) => endpoints))
  const servers = new Map<string, SiteServer>()
  for (const slice of slices) {
    if (slice.family !== `IPv${family}`) continue
    const target = slice.ports.find((one) => one.name === name && one.protocol === protocol)
    if (target === undefined || target.port === 0) continue
    // Without translation the pod hears the port that clients ask for.
    const port = translates(settings.method) ? target.port : own
    for (const endpoint of slice.endpoints) {
      const weight = weightOf(endpoint)
      // All of one endpoint's addresses are the same pod: the first is meant.
      const address = parseAddress(endpoint.addresses[0] ?? '')
      if (weight === null || address === null || isMulticast(address)) continue
      const before = servers.get(address)
      // In two slices at once while the controller moves it.
      if (before === undefined || before.real.weight < weight) {
        servers.set(address, realServer(address, port, weight, settings))
      }
    }
  }
  return inOrder(servers)
}

/** The order of objects in answers means nothing. */
function inOrder(servers: ReadonlyMap<string, SiteServer>): readonly SiteServer[] {
  return [...servers].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, server]) => server)
}

function nodeServers(
  service: KubeService,
  port: ServicePort,
  slices: readonly KubeSlice[],
  nodes: readonly KubeNode[],
  family: 4 | 6,
  settings: KubernetesSettings,
): readonly SiteServer[] {
  if (port.nodePort === 0) return []
  // Who has none of the pods drops what is not to go on to another node.
  const weightOf = weigh(slices.flatMap(({ endpoints }) => endpoints))
  const weights = new Map<string, number>()
  for (const endpoint of slices.flatMap(({ endpoints }) => endpoints)) {
    const weight = weightOf(endpoint)
    if (endpoint.node !== null && weight !== null) {
      weights.set(endpoint.node, Math.max(weight, weights.get(endpoint.node) ?? 0))
    }
  }
  const checks = service.local && service.healthPort > 0 ? [healthCheck(service.healthPort)] : []
  const servers = new Map<string, SiteServer>()
  for (const node of nodes) {
    const weight = service.local ? weights.get(node.meta.name) : 1
    if (!node.ready || weight === undefined) continue
    const address = node.addresses
      .map((text) => parseAddress(text))
      .find((one) => one !== null && familyOf(one) === family)
    if (address != null) servers.set(address, realServer(address, port.nodePort, weight, settings, checks))
  }
  return inOrder(servers)
}

/** What kube-proxy answers of a node: whether it has any of the pods. */
function healthCheck(port: number): Check {
  return {
    name: 'healthCheckNodePort',
    question: {
      kind: 'http',
      tls: null,
      method: 'GET',
      version: '1.1',
      host: null,
      requests: [{ path: '/healthz', status: [{ from: 200, to: 200 }], body: null, digest: null }],
    },
    path: 'direct',
    address: null,
    port,
    source: null,
    intervalMs: CHECK_MS,
    retryIntervalMs: CHECK_MS,
    timeoutMs: CHECK_MS,
    rise: 1,
    fall: 2,
    startJitterMs: CHECK_MS,
  }
}
