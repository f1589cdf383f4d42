/** The notices systemd understands (sd_notify(3)): one datagram to the socket it names. */
import { AF_UNIX, MSG_DONTWAIT, SOCK_DGRAM_CLOEXEC } from './abi.ts'
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
  // A systemd that does not read must not hold up the thread.
  const sent = libc.sendto(fd, data, data.length, MSG_DONTWAIT, address, address.length)
  const number = errno()
  libc.close(fd)
  if (sent < 0) throw new SystemError(`notify ${path}`, number)
}

/**
 * How often systemd's watchdog is to be told that we live (sd_watchdog_enabled(3)): twice in its time, as
 * recommended. Null when it does not watch this process.
 */
export function watchdogPeriodMs(
  env: Readonly<Record<string, string | undefined>> = process.env,
  pid: number = process.pid,
): number | null {
  const { WATCHDOG_USEC: time = '', WATCHDOG_PID: watched = '' } = env
  if (!/^[1-9]\d{0,14}$/.test(time)) return null
  if (watched !== '' && watched !== String(pid)) return null
  return Math.max(1, Number(time) / 2000)
}
