/**
 * The lease on what cannot run out by itself. The kernel counts down for the nftables table, but a classic BPF
 * program in traffic control knows no time, and veth pairs none either: when daemon and forwarder have both
 * been killed and nobody starts them again, the addresses of virtual services would be a hole for ever.
 *
 * So a shell waits at a pipe, a megabyte large. When the forwarder ends without having said that it has removed
 * everything, the shell waits for as long as the table's lease holds, and has it removed unless somebody
 * forwards again.
 */
import { spawn } from 'node:child_process'
import type { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { FileLock } from '../../../linux/lock.ts'
import { MachineError } from '../../../linux/machine-error.ts'
import { lockNetns } from '../../../linux/netns-lock.ts'
import { LEASE_S } from '../claims/nftables.ts'
import { removeFromKernel } from '../leftovers.ts'

/** On the command line, in the place of the forwarder's arguments. */
export const SWEEP = '--sweep'
const DISARM = 'removed'
/** Arguments: Node, and this program. */
const SCRIPT = `read -r word; [ "$word" = ${DISARM} ] && exit 0; sleep ${LEASE_S}; exec "$1" "$2" ${SWEEP}`

export class DeadMansSwitch {
  readonly #pipe: Writable | null

  constructor() {
    const program = process.argv[1] ?? fileURLToPath(import.meta.url)
    const shell = spawn('sh', ['-c', SCRIPT, 'pointsman-lease', process.execPath, program], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
    })
    // Without a shell there is no such lease; the next start removes what is left all the same.
    shell.on('error', () => {})
    shell.unref()
    this.#pipe = shell.stdin
    this.#pipe?.on('error', () => {})
  }

  /** Everything has been removed. */
  async disarm(): Promise<void> {
    await new Promise<void>((resolve) => {
      if (this.#pipe === null) resolve()
      else this.#pipe.end(`${DISARM}\n`, () => resolve())
    })
  }
}

/** What the shell does when the lease is over. */
export async function sweep(): Promise<void> {
  let lock: FileLock
  try {
    lock = lockNetns('plane', { pid: process.pid, program: 'pointsman-forwarder' })
  } catch (error) {
    // Somebody forwards: it is theirs now.
    if (error instanceof MachineError) return
    throw error
  }
  await removeFromKernel()
  lock.release()
}
