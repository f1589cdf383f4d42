/**
 * A real server of the soak, inside its namespace: HTTP that serves and takes checked bytes, datagrams
 * that are sent back or only counted. One argument, a JSON `ListenSettings`.
 */
import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline, Readable } from 'node:stream'
import { endpoint } from '../../lab/topology.ts'
import { nameIn, pieces } from './content.ts'
import { answerQuestions } from './peer.ts'
import type { ListenSettings } from './services.ts'

const settings = JSON.parse(process.argv[2] ?? '{}') as ListenSettings

/** More than an idle connection has to wait while the director is looked at. */
const KEEP_ALIVE_MS = 600_000
const BYTES_MAX = 64 * 1024 * 1024

/** Datagrams that arrived, by phase. */
const arrived: Record<'echo' | 'sink', Record<number, number>> = { echo: {}, sink: {} }

/** GET /?from=N&bytes=N answers that piece of the sequence; POST answers the digest of its body. */
function serve(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('x-server', settings.name)
  const hash = createHash('sha256')
  request.on('error', () => response.destroy())
  request.on('data', (chunk: Buffer) => hash.update(chunk))
  request.on('end', () => {
    if (request.method === 'POST') {
      response.end(hash.digest('hex'))
      return
    }
    const { searchParams } = new URL(request.url ?? '/', 'http://soak')
    const bytes = Math.min(BYTES_MAX, Number(searchParams.get('bytes') ?? 0))
    response.setHeader('content-length', bytes)
    pipeline(Readable.from(pieces(Number(searchParams.get('from') ?? 0), bytes)), response, () => {})
  })
}

function listenHttp(port: number): Promise<void> {
  const server = createServer(serve)
  server.keepAliveTimeout = KEEP_ALIVE_MS
  return new Promise((resolve, reject) => {
    server.on('error', reject)
    server.listen({ host: '::', port, backlog: 1024 }, resolve)
  })
}

function listenUdp({ role, address, port }: ListenSettings['udp'][number]): Promise<void> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', (message, from: AddressInfo) => {
    const name = nameIn(message)
    if (name === null) return
    arrived[role][name.phase] = (arrived[role][name.phase] ?? 0) + 1
    if (role === 'echo') socket.send(message, from.port, from.address, () => {})
  })
  return new Promise((resolve, reject) => {
    socket.on('error', (cause) => reject(new Error(`Cannot use ${endpoint(address, port)}/udp`, { cause })))
    socket.bind(port, address, resolve)
  })
}

await Promise.all([...settings.httpPorts.map(listenHttp), ...settings.udp.map(listenUdp)])
answerQuestions({
  /** Datagrams of a phase since this was last asked of it; forgets them. */
  arrived: (phase) => {
    const number = Number(phase)
    const counts = { echo: arrived.echo[number] ?? 0, sink: arrived.sink[number] ?? 0 }
    delete arrived.echo[number]
    delete arrived.sink[number]
    return counts
  },
})
