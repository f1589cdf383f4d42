/** The notices systemd understands (sd_notify(3)): one datagram to the socket it names. */
import { AF_UNIX, SOCK_DGRAM_CLOEXEC } from './abi.ts'
import { errno, libc, SystemError } from './libc.ts'

/**
 * @param state for example `READY=1`; several lines are allowed
 * @param path value of `NOTIFY_SOCKET`; nothing happens without one
 */
export function notify(state: string, path: string | undefined = process.env.NOTIFY_SOCKET): void {
  if (path === undefined || path === '') return
  // struct sockaddr_un; an abstract name is written with @ in front of it.
  const name = path.startsWith('@') ? `\0${path.slice(1)}` : path
  const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(name)])
  const data = Buffer.from(state)
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0)
  if (fd < 0) throw new SystemError('open a socket for systemd', errno())
  const sent = libc.sendto(fd, data, data.length, 0, address, address.length)
  const number = errno()
  libc.close(fd)
  if (sent < 0) throw new SystemError(`notify ${path}`, number)
}
