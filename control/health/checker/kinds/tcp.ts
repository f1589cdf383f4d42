/** A connection is accepted. */
import { once } from 'node:events'
import { dial, hangUp } from '../dial.ts'
import { good, type Job, type Verdict } from '../protocol.ts'

export async function askTcp(job: Job, signal: AbortSignal): Promise<Verdict> {
  const socket = dial(job, signal)
  try {
    await once(socket, 'connect', { signal })
    return good('connected')
  } finally {
    hangUp(socket)
  }
}
