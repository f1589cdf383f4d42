/** Requests to registries that speak HTTP: with a time limit, an end of what is taken, and streams by lines. */
import { Agent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { Agent as TlsAgent, request as tlsRequest } from 'node:https'
import { StringDecoder } from 'node:string_decoder'
import type { RegistryTls } from '../model/pool.ts'
import { lookupName } from './lookup.ts'
import { ANSWER_BYTES_MAX } from './registry.ts'
import { tlsOptions } from './tls.ts'

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** To the end of the answer; of a stream: to its beginning. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

export interface HttpAnswer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** An end that nobody announces is found by the other end's kernel not answering. */
const KEEP_ALIVE_MS = 10_000

/** The answer is larger than anybody wants to hold. */
export class TooLargeError extends Error {}

/** One server, or several that are the same: whoever does not answer gives way to the next. */
export class HttpEndpoints {
  readonly #urls: readonly string[]
  readonly #tls: RegistryTls | null
  #current = 0
  #agent: Agent | null = null

  constructor(urls: readonly string[], tls: RegistryTls | null) {
    this.#urls = urls
    this.#tls = tls
  }

  get url(): string {
    return this.#urls[this.#current % this.#urls.length]!
  }

  get count(): number {
    return this.#urls.length
  }

  /** The next request goes to the next one, over new connections. */
  next(): void {
    this.#current++
    this.close()
  }

  close(): void {
    this.#agent?.destroy()
    this.#agent = null
  }

  async ask(request: HttpRequest): Promise<HttpAnswer> {
    const { answer, timer } = await this.#send(request)
    try {
      let body = ''
      const decoder = new StringDecoder('utf8')
      for await (const chunk of answer) {
        body += decoder.write(chunk as Buffer)
        if (body.length > ANSWER_BYTES_MAX) {
          throw new TooLargeError(`${this.url}: the answer has more than ${ANSWER_BYTES_MAX} bytes`)
        }
      }
      return { status: answer.statusCode ?? 0, headers: answer.headers, body }
    } catch (error) {
      throw named(error, this.url)
    } finally {
      clearTimeout(timer)
      answer.destroy()
    }
  }

  /**
   * @yields lines of an answer as they come
   * @param refused what an answer is that is none of success; left out: its lines are for the caller to judge
   */
  async *lines(
    request: HttpRequest,
    idleMs = 0,
    refused: ((status: number, body: string) => Error) | null = null,
  ): AsyncGenerator<string> {
    const { answer, timer } = await this.#send(request)
    clearTimeout(timer)
    const status = answer.statusCode ?? 0
    if (refused !== null && (status < 200 || status > 299)) throw refused(status, await beginning(answer))
    if (idleMs > 0)
      answer.setTimeout(idleMs, () => answer.destroy(new Error(`${this.url}: silent for ${idleMs} ms`)))
    try {
      const decoder = new StringDecoder('utf8')
      let rest = ''
      for await (const chunk of answer) {
        const parts = (rest + decoder.write(chunk as Buffer)).split('\n')
        rest = parts.pop() ?? ''
        if (rest.length > ANSWER_BYTES_MAX) {
          throw new TooLargeError(`${this.url}: one line has more than ${ANSWER_BYTES_MAX} bytes`)
        }
        for (const line of parts) if (line.trim() !== '') yield line
      }
      if (rest.trim() !== '') yield rest
    } catch (error) {
      throw named(error, this.url)
    } finally {
      answer.destroy()
    }
  }

  /** For streams whose first answer tells whether they are any. */
  async open(request: HttpRequest): Promise<{ readonly status: number; readonly answer: IncomingMessage }> {
    const { answer, timer } = await this.#send(request)
    clearTimeout(timer)
    return { status: answer.statusCode ?? 0, answer }
  }

  #send(request: HttpRequest): Promise<{ readonly answer: IncomingMessage; readonly timer: NodeJS.Timeout }> {
    const base = this.url
    const url = new URL(base)
    const secure = url.protocol === 'https:'
    this.#agent ??= secure
      ? new TlsAgent({ keepAlive: true, ...tlsOptions(this.#tls) })
      : new Agent({ keepAlive: true })
    const options: RequestOptions = {
      method: request.method,
      path: `${url.pathname.replace(/\/$/, '')}${request.path}`,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port,
      lookup: lookupName,
      agent: this.#agent,
      headers: {
        ...request.headers,
        ...(request.body === undefined ? {} : { 'content-length': String(Buffer.byteLength(request.body)) }),
      },
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    }
    return new Promise((resolve, reject) => {
      const sent = (secure ? tlsRequest : httpRequest)(options)
      let answered: IncomingMessage | null = null
      const timer = setTimeout(() => {
        const error = new Error(`${base} has not answered within ${request.timeoutMs} ms`)
        answered?.destroy(error)
        sent.destroy(error)
      }, request.timeoutMs)
      sent.on('socket', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS))
      sent.on('response', (answer) => {
        answered = answer
        resolve({ answer, timer })
      })
      sent.on('error', (error: NodeJS.ErrnoException) => {
        clearTimeout(timer)
        reject(named(error, base))
      })
      sent.end(request.body)
    })
  }
}

/** Of an answer that is only shown. */
const SHOWN_BYTES_MAX = 4096
const SHOWN_MS_MAX = 2000

async function beginning(answer: IncomingMessage): Promise<string> {
  const late = setTimeout(() => answer.destroy(), SHOWN_MS_MAX)
  let text = ''
  try {
    for await (const chunk of answer) {
      text += String(chunk)
      if (text.length >= SHOWN_BYTES_MAX) break
    }
  } catch {
    // What has come of it says more than why the rest did not.
  } finally {
    clearTimeout(late)
    answer.destroy()
  }
  return text.slice(0, SHOWN_BYTES_MAX)
}

/** Who it is about; Node's own errors do not always say. */
function named(error: unknown, url: string): unknown {
  if (!(error instanceof Error)) return error
  const inner = error instanceof AggregateError ? error.errors[0] : error
  const text: string = inner.message || inner.code || String(inner)
  if (text.includes(url)) return error
  return new Error(`${url}: ${text === 'aborted' ? 'the connection has been broken' : text}`, {
    cause: error,
  })
}
