/** Taking everything off when no daemon runs: pins and links of XDP, what the userspace plane left. */
import { detachPinned } from '../../dataplane/kernel/plane.ts'
import { removeLeftovers } from '../../dataplane/userspace/leftovers.ts'

/** In this network namespace; whether there was anything. */
export async function detachWithoutDaemon(): Promise<boolean> {
  const pinned = detachPinned()
  return (await removeLeftovers()) || pinned
}
