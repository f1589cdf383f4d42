/**
 * Room for a file that is mapped, reserved when it is made: on a full file system a write to a page that is not there
 * yet would kill the process (SIGBUS), and it is the forwarder that writes.
 */
import { dirname } from 'node:path'
import { Errno, errno, libc, SystemError } from '../../linux/libc.ts'
import { DataplaneError } from '../dataplane.ts'

/** Throws `DataplaneError` where there is none. `instead`: what else would do, as "use another --run-dir". */
export function reserve(fd: number, path: string, bytes: number, instead: string): void {
  if (libc.fallocate(fd, 0, 0, bytes) >= 0) return
  const number = errno()
  if (number !== Errno.ENOSPC) throw new DataplaneError(new SystemError(`reserve ${path}`, number).message)
  const mebibytes = Math.ceil(bytes / (1 << 20))
  throw new DataplaneError(
    `Cannot reserve ${mebibytes} MiB for ${path}: its file system is full; make it larger (mount -o remount,size=… of what df ${dirname(path)} shows), ${instead}`,
  )
}
