/**
 * The one thing that two hosts may make differently of a frame. NAT to another port changes SCTP's checksum: where all
 * of the packet is in reach it is made anew, as IPVS does, so that a wrong one becomes right; where only its
 * beginning is, the change is carried to its end, and a wrong one stays wrong (docs/DIFFERENCES.md).
 */
import { crcOf } from './crc.ts'

const ETHERNET = 14
const SCTP = 132
/** Of the checksum in the common header. */
const CRC = 8
/** Of a packet that is whole all the same (RFC 6946): of a fixed length. */
const FRAGMENT = 44
/** Extension headers that the program reads over. */
const EXTENSIONS: readonly number[] = [0, 43, FRAGMENT, 60]
const TAGS: readonly number[] = [0x8100, 0x88a8]

/** Where the SCTP packet of a frame starts and ends; null if there is none. */
function sctpOf(frame: Uint8Array): { readonly from: number; readonly to: number } | null {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  let ip = ETHERNET
  while (ip + 4 <= frame.length && TAGS.includes(view.getUint16(ip - 2))) ip += 4
  if (ip + 40 > frame.length) return null
  const isV4 = frame[ip]! >> 4 === 4
  const to = ip + (isV4 ? view.getUint16(ip + 2) : 40 + view.getUint16(ip + 4))
  let from = ip + (isV4 ? (frame[ip]! & 15) * 4 : 40)
  let protocol = frame[ip + (isV4 ? 9 : 6)]!
  while (!isV4 && EXTENSIONS.includes(protocol) && from + 2 <= frame.length) {
    const length = protocol === FRAGMENT ? 8 : (frame[from + 1]! + 1) * 8
    protocol = frame[from]!
    from += length
  }
  return protocol === SCTP && from + 12 <= to && to <= frame.length ? { from, to } : null
}

/** How far the checksum is from the right one; null where there is none. */
function errorOf(frame: Uint8Array): number | null {
  const packet = sctpOf(frame)
  if (packet === null) return null
  const { from, to } = packet
  const bytes = Uint8Array.from(frame.subarray(from, to))
  const view = new DataView(bytes.buffer)
  const crc = view.getUint32(CRC, true)
  view.setUint32(CRC, 0)
  return (crc ^ crcOf(bytes, 0, bytes.length)) >>> 0
}

/**
 * Whether the frame came with a wrong checksum of SCTP, `carried` has exactly that error still, `renewed` has a right
 * one, and nothing else differs.
 */
export function carriesError(frame: Uint8Array, carried: Uint8Array, renewed: Uint8Array): boolean {
  const packet = sctpOf(carried)
  const error = errorOf(frame)
  if (packet === null || !error || carried.length !== renewed.length) return false
  if (errorOf(carried) !== error || errorOf(renewed) !== 0) return false
  const at = packet.from + CRC
  return carried.every((byte, i) => byte === renewed[i] || (i >= at && i < at + 4))
}
