/**
 * Of a packet that is larger than its path the program in traffic control sends copies, and what it leaves behind is
 * the last fragment; the userspace plane, whose program says only where to cut, makes all of them.
 */
import { fragmentsOf } from '../packets/fragments-of.ts'

const ETHERNET = 14
const IPV6 = 40

/** The last of the frame's fragments, with the identification of `other`, since it was drawn. */
export function lastFragment(frame: Uint8Array, mtu: number, other: Buffer): Buffer {
  return Buffer.from(fragmentsOf(frame, mtu, identificationOf(other)).at(-1) ?? [])
}

function identificationOf(fragment: Buffer): number {
  if (fragment.length < ETHERNET + IPV6) return fragment.readUInt16BE(ETHERNET + 4)
  return fragment[ETHERNET]! >> 4 === 4
    ? fragment.readUInt16BE(ETHERNET + 4)
    : fragment.readUInt32BE(ETHERNET + IPV6 + 4)
}
