/** Sockets towards whoever is asked: over the service's own way, or as any program has them. */
import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { Socket, type SocketConstructorOpts } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { openBound } from '../../../linux/bound-socket.ts'
import { onAbort } from '../../model/aborted.ts'
import type { CheckTls } from '../../model/check.ts'
import type { Job } from './protocol.ts'

type Where = Pick<Job, 'to' | 'from' | 'device'>

/** Begins to connect. With the signal it is over, whoever waits for what. */
export function dial(where: Where, signal: AbortSignal): Socket {
  const socket = begin(where)
  // Of an error that nobody waits for any more nobody has to be told.
  socket.on('error', () => {})
  onAbort(signal, () => hangUp(socket))
  return socket
}

function begin({ to, from, device }: Where): Socket {
  const { address, family, port } = to
  const bound = { family, device, address: from?.address ?? null, port: from?.port ?? 0 }
  // Not to be read before it is connected; Node's own servers do it so, its types do not know.
  const options: SocketConstructorOpts & { readonly manualStart: true } = {
    fd: openBound('stream', bound),
    readable: true,
    writable: true,
    manualStart: true,
  }
  return new Socket(options).connect({ host: address, port })
}

/**
 * Ends a connection at once, with a reset (SO_LINGER): nothing of it stays behind at our end. Node's own
 * `resetAndDestroy` is refused once both ends have said that they are through, and then the loop never rests.
 */
export function hangUp(socket: Socket): void {
  if (socket.destroyed) return
  const above = upon.get(socket)
  if (above !== undefined) above.destroy()
  else socket.destroy()
}

/** Sessions by the connection they are over. */
const upon = new WeakMap<Socket, { destroy(): unknown }>()

/**
 * A session ends the connection below it: pulled away from under it, that stays behind, or takes the process
 * with it (Node 20, TLS).
 */
export function standsUpon(socket: Socket, session: { destroy(): unknown }): void {
  upon.set(socket, session)
}

/** A TLS session over a socket that may still be connecting. */
export function secure(socket: Socket, tls: CheckTls, protocols: readonly string[] = []): TLSSocket {
  const name = tls.serverName
  const session = connectTls({
    socket,
    rejectUnauthorized: tls.verify,
    ...(name === null ? { checkServerIdentity: () => undefined } : { servername: name }),
    ...(tls.ca === null ? {} : { ca: readFileSync(tls.ca) }),
    ...(protocols.length === 0 ? {} : { ALPNProtocols: [...protocols] }),
  })
  session.on('error', () => {})
  standsUpon(socket, session)
  return session
}

/** A socket for datagrams that is connected: errors by ICMP are told to it. */
export async function dialDatagrams({ to, from, device }: Where, signal: AbortSignal): Promise<Datagrams> {
  const socket = createSocket(to.family === 4 ? 'udp4' : 'udp6')
  onAbort(signal, () => closeQuietly(socket))
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      const bound = { family: to.family, device, address: from?.address ?? null, port: from?.port ?? 0 }
      socket.bind({ fd: openBound('datagram', bound) }, () => {
        socket.connect(to.port, to.address, () => {
          socket.off('error', reject)
          resolve()
        })
      })
    })
  } catch (error) {
    closeQuietly(socket)
    throw error
  }
  return socket
}

export function closeQuietly(socket: Datagrams): void {
  try {
    socket.close()
  } catch {
    // It is closed already.
  }
}
