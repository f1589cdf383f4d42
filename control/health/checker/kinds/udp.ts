/** A datagram: an ICMP error means that nobody is there. Silence is good unless an answer is wanted. */
import type { Socket } from 'node:dgram'
import { onAbort } from '../../../model/aborted.ts'
import type { CheckQuestion } from '../../../model/check.ts'
import { closeQuietly, dialDatagrams } from '../dial.ts'
import { bad, good, type Job, type Verdict } from '../protocol.ts'

type UdpQuestion = CheckQuestion & { readonly kind: 'udp' }

/** An ICMP error comes within a round trip; so long is listened for one where no answer is wanted. */
const LISTEN_SHARE = 0.8
const PAUSE_MS = 100

export async function askUdp(job: Job, question: UdpQuestion, signal: AbortSignal): Promise<Verdict> {
  const { required, match } = question.reply
  const payload = Buffer.from(question.payload, 'hex')
  const socket = await dialDatagrams(job, signal)
  try {
    const answer = receive(socket, signal)
    socket.send(payload)
    if (!required && match === null) {
      // A second one finds out what the first one's error was, where the kernel limits errors.
      const again = setTimeout(() => {
        try {
          socket.send(payload)
        } catch {
          // The first has been answered.
        }
      }, PAUSE_MS)
      const silence = new Promise<null>((resolve) => {
        const timer = setTimeout(() => resolve(null), Math.max(PAUSE_MS, job.timeoutMs * LISTEN_SHARE))
        onAbort(signal, () => clearTimeout(timer))
      })
      const got = await Promise.race([answer, silence]).finally(() => clearTimeout(again))
      return good(got === null ? 'no ICMP error' : `answered ${got.length} bytes`)
    }
    const got = await answer
    if (match !== null && !new RegExp(match, 's').test(got.toString('latin1'))) {
      return bad(`answered ${got.length} bytes, nothing in them matches ${match}`)
    }
    return good(`answered ${got.length} bytes`)
  } finally {
    closeQuietly(socket)
  }
}

/** The first datagram; rejects with an ICMP error or when the time is over. */
export function receive(socket: Socket, signal: AbortSignal): Promise<Buffer> {
  const received = new Promise<Buffer>((resolve, reject) => {
    socket.once('message', resolve)
    socket.on('error', reject)
    onAbort(signal, () => reject(signal.reason))
  })
  // Whoever waits for something else first is told of it later.
  received.catch(() => {})
  return received
}
