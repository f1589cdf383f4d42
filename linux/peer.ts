/** Who is at the other end of a unix socket (SO_PEERCRED): as it was when it connected. */
import { libc } from './libc.ts'

const SOL_SOCKET = 1
const SO_PEERCRED = 17

export interface Peer {
  readonly pid: number
  readonly uid: number
}

/** null where the kernel does not say. */
export function peerOf(fd: number): Peer | null {
  const credentials = new Int32Array(3)
  const length = Uint8Array.of(12, 0, 0, 0)
  const value = new Uint8Array(credentials.buffer)
  if (fd < 0 || libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, length) < 0) return null
  const [pid, uid] = credentials
  return pid === 0 ? null : { pid: pid!, uid: uid! >>> 0 }
}
