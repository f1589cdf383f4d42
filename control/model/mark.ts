/**
 * Marking rules: which firewall mark a packet has. Netfilter's marks come after XDP, so these are our own.
 * The most specific rule wins: longer destination, longer source, a protocol, an interface, fewer ports.
 */
import type { Family } from '../../net/address.ts'
import { type Prefix, prefixText } from '../../net/prefix.ts'
import { PROTOCOL_NUMBERS, type Protocol } from '../../net/protocol.ts'
import type { SourceName } from './source.ts'

export interface PortRange {
  /** Both included. */
  readonly from: number
  readonly to: number
}

/** What a rule does not look at is null. */
export interface MarkMatch {
  readonly family: Family
  readonly source: Prefix | null
  readonly destination: Prefix | null
  readonly protocol: Protocol | null
  /** Of the destination. */
  readonly ports: PortRange | null
  /** By which the packet comes in. */
  readonly interface: string | null
}

export interface MarkRule extends MarkMatch {
  /** 1 to 2^32 - 1. */
  readonly mark: number
}

export interface MarkListing extends MarkRule {
  /** Who states it. */
  readonly owner: SourceName
}

export const ALL_PORTS: PortRange = { from: 0, to: 65535 }

/** Equal for rules about the same packets. */
export function matchKey(rule: MarkMatch): string {
  return `ipv${rule.family}${matchText(rule)}`
}

function portsText({ from, to }: PortRange): string {
  return from === to ? String(from) : `${from}-${to}`
}

/** The options of `pointsman mark add`, each with a blank before it. */
function matchText({ source, destination, protocol, ports, interface: name }: MarkMatch): string {
  const words = [
    destination === null ? '' : ` --to ${prefixText(destination)}`,
    source === null ? '' : ` --from ${prefixText(source)}`,
    protocol === null ? '' : ` --protocol ${protocol}`,
    ports === null ? '' : ` --port ${portsText(ports)}`,
    name === null ? '' : ` --interface ${name}`,
  ]
  return words.join('')
}

/** As `pointsman mark add` takes it: `7 --to 192.0.2.0/24 --protocol tcp --port 80`. */
export function markText(rule: MarkRule): string {
  const family = rule.source === null && rule.destination === null ? ` --family ${rule.family}` : ''
  return `${rule.mark}${family}${matchText(rule)}`
}

/** What a kind of rules looks at, the length of a missing prefix being 0. */
export interface MarkKind {
  readonly family: Family
  readonly destination: number
  readonly source: number
  readonly protocol: boolean
  readonly interface: boolean
}

export function kindOf(rule: MarkMatch): MarkKind {
  return {
    family: rule.family,
    destination: rule.destination?.length ?? 0,
    source: rule.source?.length ?? 0,
    protocol: rule.protocol !== null,
    interface: rule.interface !== null,
  }
}

export function kindKey({ family, destination, source, protocol, interface: name }: MarkKind): string {
  return `${family} ${destination} ${source} ${protocol ? 1 : 0} ${name ? 1 : 0}`
}

/** The more specific one first. */
export function compareKinds(a: MarkKind, b: MarkKind): number {
  return (
    b.destination - a.destination ||
    b.source - a.source ||
    Number(b.protocol) - Number(a.protocol) ||
    Number(b.interface) - Number(a.interface)
  )
}

function width({ from, to }: PortRange): number {
  return to - from
}

/** The fewer ports first, then the lower ones. */
export function comparePorts(a: PortRange, b: PortRange): number {
  return width(a) - width(b) || a.from - b.from
}

/** The one that a packet gets its mark from, if both match, first; also an order for lists. */
export function compareMatches(a: MarkMatch, b: MarkMatch): number {
  return (
    a.family - b.family ||
    compareKinds(kindOf(a), kindOf(b)) ||
    comparePorts(a.ports ?? ALL_PORTS, b.ports ?? ALL_PORTS) ||
    compareText(matchText(a), matchText(b))
  )
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

export function protocolNumber(protocol: Protocol | null): number {
  return protocol === null ? 0 : PROTOCOL_NUMBERS[protocol]
}

/** A change of marking rules: all of it, or nothing. */
export interface MarkChange {
  readonly add: readonly MarkRule[]
  readonly delete: readonly MarkRule[]
  /** All that commands state; a number: those of this mark. */
  readonly flush: boolean | number
}
