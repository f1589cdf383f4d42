/**
 * The API's HTTP server: requests to routes, answers to clients, and bounds on everything a client could
 * make others wait for.
 *
 * A request is taken whole before it gets its turn (permits.ts), and its turn ends before its client has
 * taken the answer: whoever stalls, stalls alone.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { MachineError } from '../../../linux/machine-error.ts'
import { peerOf } from '../../../linux/peer.ts'
import { Turns } from '../../apply/turns.ts'
import { CapacityError } from '../../plan/plan.ts'
import { ipvsadmEndpoint } from '../ipvsadm/endpoint.ts'
import { netlinkEndpoints } from '../netlink/endpoint.ts'
import { recorded } from '../recorded.ts'
import { Permits } from './permits.ts'
import { type Answer, type ApiContext, type Endpoint, invalid } from './route.ts'
import { type Access, type Found, findRoute, routingTable } from './router.ts'
import { ROUTES } from './routes.ts'
import { pageEndpoints, refuseWeb, WEB_HEADERS } from './web.ts'

/** For the head of a request, and for all of it: on a unix socket both are there at once. */
const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 30_000
/** How often the two are looked at. */
const CHECK_MS = 5_000
/** How long an answer may lie without its client taking any of it. */
const READER_TIMEOUT_MS = 30_000
/** How long a whole answer may take whom nobody knows: who reads a byte at a time keeps others out otherwise. */
const STRANGER_TIMEOUT_MS = 120_000
/** Behind a change of the data plane, which takes seconds with millions of connections. */
const TURN_LIMIT_MS = 60_000
/** How long such a change waits for those inside, having told them to hurry. */
const ALONE_LIMIT_MS = 10_000
/** Anybody may connect to a read-only socket, and must not use up the daemon's memory or descriptors. */
const READERS_MAX = 32
/** What a listener may leave unread. */
const UNREAD_MAX = 1 << 20

export interface Api {
  readonly permits: Permits
  /**
   * Answers there, too: on a unix socket, or on an address, and tells the port (null: a unix socket). For port 0
   * the kernel chooses one.
   */
  listen(
    at: string | { readonly host: string; readonly port: number },
    access: Access,
  ): Promise<number | null>
  /** No more connections; answers under way are waited for, then every connection is cut. */
  close(graceMs: number): Promise<void>
}

export interface ApiOptions {
  readonly context: ApiContext
  /** Told of failures that are the daemon's. */
  readonly failed: (error: unknown) => void
  /** Told after every answer. */
  readonly answered?: () => void
  /** What whoever looks at the page has to know; null: nothing. */
  readonly webToken?: string | null
  /** Left out: two minutes. */
  readonly strangerTimeoutMs?: number
  /** Besides the table of routes. */
  readonly endpoints?: readonly Endpoint[]
}

export function createApi(options: ApiOptions): Api {
  const permits = new Permits()
  const table = routingTable([
    ...ROUTES,
    ...(options.endpoints ?? [ipvsadmEndpoint(), ...netlinkEndpoints(), ...pageEndpoints()]),
  ])
  const servers: Server[] = []
  /** Answers that have no end of their own. */
  const following = new Set<ServerResponse>()
  /** Connections of strangers with a request that is not answered yet. */
  const busy = new WeakSet<Socket>()
  return {
    permits,

    async listen(at, access) {
      const server = createServer(
        {
          headersTimeout: HEADERS_TIMEOUT_MS,
          requestTimeout: REQUEST_TIMEOUT_MS,
          connectionsCheckingInterval: CHECK_MS,
        },
        (request, response) => {
          if (access !== 'all') {
            // A thousand requests in one packet would be a thousand answers in memory, of which none is read.
            if (busy.has(request.socket)) {
              request.socket.destroy()
              return
            }
            busy.add(request.socket)
            response.once('finish', () => busy.delete(request.socket))
            const limitMs = options.strangerTimeoutMs ?? STRANGER_TIMEOUT_MS
            const late = setTimeout(() => {
              if (!following.has(response)) response.destroy()
            }, limitMs)
            response.once('close', () => clearTimeout(late))
          }
          const exchange = new Exchange(options, permits, following, request, response)
          if (access === 'web') {
            for (const [name, value] of Object.entries(WEB_HEADERS)) response.setHeader(name, value)
          }
          const refused = access === 'web' ? refuseWeb(request, options.webToken ?? null) : null
          void exchange.run(refused ?? findRoute(table, request, access)).catch((error) => {
            options.failed(error)
            response.destroy()
          })
        },
      )
      if (access !== 'all') server.maxConnections = READERS_MAX
      return await new Promise((resolve, reject) => {
        server.once('error', reject)
        server.listen(typeof at === 'string' ? { path: at } : at, () => {
          server.off('error', reject)
          servers.push(server)
          const address = server.address()
          resolve(typeof address === 'object' ? (address?.port ?? null) : null)
        })
      })
    },

    async close(graceMs) {
      for (const response of following) response.end()
      const closed = servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve())
            server.closeIdleConnections()
          }),
      )
      const cut = setTimeout(() => {
        for (const server of servers) server.closeAllConnections()
      }, graceMs)
      await Promise.all(closed)
      clearTimeout(cut)
    },
  }
}

type InPieces = Extract<Answer, { readonly pieces: unknown }>

/** One request and its answer. */
class Exchange {
  readonly #options: ApiOptions
  readonly #permits: Permits
  readonly #following: Set<ServerResponse>
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #over = new AbortController()

  constructor(
    options: ApiOptions,
    permits: Permits,
    following: Set<ServerResponse>,
    request: IncomingMessage,
    response: ServerResponse,
  ) {
    this.#options = options
    this.#permits = permits
    this.#following = following
    this.#request = request
    this.#response = response
    response.on('close', () => {
      this.#over.abort()
      options.answered?.()
    })
  }

  async run(found: Found | Answer): Promise<void> {
    if (!('endpoint' in found)) {
      this.#refuse(found)
      return
    }
    const body = await this.#body(found.endpoint.bodyMax)
    if (body === 'too large') {
      const message = `Expected at most ${found.endpoint.bodyMax} bytes`
      this.#refuse(invalid([{ path: 'body', message }], 413))
    } else if (body !== 'gone') {
      await this.#answer(found, body)
    }
  }

  /** Without having read the rest of the request: the connection cannot go on. */
  #refuse(answer: Answer): void {
    this.#response.setHeader('connection', 'close')
    void this.#send(answer)
    this.#request.resume()
  }

  #body(max: number): Promise<Buffer | 'too large' | 'gone'> {
    const request = this.#request
    if (Number(request.headers['content-length'] ?? 0) > max) return Promise.resolve('too large')
    return new Promise((resolve) => {
      const parts: Buffer[] = []
      let length = 0
      request.on('data', (part: Buffer) => {
        length += part.length
        if (length > max) resolve('too large')
        else parts.push(part)
      })
      request.on('end', () => resolve(Buffer.concat(parts)))
      // The client went, or took longer than it may.
      request.on('error', () => resolve('gone'))
      request.on('close', () => resolve('gone'))
    })
  }

  async #answer(found: Found, body: Buffer): Promise<void> {
    const { endpoint } = found
    if (endpoint.alone && this.#permits.reserved) {
      const message = 'The data plane is being changed already: look at pointsman dataplane, then try again'
      await this.#send(invalid([{ path: 'url', message }], 409))
      return
    }
    const permit = endpoint.alone
      ? await this.#permits.alone(ALONE_LIMIT_MS)
      : await this.#permits.shared(TURN_LIMIT_MS, () => this.#over.abort())
    if (permit === null) {
      await this.#send(invalid([{ path: 'url', message: this.#whyNot(endpoint) }], 503))
      return
    }
    try {
      if (this.#response.destroyed) return
      const answer = await this.#handle(found, body)
      // A document in pieces looks at what the others may change, so it is sent inside.
      if ('pieces' in answer) await this.#sendPieces(answer)
      else void this.#send(answer)
    } finally {
      permit.release()
    }
  }

  #whyNot({ alone }: Endpoint): string {
    if (this.#permits.closed) return 'pointsmand is ending; start it again: systemctl start pointsmand'
    if (alone) return 'Cannot change the data plane: other requests do not end'
    return 'The data plane is being changed, and that does not end; see why: journalctl -u pointsmand'
  }

  /** What is changed by this request is written down with who asked for it. */
  #context(endpoint: Endpoint): ApiContext {
    const { context } = this.#options
    if (endpoint.method === 'GET') return context
    const by = whoAsks(endpoint.path, this.#request.socket)
    const journal: ApiContext['journal'] = {
      since: (id) => context.journal.since(id),
      follow: (listener) => context.journal.follow(listener),
      add: (event) => context.journal.add({ by, ...event }),
    }
    return { ...context, journal, director: recorded(context.director, by, context.journal) }
  }

  async #handle({ endpoint, params, query }: Found, body: Buffer): Promise<Answer> {
    const { headers } = this.#request
    try {
      return await endpoint.handle(this.#context(endpoint), {
        params,
        query,
        headers,
        body,
        signal: this.#over.signal,
      })
    } catch (error) {
      if (error instanceof CapacityError) {
        return { status: 507, json: { error: { path: '', message: error.message, errno: 'ENOMEM' } } }
      }
      if (error instanceof MachineError) return invalid([{ path: 'body', message: error.message }], 409)
      this.#options.failed(error)
      const message = 'The daemon failed; its log says more: journalctl -u pointsmand'
      return invalid([{ path: 'body', message }], 500)
    }
  }

  async #send(answer: Answer): Promise<void> {
    if ('pieces' in answer) return await this.#sendPieces(answer)
    const response = this.#response
    response.setTimeout(READER_TIMEOUT_MS, () => response.destroy())
    if ('follow' in answer) {
      this.#follow(answer)
      return
    }
    if ('bytes' in answer) {
      response.writeHead(answer.status, {
        'content-type': 'application/octet-stream',
        'content-length': answer.bytes.length,
        ...answer.headers,
      })
      response.end(answer.bytes)
      return
    }
    const text = answer.json === undefined ? '' : JSON.stringify(answer.json)
    response.writeHead(
      answer.status,
      text === ''
        ? {}
        : { 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(text) },
    )
    response.end(text)
  }

  /** Until the client goes, or takes so little that it would be kept in memory for it, or the daemon ends. */
  #follow({ status, headers, follow }: Extract<Answer, { readonly follow: unknown }>): void {
    const response = this.#response
    response.setTimeout(0)
    response.writeHead(status, headers)
    const stop = follow(
      (piece) => {
        if (piece.length > 0) response.write(piece)
        if (response.writableLength > UNREAD_MAX) response.destroy()
        return response.writableLength
      },
      () => response.end(),
    )
    // It may have gone while what it asked for was made ready.
    if (response.destroyed) {
      stop()
      return
    }
    this.#following.add(response)
    response.once('close', () => {
      this.#following.delete(response)
      stop()
    })
  }

  async #sendPieces({ status, headers, pieces }: InPieces): Promise<void> {
    const response = this.#response
    response.setTimeout(READER_TIMEOUT_MS, () => response.destroy())
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers })
    const turns = new Turns()
    for await (const chunk of Symbol.asyncIterator in pieces ? pieces : chunks(pieces)) {
      if (chunk.length > 0 && !response.write(chunk)) await this.#drained()
      // A client that keeps up is written to in one go otherwise: what has drained goes on before anybody else.
      if (turns.over) await turns.pass()
      // Half a document must not look like a whole one.
      if (this.#over.signal.aborted) {
        response.destroy()
        return
      }
    }
    response.end()
  }

  #drained(): Promise<void> {
    const { signal } = this.#over
    return new Promise((resolve) => {
      const done = (): void => {
        this.#response.off('drain', done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#response.once('drain', done)
      signal.addEventListener('abort', done)
      if (signal.aborted) done()
    })
  }
}

/** `ipvsadm, pid 4711 of uid 0`. */
function whoAsks(path: string, socket: Socket): string {
  const what = path === '/v1/ipvsadm' ? 'ipvsadm' : path === '/v1/netlink' ? 'a netlink client' : 'the API'
  const handle: unknown = Reflect.get(socket, '_handle')
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined
  const peer = typeof fd === 'number' ? peerOf(fd) : null
  return peer === null ? what : `${what}, pid ${peer.pid} of uid ${peer.uid}`
}

const CHUNK = 64 * 1024

/** Larger pieces, so that a listing of a million rows is not a million writes. */
function* chunks(pieces: Iterable<string>): Generator<string> {
  let text = ''
  for (const piece of pieces) {
    text += piece
    if (text.length < CHUNK) continue
    yield text
    text = ''
  }
  if (text !== '') yield text
}
