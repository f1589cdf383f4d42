/**
 * One lock per network namespace and role, since what a director works on (XDP hooks, nftables, packet
 * sockets) belongs to the namespace, whatever its run directory is:
 *
 *     control  who makes rules: the daemon, or `pointsman detach` without one. Taken before anything
 *              is looked at; pins and leftovers of earlier planes are only touched by its holder.
 *     plane    who carries packets in userspace. It may outlive the daemon: a new daemon that finds it
 *              held takes its maps over instead of clearing them away.
 *
 * The files lie in a folder of root's, by the namespace's cookie, which is never used twice.
 */
import { createHash } from 'node:crypto'
import { readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { makeDirectory } from './directory.ts'
import { type FileLock, type Holder, lockHolder, sweepLock, tryLock } from './lock.ts'
import { MachineError } from './machine-error.ts'
import { netnsCookie } from './netns.ts'

export type NetnsRole = 'control' | 'plane'

/** In the unit's runtime directory: the rest of /run is read-only to the daemon there. */
const DIRECTORY = '/run/pointsman/locks'
const SUFFIX: Readonly<Record<NetnsRole, string>> = { control: '', plane: '.plane' }

export function netnsLockPath(role: NetnsRole): string {
  return join(DIRECTORY, `netns-${netnsCookie()}${SUFFIX[role]}`)
}

/** Takes this namespace's lock; throws `MachineError` naming who has it, and how to reach it. */
export function lockNetns(role: NetnsRole, holder: Holder): FileLock {
  const path = netnsLockPath(role)
  prepareDirectory()
  const attempt = tryToLock(path, holder)
  if (attempt.lock === null) throw new MachineError(taken(attempt.holder))
  if (role === 'control') sweepLeftLocks(path)
  return attempt.lock
}

function tryToLock(path: string, holder: Holder): ReturnType<typeof tryLock> {
  try {
    return tryLock(path, holder)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EPERM') throw cause
    throw new MachineError(
      `Cannot work in this network namespace: permission denied for its lock, ${path}; run as root: sudo ${holder.program}`,
      { cause },
    )
  }
}

/** Who holds it, without taking it: null when nobody does. */
export function netnsHolder(role: NetnsRole): Holder | 'unknown' | null {
  return lockHolder(netnsLockPath(role))
}

/** Makes this process the only one that works on a pin directory, whichever namespace it is in. */
export function lockPinDirectory(directory: string): FileLock {
  const name = createHash('sha256').update(directory).digest('hex').slice(0, 32)
  prepareDirectory()
  const attempt = tryLock(join(DIRECTORY, `pins-${name}`), { pid: process.pid, program: 'pointsmand' })
  if (attempt.lock !== null) return attempt.lock
  const who = attempt.holder === null ? '' : ` (process ${attempt.holder.pid})`
  throw new MachineError(
    `Cannot use ${directory}: another pointsmand works on it${who}; stop that one first: systemctl stop pointsmand`,
  )
}

function taken(holder: Holder | null): string {
  if (holder === null) {
    return 'Cannot work in this network namespace: another pointsmand does; stop it first: systemctl stop pointsmand'
  }
  const { pid, program, socket } = holder
  const reach = socket === undefined ? '' : `, or talk to it: POINTSMAN_SOCKET=${socket} pointsman status`
  return `Cannot work in this network namespace: ${program} does (process ${pid}); stop it first: kill ${pid}${reach}`
}

function prepareDirectory(): void {
  const parent = dirname(DIRECTORY)
  try {
    makeDirectory(parent, 0o755)
    makeDirectory(DIRECTORY, 0o700)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new MachineError(
      `Cannot make ${DIRECTORY} for locks: ${reason}; as root: mkdir -p -m 0700 ${DIRECTORY}`,
      { cause },
    )
  }
  for (const path of [parent, DIRECTORY]) {
    const { uid, mode } = statSync(path)
    const isOurs = uid === 0 || uid === process.geteuid?.()
    if (isOurs && (mode & 0o022) === 0) continue
    throw new MachineError(
      `Cannot trust the locks in ${path}: others than root may write there; as root: chown root ${path}; chmod go-w ${path}`,
    )
  }
}

/** Locks of killed processes in namespaces that are no more. */
function sweepLeftLocks(own: string): void {
  for (const name of readdirSync(DIRECTORY)) {
    const path = join(DIRECTORY, name)
    if (path.startsWith(own)) continue
    try {
      if (lockHolder(path) === null) sweepLock(path)
    } catch {
      // Another process removes the same one.
    }
  }
}
