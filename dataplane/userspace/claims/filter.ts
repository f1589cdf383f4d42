/**
 * Whether the kernel has dropped a frame because of our claims: the same question the nftables rules
 * answer, asked of frames that the program passes. Looks at a frame as nftables does: no fragments, no
 * packets with senseless lengths.
 */
import { addressToBytes } from '../../../net/address.ts'
import type { ClaimChange, FlowClaim } from './tracker.ts'

const ETHERTYPE_IPV4 = 0x0800
const ETHERTYPE_IPV6 = 0x86dd
const ETHERNET = 14
const TCP = 6
const UDP = 17
const ICMP = 1
const ICMPV6 = 58
/** IPv6 extension headers a transport header may hide behind (RFC 8200 §4.1); a fragment ends the search. */
const HOP_BY_HOP = 0
const ROUTING = 43
const DESTINATION = 60
/** As many as anyone sends; more is no packet of ours. */
const EXTENSIONS_MAX = 8

/** Ports by address; port 0 stands for all. A port's number is protocol << 16 | port. */
type Ports = Map<number | string, Set<number>>

export class ClaimFilter {
  readonly #to: Ports = new Map()
  readonly #from: Ports = new Map()
  readonly #errors = { 4: new Set<number>(), 6: new Set<number>() }

  apply(change: ClaimChange): void {
    for (const claim of change.removed) {
      if (claim.side === 'error') {
        this.#errors[claim.family].delete(claim.type)
        continue
      }
      const table = this.#table(claim)
      const ports = table.get(addressKey(claim))
      ports?.delete(portNumber(claim))
      if (ports?.size === 0) table.delete(addressKey(claim))
    }
    for (const claim of change.added) {
      if (claim.side === 'error') {
        this.#errors[claim.family].add(claim.type)
        continue
      }
      const table = this.#table(claim)
      const key = addressKey(claim)
      const ports = table.get(key) ?? new Set()
      ports.add(portNumber(claim))
      table.set(key, ports)
    }
  }

  #table(claim: FlowClaim): Ports {
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
    if ((be16(bytes, ip + 6) & 0x3fff) !== 0) return false
    const protocol = bytes[ip + 9]!
    if (protocol === ICMP) return header < room && this.#errors[4].has(bytes[ip + header]!)
    if ((protocol !== TCP && protocol !== UDP) || header + 4 > room) return false
    const ports = ip + header
    return (
      hit(this.#to.get(word(bytes, ip + 16)), protocol, be16(bytes, ports + 2)) ||
      hit(this.#from.get(word(bytes, ip + 12)), protocol, be16(bytes, ports))
    )
  }

  #ipv6(bytes: Uint8Array, ip: number, room: number): boolean {
    if (room < 40 || bytes[ip]! >> 4 !== 6 || be16(bytes, ip + 4) + 40 > room) return false
    let next = bytes[ip + 6]!
    let at = 40
    for (let i = 0; next === HOP_BY_HOP || next === ROUTING || next === DESTINATION; i++) {
      if (i === EXTENSIONS_MAX || at + 8 > room) return false
      next = bytes[ip + at]!
      at += (bytes[ip + at + 1]! + 1) * 8
    }
    if (next === ICMPV6) return at < room && this.#errors[6].has(bytes[ip + at]!)
    if ((next !== TCP && next !== UDP) || at + 4 > room) return false
    const ports = ip + at
    return (
      hit(this.#to.get(words(bytes, ip + 24)), next, be16(bytes, ports + 2)) ||
      hit(this.#from.get(words(bytes, ip + 8)), next, be16(bytes, ports))
    )
  }
}

function hit(ports: Set<number> | undefined, protocol: number, port: number): boolean {
  return ports !== undefined && (ports.has((protocol << 16) | port) || ports.has(protocol << 16))
}

function addressKey(claim: FlowClaim): number | string {
  const bytes = addressToBytes(claim.address)
  return claim.family === 4 ? word(bytes, 0) : words(bytes, 0)
}

function portNumber(claim: FlowClaim): number {
  return ((claim.protocol === 'tcp' ? TCP : UDP) << 16) | claim.port
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
