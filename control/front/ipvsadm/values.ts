/**
 * Values on the command line: numbers as strtol(3) reads them, addresses, ports, masks, marks, flags.
 *
 * All functions are pure but for the names they ask for. Text is a string of bytes (latin1): nothing on
 * an ipvsadm command line is decoded, so that messages quote exactly what was typed.
 */

import type { Family, IpAddress } from '../../../net/address.ts'
import { parseClassicIpv4, parseIpv4, parseIpv6 } from '../../../net/address.ts'
import type { Protocol } from '../../../net/protocol.ts'
import { DEFAULT_SCHEDULER, FLAGS_BYTES_MAX, SCHEDULER_FLAGS } from './grammar.ts'
import type { Names } from './names.ts'

const DECIMAL = /^[ \t\n\v\f\r]*([+-]?)([0-9]+)(.*)$/s
const SHORT_DIGITS = /^[0-9]+$/
const DIGITS_ONLY = /^[0-9]*$/

/**
 * A decimal number with nothing after it, within limits; blanks and a sign before it are fine.
 * @returns null if it is not one
 */
export function parseNumber(text: string, min: number, max: number): number | null {
  if (text.length <= 10 && SHORT_DIGITS.test(text)) {
    const value = Number(text)
    return value >= min && value <= max ? value : null
  }
  const match = DECIMAL.exec(text)
  if (match === null || match[3] !== '') return null
  const value = Number(match[2]!) * (match[1] === '-' ? -1 : 1)
  return value >= min && value <= max ? value + 0 : null
}

/** atoi(3): what strtol reads at the front, cut to 32 bits; 0 if there is no number. */
function parseLeadingInt(text: string): number {
  const match = DECIMAL.exec(text)
  if (match === null) return 0
  const limit = match[1] === '-' ? -(1n << 63n) : (1n << 63n) - 1n
  const value = BigInt(match[2]!) * (match[1] === '-' ? -1n : 1n)
  const clamped = match[1] === '-' ? (value < limit ? limit : value) : value > limit ? limit : value
  return Number(BigInt.asIntN(32, clamped))
}

export interface Endpoint {
  readonly address: IpAddress
  readonly family: Family
  /** null: none was typed. */
  readonly port: number | null
}

/**
 * `host`, `host:port`, `[host]:port` or a bare IPv6 literal.
 *
 * The rules are ipvsadm's, oddities included: digits alone are no host; brackets need a port, but only an
 * IPv6 literal takes it; a host name means its first IPv4 address.
 *
 * @param protocol in whose services a port's name is looked up; null knows no names
 * @returns null if it is none of these, or names something unknown
 */
export function parseEndpoint(text: string, protocol: Protocol | null, names: Names): Endpoint | null {
  if (DIGITS_ONLY.test(text)) return null
  let host = text
  let portText: string | null = null
  if (text.startsWith('[')) {
    const close = text.indexOf(']')
    if (close < 0 || text[close + 1] !== ':') return null
    host = text.slice(1, close)
    portText = text.slice(close + 2)
  }
  // Only a colon can make it an IPv6 literal; most text has at most one.
  const literal = host.indexOf(':') === host.lastIndexOf(':') ? null : parseIpv6(host)
  let address: IpAddress | null = literal
  if (literal === null) {
    const colon = host.lastIndexOf(':')
    portText = colon < 0 ? null : host.slice(colon + 1)
    address = hostAddress(colon < 0 ? host : host.slice(0, colon), names)
    if (address === null) return null
  }
  const family = literal === null ? 4 : 6
  if (portText === null) return { address: address!, family, port: null }
  const port =
    parseNumber(portText, 0, 65535) ?? (protocol === null ? null : names.servicePort(portText, protocol))
  return port === null ? null : { address: address!, family, port }
}

function hostAddress(host: string, names: Names): IpAddress | null {
  return parseIpv4(host) ?? parseClassicIpv4(host) ?? names.hostAddress(host)
}

/** A persistence mask: IPv4 in an address's clothes, as inet_aton(3) reads it; null if it is none. */
export function parseMask(text: string): IpAddress | null {
  return parseIpv4(text) ?? parseClassicIpv4(text)
}

/** An IPv6 prefix length, 1 to 128; what follows the number is ignored, as atoi(3) does. */
export function parsePrefix(text: string): number | null {
  const value = parseLeadingInt(text)
  return value >= 1 && value <= 128 ? value : null
}

/** Scheduler flags: bits, or the message that refuses them. */
export function parseSchedulerFlags(text: string, scheduler: string): number | { readonly error: string } {
  let bits = 0
  const words = text.slice(0, FLAGS_BYTES_MAX)
  if (words === '') return 0
  const flags = words.split(',').filter((word) => word !== '')
  // The original crashes on commas alone; refuse them.
  if (flags.length === 0) return { error: `invalid scheduler flag \`${words}'` }
  for (const word of flags) {
    const flag = Object.hasOwn(SCHEDULER_FLAGS, word) ? SCHEDULER_FLAGS[word]! : undefined
    if (flag === undefined) return { error: `invalid scheduler flag \`${word}'` }
    if (flag.scheduler !== undefined && flag.scheduler !== (scheduler || DEFAULT_SCHEDULER)) {
      return { error: `incompatible scheduler flag \`${word}'` }
    }
    bits |= flag.bit
  }
  return bits
}
