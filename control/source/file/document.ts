/** From values back to the words of a file: what it prints, `readSite` reads to the same values. */

import { ipv4FromNumber } from '../../../net/address.ts'
import { endpointText } from '../../../net/endpoint.ts'
import { prefixText } from '../../../net/prefix.ts'
import type { Check, CheckTls, HttpRequest } from '../../model/check.ts'
import type { FilterAction } from '../../model/filter.ts'
import { portsText } from '../../model/full-nat.ts'
import { DEFAULT_HEALTH_POLICY, type HealthPolicy, type Hook } from '../../model/health-policy.ts'
import type { LimitSettings } from '../../model/limit.ts'
import { WHOLE_ADDRESS } from '../../model/limits.ts'
import type { MarkRule } from '../../model/mark.ts'
import type { RealServer } from '../../model/server.ts'
import type { ServiceId, VirtualService } from '../../model/service.ts'
import type { DirectorSettings, SiteFilter, SiteServer, SiteService } from '../../model/site.ts'
import {
  type CheckDocument,
  FLAG_BITS,
  type FlagName,
  type HookDocument,
  type MarkDocument,
  type ServerDocument,
  type ServiceDocument,
  type SiteDocument,
} from './schema.ts'

/** A service to be written down: from a source with its checks, or from commands without. */
export type Written = Pick<SiteService, 'service' | 'servers' | 'filters' | 'limit'> & {
  readonly health: HealthPolicy | null
}

/** What stands in front of all services. */
export interface WrittenGate {
  readonly filters: readonly SiteFilter[]
  readonly marks: readonly MarkRule[]
}

export function siteDocument(
  director: DirectorSettings,
  services: readonly Written[],
  { filters, marks }: WrittenGate = { filters: [], marks: [] },
): SiteDocument {
  const { interfaces, timeouts, sysctls, daemons, fullNat } = director
  const settings = {
    ...(interfaces.length > 0 ? { interfaces: [...interfaces] } : {}),
    ...(timeouts === null
      ? {}
      : {
          timeouts: {
            tcp: seconds(timeouts.tcp),
            tcp_fin: seconds(timeouts.tcpFin),
            udp: seconds(timeouts.udp),
          },
        }),
    ...(Object.keys(sysctls).length > 0 ? { sysctls: { ...sysctls } } : {}),
    ...(fullNat === null
      ? {}
      : {
          full_nat: fullNat.map(({ address, ports }) =>
            ports === undefined ? address : { address, ports: portsText(ports) },
          ),
        }),
    ...(daemons.length > 0
      ? {
          sync: daemons.map(({ state, interface: nic, syncId, maxLength, group, port, ttl }) => ({
            state,
            interface: nic,
            sync_id: syncId,
            ...(maxLength === undefined ? {} : { max_length: maxLength }),
            ...(group === undefined ? {} : { group }),
            ...(port === undefined ? {} : { port }),
            ...(ttl === undefined ? {} : { ttl }),
          })),
        }
      : {}),
  }
  return {
    ...(Object.keys(settings).length > 0 ? { director: settings } : {}),
    ...accessDocument(filters),
    ...(marks.length > 0 ? { marks: marks.map(markDocument) } : {}),
    services: services.map(serviceDocument),
  }
}

function accessDocument(filters: readonly SiteFilter[]): Pick<SiteDocument, 'deny' | 'allow'> {
  const of = (wanted: FilterAction) =>
    filters.flatMap(({ action, prefix }) => (action === wanted ? [prefixText(prefix)] : []))
  const [deny, allow] = [of('deny'), of('allow')]
  return { ...(deny.length > 0 ? { deny } : {}), ...(allow.length > 0 ? { allow } : {}) }
}

function markDocument(rule: MarkRule): MarkDocument {
  const { mark, family, destination, source, protocol, ports, interface: name } = rule
  return {
    mark,
    ...(destination === null ? {} : { to: prefixText(destination) }),
    ...(source === null ? {} : { from: prefixText(source) }),
    ...(protocol === null ? {} : { protocol }),
    ...(ports === null ? {} : { ports: ports.from === ports.to ? ports.from : `${ports.from}-${ports.to}` }),
    ...(name === null ? {} : { interface: name }),
    ...(destination === null && source === null ? { family: family === 6 ? 'ipv6' : 'ipv4' } : {}),
  }
}

const seconds = (value: number): string => `${value}s`

function time(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`
}

function named(id: ServiceId): ServiceDocument {
  if (id.kind === 'fwmark')
    return { fwmark: id.mark, ...(id.family === 6 ? { family: 'ipv6' as const } : {}) }
  return { [id.protocol]: endpointText(id) }
}

function limitDocument({ rate, connections, length }: LimitSettings): NonNullable<ServiceDocument['limit']> {
  return {
    ...(rate === 0 ? {} : { rate }),
    ...(connections === 0 ? {} : { connections }),
    prefix: length,
  }
}

export function serviceDocument({ service, servers, health, filters, limit }: Written): ServiceDocument {
  const checks = commonChecks(servers)
  return {
    ...named(service.id),
    scheduler: schedulerName(service),
    ...settingsOf(service),
    ...(health === null ? {} : policyDocument(health)),
    ...(checks.length > 0 ? { checks: checks.map(checkDocument) } : {}),
    ...accessDocument(filters),
    ...(limit === null ? {} : { limit: limitDocument(limit) }),
    ...(servers.length > 0 ? { real_servers: servers.map((server) => serverDocument(server, checks)) } : {}),
  }
}

function schedulerName({ scheduler }: VirtualService): NonNullable<ServiceDocument['scheduler']> {
  return scheduler
}

function settingsOf(service: VirtualService): ServiceDocument {
  const { id, scheduler, schedulerFlags, persistenceTimeoutS, netmask, persistenceEngine } = service
  return {
    ...(schedulerFlags === 0 ? {} : { flags: flagNames(scheduler, schedulerFlags) }),
    ...(persistenceTimeoutS === 0 ? {} : { persistence_timeout: seconds(persistenceTimeoutS) }),
    ...(netmask === WHOLE_ADDRESS[id.family]
      ? {}
      : { netmask: id.family === 4 ? ipv4FromNumber(netmask) : netmask }),
    ...(persistenceEngine === null ? {} : { persistence_engine: persistenceEngine }),
    ...(service.onePacket ? { one_packet: true } : {}),
    ...(service.untracked ? { untracked: true } : {}),
  }
}

function flagNames(scheduler: string, bits: number): FlagName[] {
  const own = (Object.keys(FLAG_BITS) as FlagName[]).filter((name) => name.startsWith(`${scheduler}-`))
  const plain = (['flag-1', 'flag-2', 'flag-3'] as const).filter(
    (name) => !own.some((known) => FLAG_BITS[known] === FLAG_BITS[name]),
  )
  return [...own, ...plain].filter((name) => (bits & FLAG_BITS[name]) !== 0)
}

function settingsOfServer(real: RealServer): Omit<ServerDocument, 'address'> {
  return {
    method: real.method,
    ...(real.method === 'tunnel' && real.tunnel.type !== 'ipip' ? { tunnel: real.tunnel } : {}),
    weight: real.weight,
    ...(real.upperThreshold === 0 ? {} : { upper_threshold: real.upperThreshold }),
    ...(real.lowerThreshold === 0 ? {} : { lower_threshold: real.lowerThreshold }),
  }
}

function serverDocument({ real, checks, policy }: SiteServer, common: readonly Check[]): ServerDocument {
  const own = sameChecks(checks, common) ? {} : { checks: checks.map(checkDocument) }
  return {
    address: endpointText(real.id),
    ...settingsOfServer(real),
    ...own,
    ...hookField('on_up', policy.onUp),
    ...hookField('on_down', policy.onDown),
    ...(policy.onFailure === null ? {} : { on_failure: policy.onFailure }),
    ...(policy.start === null ? {} : { start: policy.start }),
  }
}

/** Those of most real servers stand with the service. */
function commonChecks(servers: readonly SiteServer[]): readonly Check[] {
  return servers.find(({ checks }) => checks.length > 0)?.checks ?? []
}

function sameChecks(a: readonly Check[], b: readonly Check[]): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b)
}

function hookField(name: string, hook: Hook | null): Record<string, HookDocument> {
  if (hook === null) return {}
  const command = [...hook.command]
  return { [name]: hook.user === null ? command : { command, user: hook.user } }
}

function policyDocument(health: HealthPolicy): ServiceDocument {
  const usual = DEFAULT_HEALTH_POLICY
  const { sorryServer } = health
  return {
    ...(health.quorum === usual.quorum ? {} : { quorum: health.quorum }),
    ...(health.hysteresis === usual.hysteresis ? {} : { hysteresis: health.hysteresis }),
    ...hookField('on_quorum_up', health.onQuorumUp),
    ...hookField('on_quorum_down', health.onQuorumDown),
    ...(health.onFailure === usual.onFailure ? {} : { on_failure: health.onFailure }),
    ...(health.start === usual.start ? {} : { start: health.start }),
    ...(health.hooksAtEnd ? { hooks_at_end: true } : {}),
    ...(sorryServer === null
      ? {}
      : { sorry_server: { address: endpointText(sorryServer.id), ...settingsOfServer(sorryServer) } }),
    ...(health.sorryStays ? { sorry_server_stays: true } : {}),
    ...(health.slowStartMs === 0 ? {} : { slow_start: time(health.slowStartMs) }),
  }
}

export function checkDocument(check: Check): CheckDocument {
  const common = {
    name: check.name,
    interval: time(check.intervalMs),
    retry_interval: time(check.retryIntervalMs),
    timeout: time(check.timeoutMs),
    rise: check.rise,
    fall: check.fall,
    start_jitter: time(check.startJitterMs),
    path: check.path,
    ...(check.address === null ? {} : { address: check.address }),
    ...(check.port === null ? {} : { port: check.port }),
    ...(check.source === null ? {} : { source: check.source }),
  }
  const { question } = check
  switch (question.kind) {
    case 'tcp':
    case 'ping':
      return { kind: question.kind, ...common }
    case 'http': {
      const { tls, method, version, host, requests } = question
      const fields = {
        ...common,
        method,
        version,
        ...(host === null ? {} : { host }),
        urls: requests.map(urlDocument),
      }
      return tls === null ? { kind: 'http', ...fields } : { kind: 'https', ...fields, ...tlsDocument(tls) }
    }
    case 'tls':
      return { kind: 'tls', ...common, ...tlsDocument(question.tls) }
    case 'dns':
      return { kind: 'dns', ...common, query: question.name, type: question.type }
    case 'smtp':
      return { kind: 'smtp', ...common, helo: question.helo }
    case 'udp': {
      const { required, match } = question.reply
      const reply = match === null ? {} : { reply: match }
      return { kind: 'udp', ...common, payload: question.payload, require_reply: required, ...reply }
    }
    case 'grpc': {
      const tls = question.tls === null ? {} : { tls: true, ...tlsDocument(question.tls) }
      return { kind: 'grpc', ...common, service: question.service, ...tls }
    }
    case 'exec': {
      const user = question.user === null ? {} : { user: question.user }
      return { kind: 'exec', ...common, command: [...question.command], result: question.result, ...user }
    }
    case 'file':
      return { kind: 'file', ...common, file: question.file, factor: question.factor }
    case 'agent':
      return { kind: 'agent', ...common, send: question.send }
    default:
      return question satisfies never
  }
}

function urlDocument({ path, status, body, digest }: HttpRequest) {
  return {
    url: path,
    status: status.map(({ from, to }) => (from === to ? from : `${from}-${to}`)),
    ...(body === null ? {} : { body }),
    ...(digest === null ? {} : { [digest.algorithm]: digest.hex }),
  }
}

function tlsDocument({ serverName, verify, ca }: CheckTls) {
  return {
    ...(serverName === null ? {} : { server_name: serverName }),
    verify,
    ...(ca === null ? {} : { ca }),
  }
}
