/**
 * The program that asks: a child of the daemon, so that no answer, no certificate and no script can hold up
 * who forwards by rules. It owns the pair of links that questions over a service's way take, and takes it
 * away when the daemon is gone, however that ended.
 */
import { makeProbePair, type ProbePair, removeProbePair } from '../../../linux/netlink/probe-pair.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { ask } from './ask.ts'
import { endPrograms } from './kinds/exec.ts'
import type { FromChecker, Reply, ToChecker } from './protocol.ts'

function tell(message: FromChecker): void {
  // The daemon is about to be gone: `disconnect` follows.
  if (process.connected) process.send?.(message, undefined, {}, () => {})
}

const netlink = new RequestSocket()
let pair: ProbePair | null = null
let why: string | null = null
try {
  pair = makeProbePair(netlink)
  why = pair.withoutIpv6
} catch (error) {
  why = error instanceof Error ? error.message : String(error)
}

function leave(): void {
  endPrograms()
  try {
    if (pair !== null) removeProbePair(netlink)
  } finally {
    process.exit(0)
  }
}

let replies: Reply[] = []
/** Those that come together are told together. */
function reply(one: Reply): void {
  if (replies.length === 0) {
    setImmediate(() => {
      tell({ kind: 'replies', replies })
      replies = []
    })
  }
  replies.push(one)
}

process.on('disconnect', leave)
// Signals of a terminal are the daemon's to hear; it tells us.
process.on('SIGINT', () => {})
process.on('SIGHUP', () => {})
process.on('SIGTERM', leave)
process.on('message', ({ jobs }: ToChecker) => {
  for (const job of jobs) {
    ask(job).then(reply, (error: unknown) => {
      reply({ id: job.id, state: 'void', words: `Cannot ask: ${String(error)}`, ms: 0 })
    })
  }
})
// What a library throws behind our back is about one question, which has its time limit.
process.on('uncaughtException', (error) => process.stderr.write(`pointsman-checker: ${error.stack}\n`))
process.on('unhandledRejection', (error) => process.stderr.write(`pointsman-checker: ${String(error)}\n`))
tell({ kind: 'ready', check: pair?.check ?? null, why })
