/** A name server answers without an error (RFC 1035). One that is cut short is one, too. */

import { randomInt } from 'node:crypto'
import { decode, encode, type Packet } from 'dns-packet'
import type { CheckQuestion } from '../../../model/check.ts'
import { closeQuietly, dialDatagrams } from '../dial.ts'
import { bad, good, type Job, type Verdict } from '../protocol.ts'
import { receive } from './udp.ts'

type DnsQuestion = CheckQuestion & { readonly kind: 'dns' }

export async function askDns(job: Job, question: DnsQuestion, signal: AbortSignal): Promise<Verdict> {
  const id = randomInt(1, 0xffff)
  const query: Packet = {
    type: 'query',
    id,
    flags: 0x100,
    questions: [{ type: question.type, name: question.name }],
  }
  const socket = await dialDatagrams(job, signal)
  try {
    socket.send(encode(query))
    for (;;) {
      const answer = decode(await receive(socket, signal))
      if (answer.id !== id) continue
      return judge(question, answer as Decoded)
    }
  } finally {
    closeQuietly(socket)
  }
}

interface Decoded extends Packet {
  readonly rcode?: string
}

function judge({ name, type }: DnsQuestion, answer: Decoded): Verdict {
  const code = answer.rcode ?? 'NOERROR'
  // keepalived's meaning: a server that says so is there, whatever it knows of the name is in the code.
  if (code !== 'NOERROR') return bad(`DNS ${code} for ${name} ${type}`)
  return good(`DNS NOERROR, ${answer.answers?.length ?? 0} answers`)
}
