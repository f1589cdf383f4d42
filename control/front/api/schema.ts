/**
 * What crosses the API: requests as zod schemas (the only validation there is; the OpenAPI document is
 * made from them), answers as plain JSON. 64-bit counters are JSON numbers, exact below 2^53.
 */
import { z } from 'zod'
import type { IpAddress } from '../../../net/address.ts'
import { familyOf, ipv4FromNumber, ipv4ToNumber, parseAddress, parseIpv4 } from '../../../net/address.ts'
import type { ConnectionListing } from '../../model/connection.ts'
import type { Counters } from '../../model/counters.ts'
import type { RealServer, ServerId, ServerListing, Tunnel } from '../../model/server.ts'
import type { ServiceId, ServiceListing, ServiceRequest } from '../../model/service.ts'
import type { SyncDaemon } from '../../model/sync-daemon.ts'
import { INT_MAX } from '../../rules/rules.ts'

const port = z.int().min(0).max(65535)
/** An address as text; strict (no leading zeros, no brackets). */
export const addressText = z
  .string()
  .refine((text) => parseAddress(text) !== null, 'expected an IPv4 or IPv6 address')
  .meta({ description: 'IPv4 or IPv6 address', example: '192.0.2.10' })

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

const serverSettings = {
  method: z.enum(['nat', 'direct-routing', 'tunnel']).default('direct-routing'),
  tunnel: tunnel.optional(),
  weight: z.int().min(0).max(INT_MAX).default(1).meta({ description: '0 drains' }),
  upperThreshold: z.int().min(0).max(INT_MAX).default(0).meta({ description: 'connections, 0 = unset' }),
  lowerThreshold: z.int().min(0).max(INT_MAX).default(0).meta({ description: 'connections, 0 = unset' }),
}
export const serverBody = z.strictObject(serverSettings).meta({ id: 'ServerSettings' })
export const serverEntry = z
  .strictObject({ address: addressText, port, ...serverSettings })
  .meta({ id: 'Server' })

export const serviceBody = z
  .strictObject({
    scheduler: z
      .string()
      .default('wlc')
      .meta({ description: 'rr, wrr, lc, wlc, sh, mh, ...; none = no scheduler' }),
    schedulerFlags: z.int().min(0).max(0x38).default(0).meta({ description: 'bits 0x08, 0x10, 0x20' }),
    onePacket: z.boolean().default(false),
    persistenceTimeoutS: z
      .int()
      .min(0)
      .max(2678400)
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

const decimal = z.string().regex(/^\d{1,10}$/, 'expected a decimal number')
const portText = decimal.refine((text) => Number(text) <= 65535, 'expected 0 to 65535')
export const addressServiceParams = z.object({
  protocol: z.enum(['tcp', 'udp', 'sctp']),
  address: addressText,
  port: portText,
})
export const markServiceParams = z.object({
  family: z.enum(['4', '6']),
  mark: decimal.refine((text) => Number(text) >= 1 && Number(text) <= 0xffffffff, 'expected 1 to 4294967295'),
})
export const serverParams = { server: addressText, serverPort: portText }

export const timeoutsBody = z
  .strictObject({
    tcp: z.int().min(0).max(2678400),
    tcpFin: z.int().min(0).max(2678400),
    udp: z.int().min(0).max(2678400),
  })
  .partial()
  .meta({ id: 'Timeouts', description: 'seconds; 0 or left out keeps a value' })

export const sysctlBody = z.strictObject({ value: z.int() }).meta({ id: 'SysctlValue' })

export const daemonBody = z
  .strictObject({
    interface: z.string().min(1).max(15),
    syncId: z.int().min(0).max(255).default(0),
    maxLength: z.int().min(1).max(65507).optional(),
    group: addressText.optional(),
    port: z.int().min(1).max(65535).optional(),
    ttl: z.int().min(1).max(255).optional(),
  })
  .meta({ id: 'SyncDaemonSettings' })

export const dataplaneBody = z
  .strictObject({ kind: z.enum(['xdp', 'userspace']) })
  .meta({ id: 'DataplaneKind' })

export const zeroBody = z
  .strictObject({
    service: z
      .union([
        z.strictObject({ protocol: z.enum(['tcp', 'udp', 'sctp']), address: addressText, port }),
        z.strictObject({
          fwmark: z.int().min(1).max(0xffffffff),
          family: z.union([z.literal(4), z.literal(6)]),
        }),
      ])
      .optional(),
  })
  .meta({ id: 'ZeroRequest' })

/** A checked address: the schemas above have refused everything else. */
function address(text: string): IpAddress {
  const parsed = parseAddress(text)
  if (parsed === null) throw new TypeError(`Not an address: "${text}"`)
  return parsed
}

export function addressService(params: z.infer<typeof addressServiceParams>): ServiceId {
  const parsed = address(params.address)
  return {
    kind: 'address',
    protocol: params.protocol,
    address: parsed,
    family: familyOf(parsed),
    port: Number(params.port),
  }
}

export function markService(params: z.infer<typeof markServiceParams>): ServiceId {
  return { kind: 'fwmark', mark: Number(params.mark), family: params.family === '6' ? 6 : 4 }
}

export function zeroedService(body: z.infer<typeof zeroBody>): ServiceId | undefined {
  const { service } = body
  if (service === undefined) return undefined
  if ('fwmark' in service) return { kind: 'fwmark', mark: service.fwmark, family: service.family }
  return addressService({ ...service, port: String(service.port) })
}

export function serverId(text: string, port: number): ServerId {
  const parsed = address(text)
  return { address: parsed, family: familyOf(parsed), port }
}

/** Null when the mask is of the other family. */
export function serviceRequest(id: ServiceId, body: z.infer<typeof serviceBody>): ServiceRequest | null {
  const { netmask } = body
  if (netmask !== undefined && (typeof netmask === 'string') !== (id.family === 4)) return null
  const mask = typeof netmask === 'string' ? ipv4ToNumber(address(netmask)) : netmask
  return {
    id,
    scheduler: body.scheduler,
    schedulerFlags: body.schedulerFlags,
    onePacket: body.onePacket,
    persistenceTimeoutS: body.persistenceTimeoutS,
    netmask: mask ?? (id.family === 4 ? 0xffffffff : 128),
    persistenceEngine: body.persistenceEngine,
  }
}

export function serverRequest(id: ServerId, body: z.infer<typeof serverBody>): RealServer {
  const tunnelSettings: Tunnel = body.tunnel ?? { type: 'ipip' }
  const { method, weight, upperThreshold, lowerThreshold } = body
  return { id, method, tunnel: tunnelSettings, weight, upperThreshold, lowerThreshold }
}

// Answers

export function countersJson(counters: Counters): Record<keyof Counters, number> {
  return {
    conns: Number(counters.conns),
    inPackets: Number(counters.inPackets),
    outPackets: Number(counters.outPackets),
    inBytes: Number(counters.inBytes),
    outBytes: Number(counters.outBytes),
  }
}

export function serviceIdJson(id: ServiceId): object {
  if (id.kind === 'fwmark') return { fwmark: id.mark, family: id.family }
  return { protocol: id.protocol, address: id.address, port: id.port }
}

export function serverJson(server: ServerListing): object {
  const { id, counters, rates, ...settings } = server
  return { address: id.address, port: id.port, ...settings, counters: countersJson(counters), rates }
}

/** @param reasons why the packet program cannot serve it */
export function serviceJson(service: ServiceListing, reasons: readonly string[]): object {
  const { id, servers, counters, rates, netmask, ...settings } = service
  return {
    ...serviceIdJson(id),
    ...settings,
    netmask: id.family === 4 ? ipv4FromNumber(netmask) : netmask,
    unsupported: reasons,
    counters: countersJson(counters),
    rates,
    servers: servers.map(serverJson),
  }
}

export function connectionJson(connection: ConnectionListing): object {
  const { remainingMs, ...rest } = connection
  return { ...rest, remainingMs: Math.round(remainingMs) }
}

export function daemonJson(daemon: SyncDaemon): object {
  return daemon
}
