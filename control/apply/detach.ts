/** Taking everything off when no daemon runs: pins and links of XDP, what the userspace plane left. */
import { detachPinned } from '../../dataplane/kernel/plane.ts'
import { removeLeftovers } from '../../dataplane/userspace/leftovers.ts'
import { lockNetns } from '../../linux/netns-lock.ts'

/**
 * In this network namespace; whether there was anything. Refuses, naming it, while a daemon works here:
 * that the caller's socket does not answer only says that this is another one's. `runDirectory`: where the
 * rules of a userspace plane lie that nobody runs any more.
 */
export async function detachWithoutDaemon(runDirectory: string): Promise<boolean> {
  const lock = lockNetns('control', { pid: process.pid, program: 'pointsman detach' })
  try {
    const pinned = detachPinned()
    return (await removeLeftovers(runDirectory)) || pinned
  } finally {
    lock.release()
  }
}
