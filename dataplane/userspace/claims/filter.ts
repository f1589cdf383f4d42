/**
 * Whether the kernel has dropped a frame because of our claims: the same question the nftables rules
 * answer, asked of frames that the program passes. Looks at a frame as nftables does: no packets with senseless
 * lengths, and of fragments at their addresses alone.
 */
import { addressToBytes } from '../../../net/address.ts'
import { PROTOCOL_NUMBERS, protocolOfNumber } from '../../../net/protocol.ts'
import { SpanFilter } from './span-filter.ts'
import { type ClaimChange, type EndClaim, ERROR_TYPES } from './tracker.ts'

const ETHERTYPE_IPV4 = 0x0800
const ETHERTYPE_IPV6 = 0x86dd
const ETHERNET = 14
const ICMP = 1
const ICMPV6 = 58
/** IPv6 extension headers a transport header may hide behind (RFC 8200 §4.1). */
const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT = 44
const DESTINATION = 60
/** As many as anyone sends; more is no packet of ours. */
const EXTENSIONS_MAX = 8

/** Where the fields of the quoted packet are, from the ICMP header on. */
export const QUOTED = {
  4: { protocol: 8 + 9, source: 8 + 12, destination: 8 + 16, ports: 8 + 20 },
  6: { protocol: 8 + 6, source: 8 + 8, destination: 8 + 24, ports: 8 + 40 },
} as const
/** No claim is on it, nor on all ports. */
const NO_PORT = -1

/** Ports by address. A port's number is protocol << 16 | port; port 0 stands for all, ANY_PIECE for fragments. */
type Ports = Map<number | string, Set<number>>
const ANY_PIECE = 1 << 24

export class ClaimFilter {
  readonly #to: Ports = new Map()
  readonly #from: Ports = new Map()
  readonly #spans = new SpanFilter()

  apply(change: ClaimChange): void {
    for (const claim of change.removed) {
      if (claim.of === 'spans') {
        this.#spans.delete(claim)
        continue
      }
      const table = this.#table(claim)
      const ports = table.get(addressKey(claim))
      ports?.delete(portNumber(claim))
      if (ports?.size === 0) table.delete(addressKey(claim))
    }
    for (const claim of change.added) {
      if (claim.of === 'spans') {
        this.#spans.add(claim)
        continue
      }
      const table = this.#table(claim)
      const key = addressKey(claim)
      const ports = table.get(key) ?? new Set()
      ports.add(portNumber(claim))
      table.set(key, ports)
    }
  }

  #table(claim: EndClaim): Ports {
    return claim.side === 'to' ? this.#to : this.#from
  }

  /** `length` bytes of Ethernet frame at `start`. */
  matches(bytes: Uint8Array, start: number, length: number): boolean {
    if (length < ETHERNET + 20) return false
    const type = be16(bytes, start + 12)
    if (type === ETHERTYPE_IPV4) return this.#ipv4(bytes, start + ETHERNET, length - ETHERNET)
    return type === ETHERTYPE_IPV6 && this.#ipv6(bytes, start + ETHERNET, length - ETHERNET)
  }

  #ipv4(bytes: Uint8Array, ip: number, room: number): boolean {
    const header = (bytes[ip]! & 15) * 4
    const total = be16(bytes, ip + 2)
    if (bytes[ip]! >> 4 !== 4 || header < 20 || total < header || total > room) return false
    const protocol = bytes[ip + 9]!
    if ((be16(bytes, ip + 6) & 0x3fff) !== 0) {
      return (
        hasPieces(this.#to.get(word(bytes, ip + 16)), protocol) ||
        hasPieces(this.#from.get(word(bytes, ip + 12)), protocol) ||
        this.#spans.hasPieces(4, protocol, bytes, ip + 16)
      )
    }
    if (protocol === ICMP) return this.#quotes(bytes, ip + header, ip + room, 4)
    if (protocolOfNumber(protocol) === null || header + 4 > room) return false
    const ports = ip + header
    return (
      hit(this.#to.get(word(bytes, ip + 16)), protocol, be16(bytes, ports + 2)) ||
      hit(this.#from.get(word(bytes, ip + 12)), protocol, be16(bytes, ports)) ||
      this.#spans.has(4, protocol, bytes, ip + 16, be16(bytes, ports + 2))
    )
  }

  #ipv6(bytes: Uint8Array, ip: number, room: number): boolean {
    if (room < 40 || bytes[ip]! >> 4 !== 6 || be16(bytes, ip + 4) + 40 > room) return false
    let next = bytes[ip + 6]!
    let at = 40
    let isPiece = false
    for (let i = 0; isExtension(next); i++) {
      if (i === EXTENSIONS_MAX || at + 8 > room) return false
      const header = ip + at
      const isFragment = next === FRAGMENT
      next = bytes[header]!
      at += isFragment ? 8 : (bytes[header + 1]! + 1) * 8
      isPiece ||= isFragment
      // Behind it is payload, and no header.
      if (isFragment && (be16(bytes, header + 2) & 0xfff8) !== 0) break
    }
    if (isPiece) {
      return (
        hasPieces(this.#to.get(words(bytes, ip + 24)), next) ||
        hasPieces(this.#from.get(words(bytes, ip + 8)), next) ||
        this.#spans.hasPieces(6, next, bytes, ip + 24)
      )
    }
    if (next === ICMPV6) return this.#quotes(bytes, ip + at, ip + room, 6)
    if (protocolOfNumber(next) === null || at + 4 > room) return false
    const ports = ip + at
    return (
      hit(this.#to.get(words(bytes, ip + 24)), next, be16(bytes, ports + 2)) ||
      hit(this.#from.get(words(bytes, ip + 8)), next, be16(bytes, ports)) ||
      this.#spans.has(6, next, bytes, ip + 24, be16(bytes, ports + 2))
    )
  }

  /**
   * Whether the ICMP message at `icmp` quotes a packet of a claim. The quoted one is taken to have no
   * options or extension headers, as the rules of nftables do: the rest stays the kernel's.
   */
  #quotes(bytes: Uint8Array, icmp: number, end: number, family: 4 | 6): boolean {
    const { protocol, source, destination, ports } = QUOTED[family]
    if (icmp >= end || !(ERROR_TYPES[family] as readonly number[]).includes(bytes[icmp]!)) return false
    if (icmp + ports > end) return false
    const named = bytes[icmp + protocol]!
    const key = family === 4 ? word : words
    const port = (at: number) => (icmp + at + 2 <= end ? be16(bytes, icmp + at) : NO_PORT)
    return (
      hit(this.#to.get(key(bytes, icmp + source)), named, port(ports)) ||
      hit(this.#from.get(key(bytes, icmp + destination)), named, port(ports + 2)) ||
      this.#spans.has(family, named, bytes, icmp + source, port(ports))
    )
  }
}

function isExtension(header: number): boolean {
  return header === HOP_BY_HOP || header === ROUTING || header === DESTINATION || header === FRAGMENT
}

function hasPieces(ports: Set<number> | undefined, protocol: number): boolean {
  return ports?.has(ANY_PIECE | (protocol << 16)) === true
}

function hit(ports: Set<number> | undefined, protocol: number, port: number): boolean {
  return ports !== undefined && (ports.has((protocol << 16) | port) || ports.has(protocol << 16))
}

function addressKey(claim: EndClaim): number | string {
  const bytes = addressToBytes(claim.address)
  return claim.family === 4 ? word(bytes, 0) : words(bytes, 0)
}

function portNumber(claim: EndClaim): number {
  const number = (PROTOCOL_NUMBERS[claim.protocol] << 16) | claim.port
  return claim.of === 'fragments' ? number | ANY_PIECE : number
}

function be16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

function word(bytes: Uint8Array, at: number): number {
  return (be16(bytes, at) << 16) | be16(bytes, at + 2)
}

function words(bytes: Uint8Array, at: number): string {
  return `${word(bytes, at)} ${word(bytes, at + 4)} ${word(bytes, at + 8)} ${word(bytes, at + 12)}`
}
