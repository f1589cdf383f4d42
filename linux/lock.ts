/**
 * Locks that only those can hold who may open a file of root's: an open-file-description lock
 * (fcntl(2), F_OFD_SETLK) ends with the last descriptor of that opening, also after kill -9, and can be
 * asked for without being taken, which flock(2) cannot.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { Errno, errno, libc, SystemError } from './libc.ts'

/** Who holds a lock, as the holder says. */
export interface Holder {
  readonly pid: number
  /** `pointsmand`, `pointsman detach`. */
  readonly program: string
  /** Where the holder can be talked to. */
  readonly socket?: string
}

export interface FileLock {
  readonly path: string
  /** Lets go and removes the file. */
  release(): void
}

export type LockAttempt =
  | { readonly lock: FileLock }
  /** Taken: by whom, or null where that cannot be read. */
  | { readonly lock: null; readonly holder: Holder | null }

const F_OFD_GETLK = 36
const F_OFD_SETLK = 37
const F_WRLCK = 1
const F_UNLCK = 2

/** struct flock on 64-bit machines, about the whole file: type, whence, start, length, process. */
function flock(type: number): Buffer {
  const bytes = Buffer.alloc(32)
  bytes.writeInt16LE(type, 0)
  return bytes
}

/** How often, and how long apart, a file is tried that somebody is just removing. */
const ATTEMPTS = 5
const PAUSE_MS = 5

/** Takes the lock at `path`, made if need be, or says who has it. Throws where the file cannot be opened. */
export function tryLock(path: string, holder: Holder): LockAttempt {
  for (let attempt = 1; ; attempt++) {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
    try {
      if (libc.fcntl(fd, F_OFD_SETLK, flock(F_WRLCK)) === 0) {
        // Between opening and locking, its last holder may have removed it: then it locks nothing.
        if (isFileAt(fd, path)) {
          ftruncateSync(fd)
          writeSync(fd, JSON.stringify(holder), 0)
          return { lock: lockOf(path, fd) }
        }
      } else {
        const number = errno()
        if (number !== Errno.EAGAIN && number !== Errno.EACCES) throw new SystemError(`lock ${path}`, number)
        if (attempt === ATTEMPTS) {
          closeSync(fd)
          return { lock: null, holder: readHolder(path) }
        }
      }
    } catch (error) {
      closeSync(fd)
      throw error
    }
    closeSync(fd)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS)
  }
}

/** Who holds the lock at `path`; null when it is free, `unknown` when somebody who does not say. */
export function lockHolder(path: string): Holder | 'unknown' | null {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  try {
    const answer = flock(F_WRLCK)
    if (libc.fcntl(fd, F_OFD_GETLK, answer) < 0) throw new SystemError(`ask for the lock ${path}`, errno())
    return answer.readInt16LE(0) === F_UNLCK ? null : (readHolder(path) ?? 'unknown')
  } finally {
    closeSync(fd)
  }
}

/** Removes a lock file that nobody holds. */
export function sweepLock(path: string): void {
  const attempt = tryLock(path, { pid: process.pid, program: 'sweeper' })
  attempt.lock?.release()
}

function lockOf(path: string, fd: number): FileLock {
  return {
    path,
    release(): void {
      if (isFileAt(fd, path)) unlinkSync(path)
      closeSync(fd)
    },
  }
}

function isFileAt(fd: number, path: string): boolean {
  const own = fstatSync(fd)
  const there = statSync(path, { throwIfNoEntry: false })
  return there !== undefined && there.ino === own.ino && there.dev === own.dev
}

function readHolder(path: string): Holder | null {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (typeof value !== 'object' || value === null) return null
    if (!('pid' in value) || !('program' in value)) return null
    const socket = 'socket' in value ? { socket: String(value.socket) } : {}
    return { pid: Number(value.pid), program: String(value.program), ...socket }
  } catch {
    return null // not written yet
  }
}
