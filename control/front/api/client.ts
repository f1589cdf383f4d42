/** HTTP and JSON over the daemon's unix socket, for the command line. */
import { request } from 'node:http'
import { DEFAULT_SOCKET, SOCKET_NAME } from './socket.ts'

/** What the user is told instead of a result. */
export class ClientError extends Error {
  override readonly name = 'ClientError'
}

/** Nobody answers on the socket. */
export class NoDaemonError extends ClientError {}

function noDaemon(socket: string, cause: NodeJS.ErrnoException): NoDaemonError {
  const flag = socket === DEFAULT_SOCKET ? '' : ` (socket ${socket})`
  if (cause.code === 'EACCES' || cause.code === 'EPERM') {
    return new NoDaemonError(`Cannot reach pointsmand${flag}: permission denied; run as root`, { cause })
  }
  return new NoDaemonError(
    `No pointsmand is running${flag}; start one: pointsmand --interface NAME\nIf it runs elsewhere, say where: POINTSMAN_SOCKET=/path/to/${SOCKET_NAME}`,
    { cause },
  )
}

function errorOf(json: unknown): string | null {
  if (typeof json !== 'object' || json === null || !('error' in json)) return null
  const { error } = json
  if (typeof error !== 'object' || error === null || !('message' in error)) return null
  return String(error.message)
}

/** Asks the daemon; the parsed answer, or an error in the daemon's words. */
export function call(socket: string, method: string, path: string, body?: unknown): Promise<unknown> {
  const payload = body === undefined ? undefined : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const headers = payload === undefined ? {} : { 'content-type': 'application/json' }
    const outgoing = request({ socketPath: socket, method, path, headers, agent: false }, (incoming) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => parts.push(part))
      incoming.on('error', reject)
      incoming.on('end', () => {
        const text = Buffer.concat(parts).toString()
        let json: unknown
        try {
          json = text === '' ? null : JSON.parse(text)
        } catch (cause) {
          reject(new ClientError(`Cannot understand the answer to ${method} ${path}`, { cause }))
          return
        }
        const status = incoming.statusCode ?? 0
        if (status < 300) resolve(json)
        else reject(new ClientError(errorOf(json) ?? `The daemon answered ${status} to ${method} ${path}`))
      })
    })
    outgoing.on('error', (error: NodeJS.ErrnoException) => reject(noDaemon(socket, error)))
    outgoing.end(payload)
  })
}
