/** HTTP and JSON over the daemon's unix socket, for the command line. */
import { type IncomingMessage, request } from 'node:http'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { errorAnswer } from './schema/basic.ts'
import { DEFAULT_SOCKET, READ_SOCKET_NAME, SOCKET_NAME } from './socket.ts'

/** What the user is told instead of a result. */
export class ClientError extends Error {
  override readonly name = 'ClientError'
}

/** Nobody answers on the socket. */
export class NoDaemonError extends ClientError {}

/** There is a socket, and it is not for us. */
export class ForbiddenError extends NoDaemonError {}

function noDaemon(socket: string, cause: NodeJS.ErrnoException): NoDaemonError {
  const flag = socket === DEFAULT_SOCKET ? '' : ` (socket ${socket})`
  if (cause.code === 'EACCES' || cause.code === 'EPERM') {
    return new ForbiddenError(
      `Cannot reach pointsmand${flag}: permission denied; run as root, or as a member of the socket's group (pointsmand --socket-group)`,
      { cause },
    )
  }
  if (cause.code === 'ECONNRESET' || cause.code === 'EPIPE') {
    return new NoDaemonError(
      `pointsmand${flag} ended before it had answered; its last words: journalctl -u pointsmand`,
      { cause },
    )
  }
  return new NoDaemonError(
    `No pointsmand is running${flag}; start one: pointsmand --interface NAME\nIf it runs elsewhere, say where: POINTSMAN_SOCKET=/path/to/${SOCKET_NAME}`,
    { cause },
  )
}

/** In the daemon's words; all of them when several things are wrong. */
function errorOf(json: unknown): string | null {
  const parsed = errorAnswer.safeParse(json)
  if (!parsed.success) return null
  const { error, errors = [] } = parsed.data
  // A field is named by its message; a place in a file is not.
  if (errors.length < 2) return error.path.startsWith('/') ? `${error.path}: ${error.message}` : error.message
  return errors.map(({ path, message }) => `${path}: ${message}`).join('\n')
}

/** Asks for what has a schema; its value, and as it came: a newer daemon may say more. */
export async function get<T>(
  socket: string,
  path: string,
  schema: z.ZodType<T>,
): Promise<{ readonly value: T; readonly raw: unknown }> {
  const raw = await call(socket, 'GET', path)
  return { value: understood(schema, raw, `GET ${path}`), raw }
}

export function understood<T>(schema: z.ZodType<T>, raw: unknown, question: string): T {
  const parsed = schema.safeParse(raw)
  if (parsed.success) return parsed.data
  throw new ClientError(
    `Cannot understand the answer to ${question}: ${z.prettifyError(parsed.error)}\nIs the daemon of another version? See: pointsman --version; pointsman --json status`,
  )
}

/** Asks the daemon; the answer as JSON, or an error in the daemon's words. */
export async function call(socket: string, method: string, path: string, body?: unknown): Promise<unknown> {
  try {
    return await exchange(socket, method, path, body)
  } catch (error) {
    if (method !== 'GET' || !(error instanceof ForbiddenError)) throw error
    // Who may not change anything may be allowed to look.
    return await exchange(join(dirname(socket), READ_SOCKET_NAME), method, path, body).catch(() => {
      throw error
    })
  }
}

/** Asks for what is no JSON, in pieces as they come. */
export async function* getBytes(socket: string, path: string): AsyncGenerator<Uint8Array> {
  let incoming: IncomingMessage
  try {
    incoming = await ask(socket, path)
  } catch (error) {
    if (!(error instanceof ForbiddenError)) throw error
    incoming = await ask(join(dirname(socket), READ_SOCKET_NAME), path).catch(() => {
      throw error
    })
  }
  yield* bytesOf(incoming, `GET ${path}`)
}

/** The same of a request that is more than a question. */
export async function* postBytes(socket: string, path: string, body: unknown): AsyncGenerator<Uint8Array> {
  yield* bytesOf(await ask(socket, path, JSON.stringify(body)), `POST ${path}`)
}

async function* bytesOf(incoming: IncomingMessage, question: string): AsyncGenerator<Uint8Array> {
  const status = incoming.statusCode ?? 0
  if (status < 300) {
    yield* incoming
    return
  }
  const parts: Buffer[] = []
  for await (const part of incoming) parts.push(part)
  let message: string | null = null
  try {
    message = errorOf(JSON.parse(Buffer.concat(parts).toString()))
  } catch {
    // It does not speak our language.
  }
  throw new ClientError(message ?? `The daemon answered ${status} to ${question}`)
}

function ask(socketPath: string, path: string, payload?: string): Promise<IncomingMessage> {
  const how = payload === undefined ? {} : { method: 'POST', headers: { 'content-type': 'application/json' } }
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, path, agent: false, ...how }, resolve)
    outgoing.on('error', (error: NodeJS.ErrnoException) => reject(noDaemon(socketPath, error)))
    outgoing.end(payload)
  })
}

function exchange(socket: string, method: string, path: string, body: unknown): Promise<unknown> {
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
