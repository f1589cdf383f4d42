/**
 * Of a packet that is larger than its path the program in traffic control sends copies, and what it leaves behind is
 * the last fragment; the userspace plane, whose program says only where to cut, makes all of them.
 */
import { cutIntoFragments } from '../../dataplane/userspace/worker/cut.ts'

const ETHERNET = 14
const IPV6 = 40
/** Bytes that fragments of the largest frame take. */
const ROOM = 1 << 17

const memory = new Uint8Array(ROOM)

/** The last of the frame's fragments, with the identification of `other`, since it was drawn. */
export function lastFragment(frame: Uint8Array, mtu: number, other: Buffer): Buffer {
  memory.set(frame)
  let next = frame.length
  let last: Buffer = Buffer.alloc(0)
  cutIntoFragments(
    memory,
    0,
    mtu,
    () => identificationOf(other),
    (bytes) => {
      next += bytes
      return next - bytes
    },
    (at, bytes) => {
      last = Buffer.from(memory.slice(at, at + bytes))
    },
  )
  return last
}

function identificationOf(fragment: Buffer): number {
  if (fragment.length < ETHERNET + IPV6) return fragment.readUInt16BE(ETHERNET + 4)
  return fragment[ETHERNET]! >> 4 === 4
    ? fragment.readUInt16BE(ETHERNET + 4)
    : fragment.readUInt32BE(ETHERNET + IPV6 + 4)
}
