import { createHash } from 'node:crypto'
import { AF_UNIX, SOCK_DGRAM_CLOEXEC } from './abi.ts'
import { check, Errno, errno, libc, SystemError } from './libc.ts'
import { MachineError } from './machine-error.ts'

/**
 * Makes this process the only one that works on a pin directory, until the returned socket is closed or
 * the process ends: an abstract socket's name belongs to one socket, and the kernel frees it even after
 * kill -9. Two directors on the same maps would undo each other's changes.
 */
export function lockPinDirectory(directory: string): number {
  const name = `pointsman-${createHash('sha256').update(directory).digest('hex').slice(0, 32)}`
  // struct sockaddr_un: family, then a NUL and the name.
  const address = Buffer.concat([Buffer.from([AF_UNIX, 0, 0]), Buffer.from(name)])
  const socket = check(libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0), 'open a socket')
  if (libc.bind(socket, address, address.length) === 0) return socket
  const number = errno()
  libc.close(socket)
  if (number !== Errno.EADDRINUSE) throw new SystemError(`lock ${directory}`, number)
  throw new MachineError(
    `Cannot use ${directory}: another pointsmand works on it in this network namespace; stop that one first`,
  )
}
