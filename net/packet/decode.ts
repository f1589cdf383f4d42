/** Frames as lines a person can read. */
import { be16, be32, checksum, hex, ipText, macText, onesSum, pseudoSum } from './bytes.ts'
import { ETHERTYPE, PROTOCOL } from './numbers.ts'

const PROTOCOL_NAMES = new Map<number, string>(
  Object.entries(PROTOCOL).map(([name, number]) => [number, name]),
)
const EXTENSIONS = new Set<number>([
  PROTOCOL.hopByHop,
  PROTOCOL.routing,
  PROTOCOL.fragment,
  PROTOCOL.destination,
])

interface Addresses {
  readonly source: Uint8Array
  readonly destination: Uint8Array
}

const hex16 = (value: number): string => `0x${value.toString(16).padStart(4, '0')}`
const sumNote = (good: boolean): string => (good ? 'ok' : 'WRONG')

/** One line per header, outermost first; a quoted or tunnelled packet is indented below its carrier. */
export function decode(frame: Uint8Array): string[] {
  if (frame.length < 14) return [`${frame.length} bytes, no Ethernet header: ${hex(frame)}`]
  const lines: string[] = []
  let type = be16(frame, 12)
  let at = 14
  let tags = ''
  while ((type === ETHERTYPE.vlan || type === ETHERTYPE.qinq) && at + 4 <= frame.length) {
    tags += ` vlan ${be16(frame, at) & 0xfff} priority ${(frame[at] ?? 0) >> 5}`
    type = be16(frame, at + 2)
    at += 4
  }
  lines.push(
    `ethernet ${macText(frame.subarray(6, 12))} > ${macText(frame.subarray(0, 6))}${tags} type ${hex16(type)}, ${frame.length} bytes`,
  )
  const payload = frame.subarray(at)
  if (type === ETHERTYPE.ipv4 || type === ETHERTYPE.ipv6) lines.push(...decodeIp(payload, false))
  else lines.push(data(payload))
  return lines
}

function decodeIp(packet: Uint8Array, quoted: boolean): string[] {
  const version = (packet[0] ?? 0) >> 4
  if (version === 4) return decodeIpv4(packet, quoted)
  if (version === 6) return decodeIpv6(packet, quoted)
  return [`IP version ${version}: ${data(packet)}`]
}

function decodeIpv4(packet: Uint8Array, quoted: boolean): string[] {
  const headerLength = ((packet[0] ?? 0) & 15) * 4
  if (packet.length < 20 || headerLength < 20 || packet.length < headerLength)
    return [`ipv4 cut short: ${data(packet)}`]
  const header = packet.subarray(0, headerLength)
  const total = be16(packet, 2)
  const flags = be16(packet, 6)
  const protocol = packet[9] ?? 0
  const addresses = { source: packet.subarray(12, 16), destination: packet.subarray(16, 20) }
  const fragment = (flags & 0x1fff) * 8
  const more = (flags & 0x2000) !== 0
  const lines = [
    `ipv4 ${ipText(addresses.source)} > ${ipText(addresses.destination)} ${PROTOCOL_NAMES.get(protocol) ?? protocol}` +
      ` ttl ${packet[8]} tos 0x${(packet[1] ?? 0).toString(16)} id ${hex16(be16(packet, 4))}${flags & 0x4000 ? ' DF' : ''}` +
      `${more ? ' MF' : ''}${fragment > 0 ? ` offset ${fragment}` : ''} length ${total}` +
      `${headerLength > 20 ? ` options ${hex(packet.subarray(20, headerLength))}` : ''}` +
      ` checksum ${hex16(be16(packet, 10))} ${sumNote(onesSum(header) === 0xffff)}`,
  ]
  const end = quoted ? packet.length : Math.min(total, packet.length)
  const body = packet.subarray(headerLength, Math.max(end, headerLength))
  if (fragment > 0) lines.push(`  ${data(body)}`)
  else lines.push(...transport(protocol, body, addresses, more || quoted).map((line) => `  ${line}`))
  if (!quoted && packet.length > total) lines.push(`  ${packet.length - total} bytes behind the packet`)
  if (!quoted && packet.length < total) lines.push(`  ${total - packet.length} bytes missing`)
  return lines
}

function decodeIpv6(packet: Uint8Array, quoted: boolean): string[] {
  if (packet.length < 40) return [`ipv6 cut short: ${data(packet)}`]
  const length = be16(packet, 4)
  const word = be32(packet, 0)
  const addresses = { source: packet.subarray(8, 24), destination: packet.subarray(24, 40) }
  let protocol = packet[6] ?? 0
  const lines = [
    `ipv6 ${ipText(addresses.source)} > ${ipText(addresses.destination)} ${PROTOCOL_NAMES.get(protocol) ?? protocol}` +
      ` hop limit ${packet[7]} class 0x${((word >>> 20) & 255).toString(16)} label 0x${(word & 0xfffff).toString(16)} payload ${length}`,
  ]
  const end = quoted ? packet.length : Math.min(40 + length, packet.length)
  let at = 40
  let partial = quoted
  while (EXTENSIONS.has(protocol) && at + 8 <= end) {
    const next = packet[at] ?? 0
    if (protocol === PROTOCOL.fragment) {
      const offset = be16(packet, at + 2) & ~7
      const more = (be16(packet, at + 2) & 1) !== 0
      lines.push(`  fragment id 0x${be32(packet, at + 4).toString(16)} offset ${offset}${more ? ' MF' : ''}`)
      at += 8
      if (offset > 0) return [...lines, `  ${data(packet.subarray(at, end))}`]
      partial ||= more
    } else {
      const size = ((packet[at + 1] ?? 0) + 1) * 8
      lines.push(
        `  ${PROTOCOL_NAMES.get(protocol)} header ${hex(packet.subarray(at, Math.min(at + size, end)))}`,
      )
      at += size
    }
    protocol = next
  }
  lines.push(
    ...transport(protocol, packet.subarray(Math.min(at, end), end), addresses, partial).map(
      (line) => `  ${line}`,
    ),
  )
  if (!quoted && packet.length > 40 + length)
    lines.push(`  ${packet.length - 40 - length} bytes behind the packet`)
  if (!quoted && packet.length < 40 + length) lines.push(`  ${40 + length - packet.length} bytes missing`)
  return lines
}

/** @param partial the bytes are not all of the segment, so its checksum cannot be judged */
function transport(protocol: number, body: Uint8Array, addresses: Addresses, partial: boolean): string[] {
  const { source, destination } = addresses
  const judge = (stored: number): string =>
    partial
      ? ''
      : ` ${sumNote(onesSum(body, pseudoSum(source, destination, protocol, body.length)) === 0xffff || stored === -1)}`
  switch (protocol) {
    case PROTOCOL.tcp: {
      if (body.length < 20) return [`tcp cut short${ports(body)}: ${data(body)}`]
      const offset = ((body[12] ?? 0) >> 4) * 4
      const letters = Array.from('FSRPAUEC', (letter, bit) =>
        (body[13] ?? 0) & (1 << bit) ? letter : '',
      ).join('')
      return [
        `tcp${ports(body)} [${letters}] seq ${be32(body, 4)} ack ${be32(body, 8)} window ${be16(body, 14)}` +
          `${offset > 20 ? ` options ${hex(body.subarray(20, offset))}` : ''}${offset < 20 ? ` data offset ${offset}` : ''}` +
          ` checksum ${hex16(be16(body, 16))}${judge(0)}`,
        ...rest(body.subarray(Math.max(offset, 20))),
      ]
    }
    case PROTOCOL.udp: {
      if (body.length < 8) return [`udp cut short: ${data(body)}`]
      const stored = be16(body, 6)
      return [
        `udp${ports(body)} length ${be16(body, 4)} checksum ${hex16(stored)}${stored === 0 ? ' none' : judge(stored)}`,
        ...gue(body, partial),
      ]
    }
    case PROTOCOL.sctp:
      return [
        `sctp${ports(body)} tag 0x${be32(body, 4).toString(16)} crc 0x${be32(body, 8).toString(16)} chunk ${body[12]}`,
        ...rest(body.subarray(12)),
      ]
    case PROTOCOL.icmp:
    case PROTOCOL.icmpv6: {
      if (body.length < 8) return [`icmp cut short: ${data(body)}`]
      const good =
        protocol === PROTOCOL.icmp
          ? onesSum(body) === 0xffff
          : onesSum(body, pseudoSum(source, destination, protocol, body.length)) === 0xffff
      const error =
        protocol === PROTOCOL.icmp ? [3, 4, 5, 11, 12].includes(body[0] ?? 0) : (body[0] ?? 0) < 128
      return [
        `${PROTOCOL_NAMES.get(protocol)} type ${body[0]} code ${body[1]} rest 0x${be32(body, 4).toString(16)}` +
          ` checksum ${hex16(be16(body, 2))}${partial ? '' : ` ${sumNote(good)}`}`,
        ...(error ? decodeIp(body.subarray(8), true).map((line) => `  ${line}`) : rest(body.subarray(8))),
      ]
    }
    case PROTOCOL.ipip:
    case PROTOCOL.ipv6:
      return partial && body.length < 20 ? rest(body) : decodeIp(body, partial)
    case PROTOCOL.gre: {
      const withSum = ((body[0] ?? 0) & 0x80) !== 0
      const size = withSum ? 8 : 4
      const note = withSum && !partial ? ` checksum ${sumNote(checksum(body) === 0)}` : ''
      return [
        `gre flags ${hex16(be16(body, 0))} type ${hex16(be16(body, 2))}${note}`,
        ...decodeIp(body.subarray(size), partial).map((line) => `  ${line}`),
      ]
    }
    default:
      return [`protocol ${protocol}: ${data(body)}`]
  }
}

/** Payload of UDP: generic UDP encapsulation is recognised by its version 0, control 0 and inner protocol. */
function gue(body: Uint8Array, partial: boolean): string[] {
  const inner = body[9] ?? 0
  const size = 4 + ((body[8] ?? 0) & 31) * 4
  const version = (body[8 + size] ?? 0) >> 4
  const plausible =
    body.length >= 28 + size &&
    ((body[8] ?? 0) & 0xe0) === 0 &&
    ((inner === PROTOCOL.ipip && version === 4) || (inner === PROTOCOL.ipv6 && version === 6))
  if (!plausible) return rest(body.subarray(8))
  return [
    `gue header ${hex(body.subarray(8, 8 + size))}`,
    ...decodeIp(body.subarray(8 + size), partial).map((line) => `  ${line}`),
  ]
}

const ports = (body: Uint8Array): string => (body.length < 4 ? '' : ` ${be16(body, 0)} > ${be16(body, 2)}`)
const rest = (body: Uint8Array): string[] => (body.length === 0 ? [] : [data(body)])

function data(bytes: Uint8Array): string {
  const shown = hex(bytes.subarray(0, 32))
  return `${bytes.length} bytes${bytes.length === 0 ? '' : `: ${shown}${bytes.length > 32 ? '…' : ''}`}`
}
