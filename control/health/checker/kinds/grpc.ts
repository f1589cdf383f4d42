/** grpc.health.v1.Health/Check over HTTP/2: a few bytes of protobuf each way. */
import { once } from 'node:events'
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2'
import type { Socket } from 'node:net'
import { endpointText } from '../../../../net/endpoint.ts'
import { untilAborted } from '../../../model/aborted.ts'
import type { CheckQuestion } from '../../../model/check.ts'
import { dial, hangUp, secure, standsUpon } from '../dial.ts'
import { bad, good, type Job, type Verdict } from '../protocol.ts'
import { opened } from './tls.ts'

type GrpcQuestion = CheckQuestion & { readonly kind: 'grpc' }

const STATES: readonly string[] = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN']
const BODY_MAX = 4096

export async function askGrpc(job: Job, question: GrpcQuestion, signal: AbortSignal): Promise<Verdict> {
  const socket = dial(job, signal)
  try {
    let stream: Socket = socket
    if (question.tls === null) await once(socket, 'connect', { signal })
    else stream = await opened(secure(socket, question.tls, ['h2']), signal)
    const authority = question.tls?.serverName ?? endpointText(job.to)
    const scheme = question.tls === null ? 'http' : 'https'
    const session = connect(`${scheme}://${authority}`, { createConnection: () => stream })
    standsUpon(socket, session)
    const failed = new Promise<never>((_resolve, reject) => void session.on('error', reject))
    return await Promise.race([check(session, question.service), failed, untilAborted(signal)])
  } finally {
    hangUp(socket)
  }
}

function check(session: ClientHttp2Session, service: string): Promise<Verdict> {
  const request = session.request({
    ':method': 'POST',
    ':path': '/grpc.health.v1.Health/Check',
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  return new Promise((resolve, reject) => {
    let head: IncomingHttpHeaders = {}
    let tail: IncomingHttpHeaders = {}
    let body = Buffer.alloc(0)
    request.on('response', (headers) => {
      head = headers
    })
    request.on('trailers', (headers) => {
      tail = headers
    })
    request.on('data', (part: Buffer) => {
      if (body.length < BODY_MAX) body = Buffer.concat([body, part])
    })
    request.on('error', reject)
    request.on('end', () => resolve(judge(head, tail, body)))
    request.end(message(service))
  })
}

/** HealthCheckRequest { string service = 1 }, behind "not compressed" and its length. */
function message(service: string): Buffer {
  const name = Buffer.from(service)
  const field =
    name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a]), varint(name.length), name])
  const frame = Buffer.alloc(5)
  frame.writeUInt32BE(field.length, 1)
  return Buffer.concat([frame, field])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let left = value
  for (; left > 0x7f; left >>>= 7) bytes.push((left & 0x7f) | 0x80)
  return Buffer.from([...bytes, left])
}

function judge(head: IncomingHttpHeaders, tail: IncomingHttpHeaders, body: Buffer): Verdict {
  const http = head[':status'] as unknown as number | undefined
  if (http !== 200) return bad(`HTTP ${http ?? 'without a status'}, wanted 200`)
  // Without a body it stands in the headers (trailers-only).
  const status = tail['grpc-status'] ?? head['grpc-status']
  if (status !== '0') {
    const text = tail['grpc-message'] ?? head['grpc-message']
    return bad(`gRPC status ${status ?? 'missing'}${text === undefined ? '' : ` (${text})`}, wanted 0`)
  }
  const state = statusOf(body)
  const name = STATES[state] ?? `state ${state}`
  return name === 'SERVING' ? good(name) : bad(`${name}, wanted SERVING`)
}

/** HealthCheckResponse { ServingStatus status = 1 }; left out it is 0. */
function statusOf(body: Buffer): number {
  for (let at = 5; at + 1 < body.length; ) {
    const tag = body[at]!
    if (tag === 0x08) return body[at + 1]!
    // Fields of later versions: none that has no length is known.
    if ((tag & 7) !== 2) break
    at += 2 + body[at + 1]!
  }
  return 0
}
