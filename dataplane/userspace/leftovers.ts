/** What a userspace plane that was killed leaves in the kernel, in this network namespace. */
import { execFileSync } from 'node:child_process'
import { decodeLink, linkQuery } from '../../linux/netlink/rtnetlink.ts'
import { RequestSocket } from '../../linux/netlink/socket.ts'
import { removeStaleEarlyDrops } from './claims/early-drop.ts'
import { deleteScript, runNft } from './claims/nftables.ts'
import { removeStaleWaysBack } from './way-back.ts'

/** For when no userspace plane runs here; whether there was anything. */
export async function removeLeftovers(): Promise<boolean> {
  const socket = new RequestSocket()
  try {
    const messages = socket.dump(linkQuery(null), 'read the interfaces')
    const links = messages.map(decodeLink).filter((link) => link !== null)
    const ports = removeStaleWaysBack(socket, links)
    const programs = removeStaleEarlyDrops(socket)
    const table = tableExists()
    if (table) await runNft(deleteScript(), 'remove the nftables table of the userspace plane')
    return ports > 0 || programs > 0 || table
  } finally {
    socket.close()
  }
}

function tableExists(): boolean {
  try {
    return /\bpointsman\b/.test(
      execFileSync('nft', ['list', 'tables'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    )
  } catch {
    return false
  }
}
