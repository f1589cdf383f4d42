/** The daemon's folder: its socket, its state, and the guarantee that it is the only one there. */
import { chmodSync, realpathSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { makeDirectory } from '../../linux/directory.ts'
import { libc } from '../../linux/libc.ts'
import { lockPinDirectory } from '../../linux/lock.ts'
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

/** Whether someone answers on a unix socket. */
export function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket)
    connection.once('connect', () => {
      connection.destroy()
      resolve(true)
    })
    connection.once('error', () => resolve(false))
  })
}

/** Takes the folder over, the stale socket of a dead daemon included; refuses while another one lives. */
export async function takeRunDirectory(directory: string): Promise<RunDirectory> {
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
  if (await answers(socket)) throw alreadyRuns(path)
  let lock: number
  try {
    lock = lockPinDirectory(`run ${path}`)
  } catch (error) {
    throw new StartError(alreadyRuns(path).message, { cause: error })
  }
  rmSync(socket, { force: true })
  return {
    path,
    socket,
    release(): void {
      rmSync(socket, { force: true })
      libc.close(lock)
    },
  }
}

function alreadyRuns(path: string): StartError {
  return new StartError(`Another pointsmand runs in ${path}: stop it first, or use another --run-dir`)
}

/** Only the owner may talk to the daemon: changing rules takes what the daemon may do. */
export function protectSocket(socket: string): void {
  chmodSync(socket, 0o600)
}
