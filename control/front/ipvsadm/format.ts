/**
 * Listings as ipvsadm prints them; `pointsman` uses the same words.
 *
 * Widths are minimum widths: longer values push the rest of the line, nothing is cut but where a
 * function says so. Trailing blanks are part of the format.
 */

import type { IpAddress } from '../../../net/address.ts'
import { ipv4FromNumber } from '../../../net/address.ts'
import type { Protocol } from '../../../net/protocol.ts'
import type { ConnectionListing } from '../../model/connection.ts'
import type { Counters, Rates } from '../../model/counters.ts'
import { WHOLE_ADDRESS } from '../../model/limits.ts'
import type { ForwardingMethod, ServerListing, Tunnel } from '../../model/server.ts'
import type { ServiceId, ServiceListing, ServiceSettings } from '../../model/service.ts'
import type { SyncDaemon } from '../../model/sync-daemon.ts'
import type { Timeouts } from '../../model/timeouts.ts'
import type { Names } from './names.ts'
import type { ListFormat, ListStyle } from './parse.ts'

/** Version of IPVS whose behaviour is on offer; scripts look for it. */
const IPVS_VERSION = '1.2.1'

/** Bytes of `address:port` in any listing. */
const ENDPOINT_MAX = 59
/** Bytes of an IPv4 real server, and of an IPv4 service with its protocol, where columns follow. */
const SERVER_COLUMN_MAX = 28
const SERVICE_COLUMN_MAX = 33

const left = (text: string | number, width: number): string => String(text).padEnd(width)
const right = (text: string | number | bigint, width: number): string => String(text).padStart(width)

/**
 * `address:port`, with names or without. IPv6 stands in brackets.
 * @param protocol whose service names apply; null: ports stay numbers
 */
export function endpoint(
  address: IpAddress,
  port: number,
  protocol: Protocol | null,
  names: Names | null,
): string {
  const host = names?.hostName(address) ?? address
  const service = (protocol === null ? null : names?.serviceName(port, protocol)) ?? port
  const text = address.includes(':') ? `[${host}]:${service}` : `${host}:${service}`
  return text.slice(0, ENDPOINT_MAX)
}

/** Protocol whose service names a service's ports have. */
export const portProtocol = (id: ServiceId): Protocol | null => (id.kind === 'fwmark' ? null : id.protocol)

/** A mark as ipvsadm 1.31 prints it: as a signed number, although it takes only unsigned ones. */
const markText = (mark: number): string => String(mark | 0)

/** First column of a service's line: `TCP  10.0.0.1:80`, `FWM  7 IPv6`. */
function serviceText(id: ServiceId, names: Names | null): string {
  if (id.kind === 'fwmark') return `FWM  ${markText(id.mark)}${id.family === 6 ? ' IPv6' : ''}`
  const text = `${left(id.protocol.toUpperCase(), 4)} ${endpoint(id.address, id.port, id.protocol, names)}`
  return id.family === 4 ? text.slice(0, SERVICE_COLUMN_MAX) : text
}

const SERVICE_OPTIONS: Readonly<Record<Protocol, string>> = { tcp: '-t', udp: '-u', sctp: '--sctp-service' }

/** A service as an option: `-t 10.0.0.1:80`, `-f 7 -6`. */
export function serviceOption(id: ServiceId, names: Names | null): string {
  if (id.kind === 'fwmark') return `-f ${markText(id.mark)}${id.family === 6 ? ' -6' : ''}`
  return `${SERVICE_OPTIONS[id.protocol]} ${endpoint(id.address, id.port, id.protocol, names)}`
}

const FLAG_NAMES: Readonly<Record<string, readonly string[]>> = {
  sh: ['sh-fallback', 'sh-port'],
  mh: ['mh-fallback', 'mh-port'],
}
const PLAIN_FLAG_NAMES = ['flag-1', 'flag-2', 'flag-3']

/** Names of the scheduler flags that are set; a flag the scheduler has no name for is left out. */
export function flagNames(scheduler: string, flags: number): string {
  const names = FLAG_NAMES[scheduler] ?? PLAIN_FLAG_NAMES
  return names.filter((_name, i) => flags & (0x08 << i)).join(',')
}

/** The persistence mask if it is not the default, else null. */
export function maskText(family: 4 | 6, netmask: number): string | null {
  if (netmask === WHOLE_ADDRESS[family]) return null
  return family === 6 ? String(netmask) : ipv4FromNumber(netmask)
}

/** ` (sh-port) persistent 100 mask 255.255.255.0 pe sip ops untracked` */
function serviceAttributes(id: ServiceId, settings: ServiceSettings): string {
  let text = ''
  if (settings.schedulerFlags !== 0) text += ` (${flagNames(settings.scheduler, settings.schedulerFlags)})`
  if (settings.persistenceTimeoutS !== 0) {
    text += ` persistent ${settings.persistenceTimeoutS}`
    const mask = maskText(id.family, settings.netmask)
    if (mask !== null) text += ` mask ${mask}`
    if (settings.persistenceEngine !== null) text += ` pe ${settings.persistenceEngine}`
  }
  if (settings.onePacket) text += ' ops'
  if (settings.untracked) text += ' untracked'
  return text
}

/**
 * A number in a column of nine: exact, or cut to thousands, millions, ... once it has nine digits.
 * An exact one that fills the column gets a blank before it.
 */
export function largeNumber(value: bigint, exact: boolean): string {
  if (exact) {
    const digits = String(value)
    return digits.padStart(Math.max(9, digits.length + 1))
  }
  if (value < 100_000_000n) return right(value, 9)
  if (value < 1_000_000_000n) return `${right(value / 1_000n, 8)}K`
  if (value < 100_000_000_000n) return `${right(value / 1_000_000n, 8)}M`
  if (value < 100_000_000_000_000n) return `${right(value / 1_000_000_000n, 8)}G`
  return `${right(value / 1_000_000_000_000n, 8)}T`
}

const METHOD_NAMES: Readonly<Record<ForwardingMethod, string>> = {
  nat: 'Masq',
  'full-nat': 'FullNat',
  'direct-routing': 'Route',
  tunnel: 'Tunnel',
}

const CHECKSUM_SIGNS = { none: '-c', csum: '+c', remcsum: 'r+c' } as const

function tunnelText(method: ForwardingMethod, tunnel: Tunnel): string {
  if (method !== 'tunnel') return 'n/a'
  if (tunnel.type === 'ipip') return 'ipip'
  if (tunnel.type === 'gue') return `gue:${tunnel.port}:${CHECKSUM_SIGNS[tunnel.checksum]}`
  return `gre:${CHECKSUM_SIGNS[tunnel.checksum]}`
}

const SERVICE_TITLE = 'Prot LocalAddress:Port'
const SERVER_TITLE = '  -> RemoteAddress:Port'
const column = (...names: string[]): string => names.map((name) => ` ${right(name, 8)}`).join('')

const TITLES: Readonly<Record<ListFormat, readonly [string, string]>> = {
  default: [
    `${SERVICE_TITLE} Scheduler Flags`,
    `${left(SERVER_TITLE, 33)} Forward Weight ActiveConn InActConn`,
  ],
  'tun-info': [
    `${SERVICE_TITLE} Scheduler Flags`,
    `${left(SERVER_TITLE, 33)} Forward TunnelInfo    Weight ActiveConn InActConn`,
  ],
  stats: [
    left(SERVICE_TITLE, 33) + column('Conns', 'InPkts', 'OutPkts', 'InBytes', 'OutBytes'),
    SERVER_TITLE,
  ],
  rate: [left(SERVICE_TITLE, 33) + column('CPS', 'InPPS', 'OutPPS', 'InBPS', 'OutBPS'), SERVER_TITLE],
  thresholds: [`${left(SERVICE_TITLE, 33)} Uthreshold Lthreshold ActiveConn InActConn `, SERVER_TITLE],
  'persistent-conn': [
    `${left(SERVICE_TITLE, 33)} ${left('Weight', 9)} PersistConn ActiveConn InActConn `,
    SERVER_TITLE,
  ],
}

export function listTitles(format: ListFormat): string {
  return `${TITLES[format].join('\n')}\n`
}

/** The line above a listing of everything. */
export function versionLine(connectionTableSize: number): string {
  return `IP Virtual Server version ${IPVS_VERSION} (size=${connectionTableSize})\n`
}

function counterColumns(counters: Counters, exact: boolean): string {
  return (
    largeNumber(counters.conns, exact) +
    largeNumber(counters.inPackets, exact) +
    largeNumber(counters.outPackets, exact) +
    largeNumber(counters.inBytes, exact) +
    largeNumber(counters.outBytes, exact)
  )
}

const whole = (rate: number): bigint => BigInt(Math.trunc(rate))

function serviceRateColumns(rates: Rates, exact: boolean): string {
  return [rates.cps, rates.inPps, rates.outPps, rates.inBps, rates.outBps]
    .map((rate) => largeNumber(whole(rate), exact))
    .join('')
}

/** A real server's connections and packets per second are never abbreviated, its bytes are. */
function serverRateColumns(rates: Rates, exact: boolean): string {
  return (
    [rates.cps, rates.inPps, rates.outPps].map((rate) => ` ${right(whole(rate), 8)}`).join('') +
    largeNumber(whole(rates.inBps), exact) +
    largeNumber(whole(rates.outBps), exact)
  )
}

/** A service's own line. `names` null: numbers only. */
export function serviceLine(service: ServiceListing, style: ListStyle, names: Names | null): string {
  const text = serviceText(service.id, names)
  switch (style.format) {
    case 'stats':
      return `${left(text, 33)}${counterColumns(service.counters, style.exact)}\n`
    case 'rate':
      return `${left(text, 33)}${serviceRateColumns(service.rates, style.exact)}\n`
    default:
      return `${text} ${service.scheduler}${serviceAttributes(service.id, service)}\n`
  }
}

/** A real server's line. */
export function serverLine(
  server: ServerListing,
  service: ServiceId,
  style: ListStyle,
  names: Names | null,
): string {
  let text = endpoint(server.id.address, server.id.port, portProtocol(service), names)
  if (server.id.family === 4) text = text.slice(0, SERVER_COLUMN_MAX)
  return `  -> ${left(text, 28)}${serverColumns(server, style)}\n`
}

function serverColumns(server: ServerListing, style: ListStyle): string {
  const active = left(server.activeConns, 10)
  const inactive = left(server.inactiveConns, 10)
  const method = left(METHOD_NAMES[server.method], 7)
  switch (style.format) {
    case 'stats':
      return counterColumns(server.counters, style.exact)
    case 'rate':
      return serverRateColumns(server.rates, style.exact)
    case 'thresholds':
      return ` ${left(server.upperThreshold, 10)} ${left(server.lowerThreshold, 10)} ${active} ${inactive}`
    case 'persistent-conn':
      return ` ${left(server.weight, 9)} ${left(server.persistentConns, 11)} ${active} ${inactive}`
    case 'tun-info':
      return ` ${method} ${left(tunnelText(server.method, server.tunnel), 13)} ${left(server.weight, 6)} ${active} ${inactive}`
    case 'default':
      return ` ${method} ${left(server.weight, 6)} ${active} ${inactive}`
    default:
      return style.format satisfies never
  }
}

/** Seconds as `MM:SS`; minutes are not cut to hours. */
export function expiry(remainingMs: number): string {
  const seconds = Math.max(0, Math.trunc(remainingMs / 1000))
  return `${String(Math.trunc(seconds / 60)).padStart(2, '0')}:${String(seconds % 60).padStart(2, '0')}`
}

export function connectionTitles(style: ListStyle): string {
  const tail = style.persistentConn
    ? `${left('destination', 18)} ${left('pe name', 16)} pe_data`
    : 'destination'
  return `IPVS connection entries\npro expire ${left('state', 11)} ${left('source', 18)} ${left('virtual', 18)} ${tail}\n`
}

export function connectionLine(connection: ConnectionListing, style: ListStyle, names: Names | null): string {
  const protocol = connection.protocol === 'ip' ? null : connection.protocol
  const source = endpoint(connection.client, connection.clientPort, protocol, names)
  const virtual = endpoint(connection.virtual, connection.virtualPort, protocol, names)
  const destination = endpoint(connection.destination, connection.destinationPort, protocol, names)
  const head = `${left(connection.protocol.toUpperCase(), 3)} ${left(expiry(connection.remainingMs), 6)} ${left(connection.state, 11)} ${left(source, 18)} ${left(virtual, 18)}`
  if (!style.persistentConn || connection.engine === null) return `${head} ${destination}\n`
  return `${head} ${left(destination, 16)} ${left(connection.engine.name, 18)} ${connection.engine.data}\n`
}

export function timeoutLine(timeouts: Timeouts): string {
  return `Timeout (tcp tcpfin udp): ${timeouts.tcp} ${timeouts.tcpFin} ${timeouts.udp}\n`
}

export function daemonLine(daemon: SyncDaemon): string {
  return `${daemon.state} sync daemon (mcast=${daemon.interface}, syncid=${daemon.syncId}, maxlen=${daemon.maxLength}, group=${daemon.group}, port=${daemon.port}, ttl=${daemon.ttl})\n`
}
