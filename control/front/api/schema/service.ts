/** Virtual services and real servers as they cross the API. */
import { z } from 'zod'
import { familyOf, type IpAddress, ipv4FromNumber, ipv4ToNumber, parseIpv4 } from '../../../../net/address.ts'
import type { Hold } from '../../../model/hold.ts'
import { INT_MAX, TIMEOUT_MAX_S, WHOLE_ADDRESS } from '../../../model/limits.ts'
import { SCHEDULERS } from '../../../model/scheduler.ts'
import type { RealServer, ServerId, ServerListing, Tunnel } from '../../../model/server.ts'
import type { ServiceId, ServiceListing, ServiceRequest } from '../../../model/service.ts'
import { SOURCES } from '../../../model/source.ts'
import { jsonArray } from '../json.ts'
import {
  address,
  addressShown,
  countersAnswer,
  countersJson,
  decimal,
  port,
  portText,
  ratesAnswer,
} from './basic.ts'

const protocol = z.enum(['tcp', 'udp', 'sctp'])

const tunnel = z
  .discriminatedUnion('type', [
    z.strictObject({ type: z.literal('ipip') }),
    z.strictObject({
      type: z.literal('gue'),
      port: z.int().min(1).max(65535),
      checksum: z.enum(['none', 'csum', 'remcsum']).default('none'),
    }),
    z.strictObject({ type: z.literal('gre'), checksum: z.enum(['none', 'csum']).default('none') }),
  ])
  .meta({ id: 'Tunnel' })

const method = z.enum(['nat', 'full-nat', 'direct-routing', 'tunnel'])
const threshold = z.int().min(0).max(INT_MAX).default(0).meta({ description: 'connections, 0 = unset' })
const serverSettings = {
  method: method.default('direct-routing'),
  tunnel: tunnel.optional(),
  weight: z.int().min(0).max(INT_MAX).default(1).meta({ description: '0 drains' }),
  upperThreshold: threshold,
  lowerThreshold: threshold,
}
export const serverBody = z.strictObject(serverSettings).meta({ id: 'ServerSettings' })
export const serverEntry = z.strictObject({ address, port, ...serverSettings }).meta({ id: 'Server' })

export const serviceBody = z
  .strictObject({
    scheduler: z
      .string()
      .default('wlc')
      .meta({ description: 'rr, wrr, lc, wlc, sh, mh, ...; none = no scheduler' }),
    schedulerFlags: z.int().min(0).max(0x38).default(0).meta({ description: 'bits 0x08, 0x10, 0x20' }),
    onePacket: z.boolean().default(false),
    untracked: z.boolean().default(false).meta({ description: 'just enough tracking (ipvsadm --untracked)' }),
    persistenceTimeoutS: z
      .int()
      .min(0)
      .max(TIMEOUT_MAX_S)
      .default(0)
      .meta({ description: 'seconds, 0 = not persistent' }),
    netmask: z
      .union([
        z.string().refine((text) => parseIpv4(text) !== null, 'expected an IPv4 mask'),
        z.int().min(1).max(128),
      ])
      .optional()
      .meta({ description: 'IPv4: mask as text; IPv6: prefix length' }),
    persistenceEngine: z.string().nullable().default(null),
    servers: z.array(serverEntry).optional().meta({ description: 'exactly these; left out: as they are' }),
  })
  .meta({ id: 'ServiceSettings' })

export const addressServiceParams = z.object({ protocol, address, port: portText })
export const markServiceParams = z.object({
  family: z.enum(['4', '6']),
  mark: decimal(1, 0xffffffff),
})
export const serverParams = z.object({ server: address, serverPort: portText })
export type ServerParams = z.infer<typeof serverParams>

export const zeroBody = z
  .strictObject({
    service: z
      .union([
        z.strictObject({ protocol, address, port }),
        z.strictObject({
          fwmark: z.int().min(1).max(0xffffffff),
          family: z.union([z.literal(4), z.literal(6)]),
        }),
      ])
      .optional(),
  })
  .meta({ id: 'ZeroRequest' })

export function addressService(params: z.infer<typeof addressServiceParams>): ServiceId {
  return { kind: 'address', family: familyOf(params.address), ...params }
}

export function markService(params: z.infer<typeof markServiceParams>): ServiceId {
  return { kind: 'fwmark', mark: params.mark, family: params.family === '6' ? 6 : 4 }
}

export function zeroedService({ service }: z.infer<typeof zeroBody>): ServiceId | undefined {
  if (service === undefined) return undefined
  if ('fwmark' in service) return { kind: 'fwmark', mark: service.fwmark, family: service.family }
  return addressService(service)
}

export function serverId(known: IpAddress, number: number): ServerId {
  return { address: known, family: familyOf(known), port: number }
}

/** Null when the mask is of the other family. */
export function serviceRequest(id: ServiceId, body: z.infer<typeof serviceBody>): ServiceRequest | null {
  const { netmask } = body
  if (netmask !== undefined && (typeof netmask === 'string') !== (id.family === 4)) return null
  const text = typeof netmask === 'string' ? parseIpv4(netmask) : null
  const mask = typeof netmask === 'number' ? netmask : text === null ? undefined : ipv4ToNumber(text)
  return {
    id,
    scheduler: body.scheduler,
    schedulerFlags: body.schedulerFlags,
    onePacket: body.onePacket,
    untracked: body.untracked,
    persistenceTimeoutS: body.persistenceTimeoutS,
    netmask: mask ?? WHOLE_ADDRESS[id.family],
    persistenceEngine: body.persistenceEngine,
  }
}

export function serverRequest(id: ServerId, body: z.infer<typeof serverBody>): RealServer {
  const tunnelSettings: Tunnel = body.tunnel ?? { type: 'ipip' }
  const { method: forwarding, weight, upperThreshold, lowerThreshold } = body
  return { id, method: forwarding, tunnel: tunnelSettings, weight, upperThreshold, lowerThreshold }
}

// Answers

/** What names a service: protocol, address and port, or a firewall mark and its family. */
const serviceName = {
  protocol: protocol.optional(),
  address: addressShown.optional(),
  port: port.optional(),
  fwmark: z.int().optional(),
  family: z.union([z.literal(4), z.literal(6)]).optional(),
}
export const serviceNameAnswer = z.object(serviceName).meta({
  id: 'ServiceName',
  description: 'protocol, address and port, or fwmark and family',
})
export type ServiceName = z.infer<typeof serviceNameAnswer>

const tunnelAnswer = z
  .discriminatedUnion('type', [
    z.object({ type: z.literal('ipip') }),
    z.object({ type: z.literal('gue'), port, checksum: z.enum(['none', 'csum', 'remcsum']) }),
    z.object({ type: z.literal('gre'), checksum: z.enum(['none', 'csum']) }),
  ])
  .meta({ id: 'TunnelShown' })

/** A weight held by hand. */
export const holdAnswer = z
  .object({
    weight: z.int(),
    since: z.string(),
    until: z.string().nullable().meta({ description: 'ends by itself then' }),
    by: z.string().meta({ example: 'pointsman drain' }),
  })
  .meta({ id: 'Hold' })

export function holdJson({ weight, sinceMs, untilMs, by }: Hold): z.infer<typeof holdAnswer> {
  const until = untilMs === null ? null : new Date(untilMs).toISOString()
  return { weight, since: new Date(sinceMs).toISOString(), until, by }
}

export const serverAnswer = z
  .object({
    address: addressShown,
    port,
    method,
    tunnel: tunnelAnswer,
    weight: z.int().meta({ description: 'in force' }),
    saidWeight: z.int().meta({ description: 'as its source says it; checks and holds may change it' }),
    hold: holdAnswer.nullable(),
    upperThreshold: z.int(),
    lowerThreshold: z.int(),
    activeConns: z.int(),
    inactiveConns: z.int(),
    persistentConns: z.int(),
    counters: countersAnswer,
    rates: ratesAnswer,
  })
  .meta({ id: 'ServerShown' })

/** Whether packets meet the service as it is wanted. */
export const stateAnswer = {
  state: z
    .enum(['in force', 'waiting', 'refused'])
    .meta({ description: 'waiting: it comes by itself; refused: it does not fit' }),
  why: z.string().optional().meta({ description: 'why it is not in force' }),
}

export const serviceAnswer = z
  .object({
    ...serviceName,
    ...stateAnswer,
    source: z.enum(SOURCES).meta({ description: 'who states it: manual is commands and this API' }),
    scheduler: z.enum(SCHEDULERS),
    schedulerFlags: z.int(),
    onePacket: z.boolean(),
    untracked: z.boolean(),
    persistenceTimeoutS: z.int(),
    netmask: z.union([z.string(), z.int()]),
    persistenceEngine: z.literal('sip').nullable(),
    unsupported: z.array(z.string()).meta({ description: 'why the packet program cannot serve it' }),
    counters: countersAnswer,
    rates: ratesAnswer,
    servers: z.array(serverAnswer),
  })
  .meta({ id: 'ServiceShown' })
export const servicesAnswer = z.array(serviceAnswer)
export type ServiceShown = z.infer<typeof serviceAnswer>

export function serviceIdJson(id: ServiceId): ServiceName {
  if (id.kind === 'fwmark') return { fwmark: id.mark, family: id.family }
  return { protocol: id.protocol, address: id.address, port: id.port }
}

export function serverJson(server: ServerListing): z.infer<typeof serverAnswer> {
  const { id, hold, counters, rates, ...settings } = server
  return {
    address: id.address,
    port: id.port,
    ...settings,
    hold: hold === null ? null : holdJson(hold),
    counters: countersJson(counters),
    rates,
  }
}

/** `reasons`: what of it is not in force. Its real servers apart, which are looked at once. */
function headAndServers(service: ServiceListing, reasons: readonly string[]) {
  const { id, servers, counters, rates, netmask, state, ...settings } = service
  const head: Omit<ServiceShown, 'servers'> = {
    ...serviceIdJson(id),
    ...state,
    ...settings,
    netmask: id.family === 4 ? ipv4FromNumber(netmask) : netmask,
    unsupported: [...reasons],
    counters: countersJson(counters),
    rates,
  }
  return { head, servers }
}

export function serviceJson(service: ServiceListing, reasons: readonly string[]): ServiceShown {
  const { head, servers } = headAndServers(service, reasons)
  return { ...head, servers: servers.map(serverJson) }
}

/** The same as text, a real server at a time: there may be 100,000 of them. */
export function* servicePieces(service: ServiceListing, reasons: readonly string[]): Generator<string> {
  const { head, servers } = headAndServers(service, reasons)
  yield `${JSON.stringify(head).slice(0, -1)},"servers":`
  yield* jsonArray(servers, (server) => [JSON.stringify(serverJson(server))])
  yield '}'
}
