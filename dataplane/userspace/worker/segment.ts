/**
 * Cuts a super-packet behind a tunnel header into packets. Everywhere else the kernel or the device
 * does it, but a virtio header has no words for a segmented packet inside of another.
 *
 * Transport checksums stay unfinished: whoever sends the segments completes them.
 */
import { VNET_HEADER } from '../packet/rings.ts'
import { GsoType, type JobTable, VNET_NEEDS_CHECKSUM, Vnet } from './jobs.ts'

const ETHERNET = 14
const TCP_FIN_PSH = 0x09
const TCP_CWR = 0x80
const PROTOCOL_UDP = 17
const PROTOCOL_GRE = 47
const GRE_CHECKSUM = 0x80

/**
 * Cuts job `index`, whose frame has grown to the front by the tunnel's headers. Calls `room(bytes)` for space of every segment with its virtio header and `emit(address, bytes)` when
 * it is filled.
 */
export function segmentTunnelled(
  jobs: JobTable,
  index: number,
  room: (bytes: number) => number,
  emit: (address: number, bytes: number) => void,
): void {
  const { u8 } = jobs
  const start = jobs.start(index)
  const length = jobs.length(index)
  const overhead = jobs.data(index) - start
  const size = jobs.vnet(index, Vnet.segmentSize)
  const checksumOffset = jobs.vnet(index, Vnet.checksumOffset)
  const isUdp = (jobs.gsoType(index) & GsoType.MASK) === GsoType.UDP_SEGMENTS
  const transport = jobs.vnet(index, Vnet.checksumStart) + overhead
  const headers = jobs.headerBytes(index) + overhead
  const payload = length - headers
  if (size === 0 || payload <= 0) return
  const oldTransportLength = length - transport

  for (let offset = 0, segment = 0; offset < payload; offset += size, segment++) {
    const bytes = Math.min(size, payload - offset)
    const frame = headers + bytes
    const address = room(VNET_HEADER + frame)
    const at = address + VNET_HEADER
    u8.fill(0, address, at)
    u8[address] = VNET_NEEDS_CHECKSUM
    put16le(u8, address + Vnet.checksumStart * 2, transport)
    put16le(u8, address + Vnet.checksumOffset * 2, checksumOffset)
    u8.copyWithin(at, start, start + headers)
    u8.copyWithin(at + headers, start + headers + offset, start + headers + offset + bytes)

    fixNetwork(u8, at + ETHERNET, frame - ETHERNET, segment)
    fixNetwork(u8, at + ETHERNET + overhead, frame - ETHERNET - overhead, segment)
    const l4 = at + transport
    if (isUdp) {
      put16(u8, l4 + 4, frame - transport)
    } else {
      put32(u8, l4 + 4, get32(u8, l4 + 4) + offset)
      if (offset + bytes < payload) u8[l4 + 13]! &= ~TCP_FIN_PSH
      if (offset > 0) u8[l4 + 13]! &= ~TCP_CWR
    }
    // The field holds the sum of the pseudo header, which has the length in it.
    const check = l4 + checksumOffset
    put16(u8, check, fold(get16(u8, check) + (0xffff - oldTransportLength) + (frame - transport)))
    finishTunnel(u8, at + ETHERNET, l4, at + frame, get16(u8, check))
    emit(address, VNET_HEADER + frame)
  }
}

/**
 * Length and checksum of the header between outer and inner IP, if there is one: UDP (GUE) or GRE.
 * `partial` is the unfinished inner checksum. Once finished, the inner transport segment sums up to its
 * complement, whatever the payload.
 */
export function finishTunnel(u8: Uint8Array, outer: number, l4: number, end: number, partial: number): void {
  const isV6 = u8[outer]! >> 4 === 6
  const protocol = u8[outer + (isV6 ? 6 : 9)]!
  const header = outer + (isV6 ? 40 : 20)
  if (protocol === PROTOCOL_UDP) {
    put16(u8, header + 4, end - header)
    if (get16(u8, header + 6) === 0) return
    put16(u8, header + 6, 0)
    const addresses = isV6 ? sumOf(u8, outer + 8, outer + 40) : sumOf(u8, outer + 12, outer + 20)
    const sum = addresses + PROTOCOL_UDP + (end - header) + sumOf(u8, header, l4) + (0xffff - partial)
    put16(u8, header + 6, 0xffff - fold(sum) || 0xffff)
  } else if (protocol === PROTOCOL_GRE && (u8[header]! & GRE_CHECKSUM) !== 0) {
    put16(u8, header + 4, 0)
    put16(u8, header + 4, 0xffff - fold(sumOf(u8, header, l4) + (0xffff - partial)))
  }
}

/** Length, identification and header checksum of an IP header for the n-th segment. */
function fixNetwork(u8: Uint8Array, ip: number, length: number, index: number): void {
  if (u8[ip]! >> 4 === 6) {
    put16(u8, ip + 4, length - 40)
    return
  }
  put16(u8, ip + 2, length)
  // RFC 6864 §4.1: 0 in a packet that may not be fragmented means nothing and stays.
  const id = get16(u8, ip + 4)
  if (id !== 0) put16(u8, ip + 4, id + index)
  put16(u8, ip + 10, 0)
  put16(u8, ip + 10, ~fold(sumOf(u8, ip, ip + (u8[ip]! & 15) * 4)))
}

function sumOf(u8: Uint8Array, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i += 2) sum += get16(u8, i)
  return sum
}

function fold(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16)
  folded = (folded & 0xffff) + (folded >>> 16)
  return folded
}

function get16(u8: Uint8Array, at: number): number {
  return (u8[at]! << 8) | u8[at + 1]!
}

function put16(u8: Uint8Array, at: number, value: number): void {
  u8[at] = value >>> 8
  u8[at + 1] = value
}

function put16le(u8: Uint8Array, at: number, value: number): void {
  u8[at] = value
  u8[at + 1] = value >>> 8
}

function get32(u8: Uint8Array, at: number): number {
  return ((get16(u8, at) << 16) | get16(u8, at + 2)) >>> 0
}

function put32(u8: Uint8Array, at: number, value: number): void {
  put16(u8, at, (value >>> 16) & 0xffff)
  put16(u8, at + 2, value & 0xffff)
}
