/** Taking everything off when no daemon runs: pins and links of XDP, the table of the userspace plane. */
import { execFileSync } from 'node:child_process'
import { detachPinned } from '../dataplane/kernel/kernel-dataplane.ts'
import { deleteScript, runNft } from '../dataplane/userspace/nftables.ts'

function tableExists(): boolean {
  try {
    return /\bpointsman\b/.test(
      execFileSync('nft', ['list', 'tables'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    )
  } catch {
    return false
  }
}

/** In this network namespace; whether there was anything. */
export async function detachWithoutDaemon(): Promise<boolean> {
  const pinned = detachPinned()
  const table = tableExists()
  if (table) await runNft(deleteScript(), 'remove the nftables table of the userspace plane')
  return pinned || table
}
