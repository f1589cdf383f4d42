/**
 * ICMP echo, by a ping socket: the kernel fills in identifier and checksum, and tells answers apart. It is for
 * groups that `net.ipv4.ping_group_range` names, IPv6 included.
 */
import { createSocket } from 'node:dgram'
import { openBound } from '../../../../linux/bound-socket.ts'
import { Errno, SystemError } from '../../../../linux/libc.ts'
import { onAbort } from '../../../model/aborted.ts'
import { closeQuietly } from '../dial.ts'
import { good, type Job, type Verdict } from '../protocol.ts'
import { receive } from './udp.ts'

const ECHO = { 4: 8, 6: 128 } as const
const DATA = Buffer.from('pointsman health check')

export async function askPing({ to, from }: Job, signal: AbortSignal): Promise<Verdict> {
  const socket = createSocket(to.family === 4 ? 'udp4' : 'udp6')
  onAbort(signal, () => closeQuietly(socket))
  try {
    const fd = open(to.family, from)
    if (typeof fd === 'string') return { state: 'void', words: fd }
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind({ fd }, resolve)
    })
    const answer = receive(socket, signal)
    const echo = Buffer.concat([Buffer.from([ECHO[to.family], 0, 0, 0, 0, 0, 0, 1]), DATA])
    // Node wants a port; the kernel does not look at it.
    socket.send(echo, 1, to.address, (error) => {
      if (error !== null) socket.emit('error', error)
    })
    await answer
    return good('echo reply')
  } finally {
    closeQuietly(socket)
  }
}

function open(family: 4 | 6, from: Job['from']): number | string {
  try {
    return openBound('ping', { family, device: null, address: from?.address ?? null, port: 0 })
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== Errno.EACCES) throw error
    return 'ping is not allowed to this group: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
  }
}
