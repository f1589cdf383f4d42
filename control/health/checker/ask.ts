/** One question, its answer, and its time limit. */

import { askAgent } from './kinds/agent.ts'
import { askDns } from './kinds/dns.ts'
import { askExec } from './kinds/exec.ts'
import { askFile } from './kinds/file.ts'
import { askGrpc } from './kinds/grpc.ts'
import { askHttp } from './kinds/http.ts'
import { askPing } from './kinds/ping.ts'
import { askSmtp } from './kinds/smtp.ts'
import { askTcp } from './kinds/tcp.ts'
import { askTls } from './kinds/tls.ts'
import { askUdp } from './kinds/udp.ts'
import type { Job, Reply, Verdict } from './protocol.ts'

export async function ask(job: Job): Promise<Reply> {
  const startedMs = performance.now()
  const limit = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Verdict>((resolve) => {
    timer = setTimeout(() => {
      resolve({ state: 'bad', words: `no answer within ${job.timeoutMs} ms` })
      limit.abort(new Error('time limit'))
    }, job.timeoutMs)
  })
  let verdict: Verdict
  try {
    const asked = question(job, limit.signal)
    // After the limit nobody waits for it any more.
    asked.catch(() => {})
    verdict = await Promise.race([asked, late])
  } catch (error) {
    verdict = failure(error)
  } finally {
    clearTimeout(timer)
    limit.abort()
  }
  return { id: job.id, ...verdict, ms: Math.round((performance.now() - startedMs) * 10) / 10 }
}

async function question(job: Job, signal: AbortSignal): Promise<Verdict> {
  const { question: asked } = job
  switch (asked.kind) {
    case 'tcp':
      return await askTcp(job, signal)
    case 'http':
      return await askHttp(job, asked, signal)
    case 'tls':
      return await askTls(job, asked.tls, signal)
    case 'dns':
      return await askDns(job, asked, signal)
    case 'smtp':
      return await askSmtp(job, asked.helo, signal)
    case 'udp':
      return await askUdp(job, asked, signal)
    case 'ping':
      return await askPing(job, signal)
    case 'grpc':
      return await askGrpc(job, asked, signal)
    case 'exec':
      return await askExec(job, asked, signal)
    case 'file':
      return await askFile(asked.file, asked.factor)
    case 'agent':
      return await askAgent(job, asked.send, signal)
    default:
      return asked satisfies never
  }
}

/** What the kernel says for which state of the other end. */
const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused: nobody listens on that port',
  ECONNRESET: 'connection reset',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'network unreachable',
  EPIPE: 'connection closed',
}
/** Nothing that the other end has anything to do with. */
const OURS: ReadonlySet<string> = new Set([
  ...['EADDRNOTAVAIL', 'EADDRINUSE', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EPERM', 'EACCES', 'ENODEV'],
  'EAFNOSUPPORT',
])

function failure(error: unknown): Verdict {
  const { code, message } = error as { readonly code?: string; readonly message?: string }
  const words = (code === undefined ? undefined : WORDS[code]) ?? message ?? String(error)
  return { state: code !== undefined && OURS.has(code) ? 'void' : 'bad', words }
}
