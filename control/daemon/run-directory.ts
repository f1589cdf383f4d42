/** The daemon's folder: its socket, its state, and the guarantee that it is the only one there. */
import { existsSync, realpathSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { isAbsolute, join } from 'node:path'
import { makeDirectory } from '../../linux/directory.ts'
import { type FileLock, type Holder, tryLock } from '../../linux/lock.ts'
import { lockNetns } from '../../linux/netns-lock.ts'
import { SOCKET_NAME } from '../front/api/socket.ts'

/** The daemon cannot start here; the message says what mends it. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

export interface RunDirectory {
  readonly path: string
  readonly socket: string
  release(): void
}

/**
 * Where what is to outlive a reboot is kept, for which the run directory is in memory: what systemd names to a
 * unit with StateDirectory=, and without that the run directory all the same.
 */
export function lastingDirectory(run: RunDirectory, environment: NodeJS.ProcessEnv): string {
  const [named = ''] = (environment.STATE_DIRECTORY ?? '').split(':')
  return isAbsolute(named) && existsSync(named) ? named : run.path
}

/** Longer than a living daemon takes to accept; a peer that never does must not hold up a start. */
const ANSWER_TIMEOUT_MS = 1000

/** Whether someone answers on a unix socket. */
export function answers(socket: string, timeoutMs = ANSWER_TIMEOUT_MS): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket)
    const settle = (answered: boolean) => {
      clearTimeout(late)
      connection.destroy()
      resolve(answered)
    }
    const late = setTimeout(() => settle(false), timeoutMs)
    connection.once('connect', () => settle(true))
    connection.once('error', () => settle(false))
  })
}

/**
 * Takes the folder over, the stale socket of a dead daemon included, and the network namespace with it
 * if packets are to be forwarded; refuses while another daemon has either.
 */
export async function takeRunDirectory(directory: string, forwards: boolean): Promise<RunDirectory> {
  try {
    makeDirectory(directory, 0o755)
  } catch (error) {
    throw new StartError(`Cannot make the run directory ${directory}: ${String(error)}`, { cause: error })
  }
  const path = realpathSync(directory)
  const socket = join(path, SOCKET_NAME)
  // Unix paths are short: 108 bytes with the closing zero.
  if (Buffer.byteLength(socket) > 107) {
    throw new StartError(`Cannot use run directory ${path}: its socket's path is longer than 107 bytes`)
  }
  const holder: Holder = { pid: process.pid, program: 'pointsmand', socket }
  const lock = lockFolder(path, holder)
  const locks = [lock]
  try {
    // Something that holds no lock may listen all the same: a version before there were any.
    if (await answers(socket)) throw alreadyRuns(path, null)
    if (forwards) locks.push(lockNetns('control', holder))
  } catch (error) {
    for (const taken of locks) taken.release()
    throw error
  }
  rmSync(socket, { force: true })
  return {
    path,
    socket,
    release(): void {
      rmSync(socket, { force: true })
      for (const taken of locks.reverse()) taken.release()
    },
  }
}

function lockFolder(path: string, holder: Holder): FileLock {
  const file = join(path, 'lock')
  let attempt: ReturnType<typeof tryLock>
  try {
    attempt = tryLock(file, holder)
  } catch (cause) {
    throw new StartError(`Cannot lock ${file}: ${String(cause)}; start as root or use another --run-dir`, {
      cause,
    })
  }
  if (attempt.lock === null) throw alreadyRuns(path, attempt.holder)
  return attempt.lock
}

function alreadyRuns(path: string, holder: Holder | null): StartError {
  const who = holder === null ? '' : ` (process ${holder.pid})`
  return new StartError(`Another pointsmand runs in ${path}${who}: stop it first, or use another --run-dir`)
}
