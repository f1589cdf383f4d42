/** Whoever serves asks itself whether it does, and is in the registry only while the answer is yes. */
import { setTimeout as sleep } from 'node:timers/promises'
import { familyOf } from '../../../net/address.ts'
import { parseEndpoint } from '../../../net/endpoint.ts'
import { ask } from '../../health/checker/ask.ts'
import type { Job } from '../../health/checker/protocol.ts'
import type { CheckQuestion } from '../../model/check.ts'

/** So many questions within the time to live, */
const QUESTIONS = 4
/** of which so many bad ones in a row are enough. */
const FALL = 2

/** `tcp`, `http:/health`, `https:/health`, `grpc`, `exec:PROGRAM ARGUMENT...`; null: it is none of them. */
export function parseSelfCheck(text: string): CheckQuestion | null {
  const [, kind = '', rest] = /^([a-z]+)(?::(.*))?$/s.exec(text) ?? []
  const tls = { serverName: null, verify: false, ca: null }
  switch (kind) {
    case 'tcp':
      return rest === undefined ? { kind } : null
    case 'grpc':
      return { kind, service: rest ?? '', tls: null }
    case 'http':
    case 'https': {
      const path = rest ?? '/'
      if (!/^\/\S*$/.test(path)) return null
      const request = { path, status: [{ from: 200, to: 399 }], body: null, digest: null }
      // Of itself it knows who it is.
      return {
        kind: 'http',
        tls: kind === 'https' ? tls : null,
        method: 'GET',
        version: '1.1',
        host: null,
        requests: [request],
      }
    }
    case 'exec': {
      const command = (rest ?? '').trim().split(/\s+/).filter(Boolean)
      return command.length === 0 ? null : { kind, command, user: null, result: 'status' }
    }
    default:
      return null
  }
}

/** Tells each change of its state, the first answer included, until the signal. */
export async function watchSelf(
  question: CheckQuestion,
  endpoint: string,
  ttlMs: number,
  told: (up: boolean, words: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { address, port } = parseEndpoint(endpoint)!
  const everyMs = ttlMs / QUESTIONS
  const job: Job = {
    id: 1,
    question,
    to: { address, family: familyOf(address), port: port ?? 0 },
    from: null,
    device: null,
    timeoutMs: Math.max(100, everyMs * 0.8),
    environment: { POINTSMAN_REAL_SERVER: endpoint },
  }
  let up: boolean | null = null
  let bad = 0
  while (!signal.aborted) {
    const began = performance.now()
    const { state, words } = await ask(job)
    if (signal.aborted) return
    bad = state === 'good' ? 0 : bad + 1
    const now: boolean | null = state === 'good' ? true : up === null || bad >= FALL ? false : up
    if (now !== up) {
      up = now
      told(now === true, words)
    }
    const restMs = Math.max(20, everyMs - (performance.now() - began))
    await sleep(restMs, undefined, { signal }).catch(() => {})
  }
}
