import { cutIntoFragments } from '../../dataplane/userspace/worker/cut.ts'

/** A frame in fragments, IP packets of `size` bytes at most, in order; `id` is that of the datagram. */
export function fragmentsOf(frame: Uint8Array, size: number, id: number): Uint8Array[] {
  const memory = new Uint8Array(1 << 17)
  memory.set(frame)
  const frames: Uint8Array[] = []
  let next = frame.length
  const room = (bytes: number): number => {
    next += bytes
    return next - bytes
  }
  cutIntoFragments(
    memory,
    0,
    size,
    () => id,
    room,
    (at, bytes) => frames.push(memory.slice(at, at + bytes)),
  )
  return frames
}
