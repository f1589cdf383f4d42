/**
 * HTTP: every request on a connection of its own, as most checks of others do. Answers are read by hand, so
 * that HTTP/1.0 can be spoken, and a body of any length costs no memory.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { endpointText } from '../../../../net/endpoint.ts'
import type { CheckQuestion, HttpRequest } from '../../../model/check.ts'
import { dial, hangUp, secure } from '../dial.ts'
import { bad, good, type Job, type Verdict } from '../protocol.ts'
import { Talk, Unexpected } from '../talk.ts'
import { opened } from './tls.ts'

type HttpQuestion = CheckQuestion & { readonly kind: 'http' }

/** A pattern is looked for in so much of a body. */
const PATTERN_BYTES = 1 << 20
const HEADERS_MAX = 200

export async function askHttp(job: Job, question: HttpQuestion, signal: AbortSignal): Promise<Verdict> {
  let last = good('nothing asked')
  for (const request of question.requests) {
    last = await one(job, question, request, signal)
    if (last.state !== 'good') break
  }
  return last
}

async function one(
  job: Job,
  question: HttpQuestion,
  request: HttpRequest,
  signal: AbortSignal,
): Promise<Verdict> {
  const socket = dial(job, signal)
  try {
    let stream: Socket = socket
    if (question.tls === null) await once(socket, 'connect', { signal })
    else stream = await opened(secure(socket, question.tls), signal)
    const talk = new Talk(stream)
    talk.send(requestText(job, question, request))
    const answer = await readAnswer(talk, question.method === 'HEAD', request)
    return judge(answer, request)
  } finally {
    hangUp(socket)
  }
}

function requestText({ to }: Job, { method, version, host }: HttpQuestion, { path }: HttpRequest): string {
  const named = host ?? endpointText(to)
  return [
    `${method} ${path} HTTP/${version}`,
    `Host: ${named}`,
    'User-Agent: pointsman',
    'Accept: */*',
    'Connection: close',
    '',
    '',
  ].join('\r\n')
}

interface Answer {
  readonly status: number
  /** As much of it as a pattern may look at. */
  readonly body: Buffer
  readonly bytes: number
  readonly digest: string | null
}

async function readAnswer(talk: Talk, head: boolean, { digest, body }: HttpRequest): Promise<Answer> {
  let status = 0
  let headers = new Map<string, string>()
  // Others come before it: 100, 103.
  do {
    const first = await talk.line('the status line')
    if (first === null) throw new Unexpected('the connection was closed without an answer')
    const match = /^HTTP\/\d\.\d (\d{3})/.exec(first)
    if (match === null) throw new Unexpected(`no HTTP: ${JSON.stringify(first.slice(0, 80))}`)
    status = Number(match[1])
    headers = await readHeaders(talk)
  } while (status < 200)
  const hash = digest === null ? null : createHash(digest.algorithm)
  const parts: Buffer[] = []
  let bytes = 0
  let kept = 0
  const wanted = hash !== null || body !== null
  if (wanted && !head && status !== 204 && status !== 304) {
    for await (const part of bodyOf(talk, headers)) {
      hash?.update(part)
      bytes += part.length
      if (body !== null && kept < PATTERN_BYTES) {
        parts.push(Buffer.from(part.subarray(0, PATTERN_BYTES - kept)))
        kept += part.length
      }
    }
  }
  return { status, body: Buffer.concat(parts), bytes, digest: hash?.digest('hex') ?? null }
}

async function readHeaders(talk: Talk): Promise<Map<string, string>> {
  const headers = new Map<string, string>()
  for (let n = 0; n < HEADERS_MAX; n++) {
    const line = await talk.line('a header')
    if (line === null) throw new Unexpected('the connection was closed within the headers')
    if (line === '') return headers
    const colon = line.indexOf(':')
    if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim())
  }
  throw new Unexpected(`more than ${HEADERS_MAX} headers`)
}

const PART_BYTES = 64 * 1024

async function* bodyOf(talk: Talk, headers: ReadonlyMap<string, string>): AsyncGenerator<Buffer> {
  if (/\bchunked\b/i.test(headers.get('transfer-encoding') ?? '')) {
    for (;;) {
      const line = await talk.line('a chunk')
      const size = line === null ? Number.NaN : Number.parseInt(line, 16)
      if (!(size >= 0)) throw new Unexpected('the body ended within its chunks')
      if (size === 0) return
      yield* exactly(talk, size)
      await talk.line('the end of a chunk')
    }
  }
  const length = headers.get('content-length')
  if (length !== undefined && /^\d{1,15}$/.test(length)) {
    yield* exactly(talk, Number(length))
    return
  }
  for (let part = await talk.some(PART_BYTES); part !== null; part = await talk.some(PART_BYTES)) yield part
}

async function* exactly(talk: Talk, bytes: number): AsyncGenerator<Buffer> {
  for (let left = bytes; left > 0; ) {
    const part = await talk.some(Math.min(left, PART_BYTES))
    if (part === null) throw new Unexpected(`the body ended ${left} bytes early`)
    left -= part.length
    yield part
  }
}

function judge({ status, body, bytes, digest }: Answer, request: HttpRequest): Verdict {
  const wanted = request.status.map(({ from, to }) => (from === to ? `${from}` : `${from}-${to}`)).join(', ')
  const said = `HTTP ${status}`
  if (!request.status.some(({ from, to }) => status >= from && status <= to)) {
    return bad(`${said}, wanted ${wanted}`)
  }
  if (request.digest !== null && digest !== request.digest.hex) {
    return bad(`${said}, ${request.digest.algorithm} of the body is ${digest}, wanted ${request.digest.hex}`)
  }
  if (request.body !== null && !new RegExp(request.body, 's').test(body.toString('utf8'))) {
    return bad(`${said}, nothing in ${bytes} bytes of body matches ${request.body}`)
  }
  return good(said)
}
