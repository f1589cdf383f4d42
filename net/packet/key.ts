/** What tells one conversation from others in a frame: the outermost IP header's ends, and their ports. */
import { be16 } from './bytes.ts'
import { ETHERTYPE, PROTOCOL } from './numbers.ts'

export interface PacketKey {
  readonly family: 4 | 6
  readonly protocol: number
  readonly source: Uint8Array
  readonly destination: Uint8Array
  /** Both are null where the protocol has none, or a fragment does not show them. */
  readonly sourcePort: number | null
  readonly destinationPort: number | null
  /** Of TCP; 0 otherwise. */
  readonly flags: number
}

const WITH_PORTS: ReadonlySet<number> = new Set([PROTOCOL.tcp, PROTOCOL.udp, PROTOCOL.sctp])
const EXTENSIONS: ReadonlySet<number> = new Set([PROTOCOL.hopByHop, PROTOCOL.routing, PROTOCOL.destination])

/** null: it is no IP packet, or cut short. */
export function keyOf(frame: Uint8Array): PacketKey | null {
  let at = 12
  let type = be16(frame, at)
  while ((type === ETHERTYPE.vlan || type === ETHERTYPE.qinq) && at + 6 <= frame.length) {
    at += 4
    type = be16(frame, at)
  }
  at += 2
  if (type === ETHERTYPE.ipv4) return ipv4Key(frame, at)
  return type === ETHERTYPE.ipv6 ? ipv6Key(frame, at) : null
}

function ipv4Key(frame: Uint8Array, at: number): PacketKey | null {
  const length = (frame[at] ?? 0) & 15
  if (at + 20 > frame.length || length < 5) return null
  const isFirst = (be16(frame, at + 6) & 0x1fff) === 0
  const addresses = { source: frame.slice(at + 12, at + 16), destination: frame.slice(at + 16, at + 20) }
  return withPorts(4, frame[at + 9]!, addresses, frame, isFirst ? at + length * 4 : null)
}

function ipv6Key(frame: Uint8Array, at: number): PacketKey | null {
  if (at + 40 > frame.length) return null
  const addresses = { source: frame.slice(at + 8, at + 24), destination: frame.slice(at + 24, at + 40) }
  let protocol = frame[at + 6]!
  let place: number | null = at + 40
  while (place !== null && place + 8 <= frame.length) {
    if (EXTENSIONS.has(protocol)) {
      protocol = frame[place]!
      place += (frame[place + 1]! + 1) * 8
    } else if (protocol === PROTOCOL.fragment) {
      const isFirst: boolean = (be16(frame, place + 2) & ~7) === 0
      protocol = frame[place]!
      place = isFirst ? place + 8 : null
    } else break
  }
  return withPorts(6, protocol, addresses, frame, place)
}

function withPorts(
  family: 4 | 6,
  protocol: number,
  addresses: { readonly source: Uint8Array; readonly destination: Uint8Array },
  frame: Uint8Array,
  at: number | null,
): PacketKey {
  const has = at !== null && WITH_PORTS.has(protocol) && at + 4 <= frame.length
  return {
    family,
    protocol,
    ...addresses,
    sourcePort: has ? be16(frame, at) : null,
    destinationPort: has ? be16(frame, at + 2) : null,
    flags: has && protocol === PROTOCOL.tcp && at + 14 <= frame.length ? frame[at + 13]! : 0,
  }
}
