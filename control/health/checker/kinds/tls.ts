/** A TLS session is opened. */
import { once } from 'node:events'
import type { TLSSocket } from 'node:tls'
import type { CheckTls } from '../../../model/check.ts'
import { dial, hangUp, secure } from '../dial.ts'
import { good, type Job, type Verdict } from '../protocol.ts'

export async function askTls(job: Job, tls: CheckTls, signal: AbortSignal): Promise<Verdict> {
  const socket = dial(job, signal)
  try {
    const session = await opened(secure(socket, tls), signal)
    const { valid_to: until } = session.getPeerCertificate()
    return good(`${session.getProtocol() ?? 'TLS'}, certificate until ${until || 'unknown'}`)
  } finally {
    hangUp(socket)
  }
}

/** When the session is open and, if that is wanted, its certificate found good. */
export async function opened(session: TLSSocket, signal: AbortSignal): Promise<TLSSocket> {
  // Errors after the one that is waited for have nobody to tell.
  session.on('error', () => {})
  await once(session, 'secureConnect', { signal })
  return session
}
