/** The daemon's sockets, and who may open them. */
import { chmodSync, chownSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { groupId } from '../../linux/group.ts'
import type { Access } from '../front/api/router.ts'
import type { Api } from '../front/api/server.ts'
import { READ_SOCKET_NAME } from '../front/api/socket.ts'
import { type RunDirectory, StartError } from './run-directory.ts'

export interface SocketOptions {
  /** Besides root, its members may do everything. */
  readonly group: string | null
  /** A socket on which only questions are answered: for everybody, for a group, or none. */
  readonly readOnly: 'everybody' | { readonly group: string } | null
}

/** Listens; the way to remove what the run directory does not. */
export async function openSockets(api: Api, run: RunDirectory, options: SocketOptions): Promise<() => void> {
  const readers = join(run.path, READ_SOCKET_NAME)
  const remove = (): void => rmSync(readers, { force: true })
  // Also one of an earlier daemon that was told otherwise.
  remove()
  const { group, readOnly } = options
  const mode = group === null ? 0o600 : 0o660
  await listen(api, { path: run.socket, access: 'all', mode, group })
  if (readOnly === 'everybody') {
    await listen(api, { path: readers, access: 'read-only', mode: 0o666, group: null })
  } else if (readOnly !== null) {
    await listen(api, { path: readers, access: 'read-only', mode: 0o660, group: readOnly.group })
  }
  return remove
}

interface Socket {
  readonly path: string
  readonly access: Access
  readonly mode: number
  readonly group: string | null
}

/** A socket is never open to more than it is to be, not even between bind and chmod. */
async function listen(api: Api, { path, access, mode, group }: Socket): Promise<void> {
  const gid = group === null ? null : groupId(group)
  if (group !== null && gid === null) {
    throw new StartError(`No group "${group}": make it: groupadd --system ${group}`)
  }
  const mask = process.umask(0o177)
  try {
    await api.listen(path, access)
  } finally {
    process.umask(mask)
  }
  if (gid !== null) giveTo(path, gid, group ?? '')
  chmodSync(path, mode)
}

/** Without CAP_CHOWN, which we do not have, an owner may give a file to a group of its own. */
function giveTo(path: string, gid: number, group: string): void {
  try {
    chownSync(path, process.geteuid?.() ?? 0, gid)
  } catch (cause) {
    throw new StartError(
      `Cannot give ${path} to group ${group}: ${cause instanceof Error ? cause.message : cause}; let the daemon be a member: SupplementaryGroups=${group} in its unit (systemctl edit pointsmand)`,
      { cause },
    )
  }
}
