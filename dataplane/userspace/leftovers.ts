/** What a userspace plane that nobody talks to any more has in this network namespace, dead or alive. */
import { execFileSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeLink, linkQuery } from '../../linux/netlink/rtnetlink.ts'
import { RequestSocket } from '../../linux/netlink/socket.ts'
import { netnsHolder } from '../../linux/netns-lock.ts'
import { removeStaleEarlyDrops } from './claims/early-drop.ts'
import { deleteScript, runNft } from './claims/nftables.ts'
import { ForwarderLink } from './forwarder/forwarder-link.ts'
import { CONTROL_SOCKET, MAPS_NAME } from './forwarder/protocol.ts'
import { removeMaps } from './maps-file.ts'
import { RECORDING_NAME } from './recording.ts'
import { removeStaleWaysBack } from './way-back.ts'

const END_MS = 5000
const PAUSE_MS = 5

/** Has a forwarder remove everything and end; whether there was one. */
export async function endForwarder(socket: string): Promise<boolean> {
  const link = await ForwarderLink.connect(socket)
  if (link === null) return false
  try {
    await link.order({ order: 'detach' })
  } catch (error) {
    // It has ended over it: what it leaves is for the caller to remove.
    if (!link.over) throw error
  }
  await link.ended(END_MS)
  link.close()
  return true
}

/**
 * For who holds the namespace's lock while no daemon wants a userspace plane here: ends the forwarder, and
 * removes what one that was killed has left. `runDirectory`: its maps go too. Whether there was anything.
 */
export async function removeLeftovers(runDirectory: string | null = null): Promise<boolean> {
  const holder = netnsHolder('plane')
  const ended =
    holder !== null && holder !== 'unknown' && holder.socket !== undefined
      ? await endForwarder(holder.socket)
      : false
  // One that does not answer: what it holds in the kernel is taken away from it, and it with that.
  if (!ended && holder !== null && holder !== 'unknown') await kill(holder.pid)
  const hadMaps = runDirectory !== null && (await removeMapsIn(runDirectory))
  return (await removeFromKernel()) || ended || hadMaps
}

/** Unless the forwarder of another network namespace works on them. */
async function removeMapsIn(runDirectory: string): Promise<boolean> {
  const maps = join(runDirectory, MAPS_NAME)
  if (!existsSync(maps)) return false
  const socket = join(runDirectory, CONTROL_SOCKET)
  const link = await ForwarderLink.connect(socket)
  link?.close()
  if (link !== null) return false
  removeMaps(maps)
  rmSync(join(runDirectory, RECORDING_NAME), { force: true })
  rmSync(socket, { force: true })
  return true
}

/** Returns when it no longer holds the namespace's lock. */
async function kill(pid: number): Promise<void> {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has just ended.
  }
  for (const end = performance.now() + END_MS; performance.now() < end; await sleep(PAUSE_MS)) {
    if (netnsHolder('plane') === null) return
  }
}

/** Table, filters and veth pairs; whether there were any. Nobody may be forwarding. */
export async function removeFromKernel(): Promise<boolean> {
  const socket = new RequestSocket()
  try {
    const messages = socket.dump(linkQuery(null), 'read the interfaces')
    const links = messages.map(decodeLink).filter((link) => link !== null)
    const ways = removeStaleWaysBack(socket, links)
    const programs = removeStaleEarlyDrops(socket)
    const table = tableExists()
    if (table) await runNft(deleteScript(), 'remove the nftables table of the userspace plane')
    return ways > 0 || programs > 0 || table
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
