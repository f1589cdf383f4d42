/**
 * `POST /v1/netlink`: where the preload library (deploy/preload/) hands over what a program sends to the
 * kernel's IPVS. The body is one datagram of netlink messages, and so is the answer. `GET /v1/ip_vs_conn`
 * is the file of that name below /proc/net.
 */
import { isMachineTrouble } from '../../../linux/machine-error.ts'
import { decodeMessages } from '../../../linux/netlink/message.ts'
import type { Director } from '../../model/director.ts'
import { CapacityError } from '../../plan/plan.ts'
import { type Answer, type Endpoint, invalid } from '../api/route.ts'
import { answer, failed } from './answer.ts'
import { connectionFile } from './connection-file.ts'

/** A request is some 200 bytes; clients' send buffers hold no more than this. */
const DATAGRAM_MAX = 64 * 1024

export function netlinkEndpoints(): readonly Endpoint[] {
  return [
    {
      method: 'POST',
      path: '/v1/netlink',
      bodyMax: DATAGRAM_MAX,
      alone: false,
      handle: ({ director }, { body }) => carryOut(director, body),
    },
    {
      method: 'GET',
      path: '/v1/ip_vs_conn',
      bodyMax: 0,
      alone: false,
      handle: ({ director }) => ({
        status: 200,
        headers: { 'content-type': 'application/octet-stream' },
        pieces: connectionFile(director.connections()),
      }),
    },
  ]
}

async function carryOut(director: Director, body: Buffer): Promise<Answer> {
  const requests = decodeMessages(body)
  if (requests.length === 0) {
    const message = `Expected netlink messages, got ${body.length} bytes that are none`
    return invalid([{ path: 'body', message }])
  }
  const parts: Uint8Array[] = []
  for (const request of requests) {
    const answered = answer(request, director)
    parts.push(answered.changed === null ? answered.bytes : await settle(director, request, answered))
  }
  return bytes(Buffer.concat(parts))
}

/** What a client hears of a change is said when it is in force. */
async function settle(
  director: Director,
  request: Parameters<typeof answer>[0],
  { bytes, changed }: ReturnType<typeof answer>,
): Promise<Uint8Array> {
  try {
    await director.settle(changed ?? [])
    return bytes
  } catch (error) {
    // What we did wrong is no answer of the kernel's.
    if (!(error instanceof CapacityError) && !isMachineTrouble(error)) throw error
    return failed(request)
  }
}

const bytes = (content: Buffer): Answer => ({ status: 200, headers: {}, bytes: content })
