/**
 * A program: exit status 0 is good. In its dynamic form (keepalived's MISC_CHECK) 1 is bad, and 2 to 255 are
 * a weight plus 2. It runs in a session of its own, so that what it has started ends with it.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { onAbort } from '../../../model/aborted.ts'
import type { CheckQuestion } from '../../../model/check.ts'
import { bad, good, type Job, type Verdict } from '../protocol.ts'

type ExecQuestion = CheckQuestion & { readonly kind: 'exec' }

const OUTPUT_MAX = 200
/** What has been said is there at once when all have ended. */
const OUTPUT_MS = 100
export const PROGRAM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export function askExec(job: Job, question: ExecQuestion, signal: AbortSignal): Promise<Verdict> {
  const [program = '', ...words] = question.command
  const user = question.user === null ? null : userNamed(question.user)
  if (typeof user === 'string') return Promise.resolve({ state: 'void', words: user })
  return new Promise((resolve) => {
    const trouble = (error: unknown) =>
      resolve({ state: 'void', words: cannotRun(program, question.user, error) })
    let child: ChildProcessByStdio<null, Readable, Readable>
    try {
      child = spawn(program, words, {
        detached: true,
        cwd: '/',
        env: { PATH: PROGRAM_PATH, ...job.environment },
        stdio: ['ignore', 'pipe', 'pipe'],
        ...(user ?? {}),
      })
    } catch (error) {
      trouble(error)
      return
    }
    const { pid } = child
    if (pid !== undefined) running.add(pid)
    let said = ''
    const note = (part: Buffer) => {
      if (said.length < OUTPUT_MAX) said += part.toString('utf8')
    }
    child.stdout.on('data', note)
    child.stderr.on('data', note)
    child.once('error', trouble)
    child.once('exit', (status, killed) => {
      endGroup(pid)
      if (pid !== undefined) running.delete(pid)
      // What it has left in a session of its own may hold its output open for ever.
      const late = setTimeout(() => {
        child.stdout.destroy()
        child.stderr.destroy()
      }, OUTPUT_MS)
      child.once('close', () => {
        clearTimeout(late)
        resolve(judge(question, status, killed, said))
      })
    })
    onAbort(signal, () => endGroup(pid))
  })
}

/** Programs that have not ended, by their sessions. */
const running = new Set<number>()

/** Nobody waits for any of them any more. */
export function endPrograms(): void {
  for (const pid of running) endGroup(pid)
}

/** What could not be run, and what would mend it. */
export function cannotRun(program: string, user: string | null, error: unknown): string {
  const { code, message } = error as { readonly code?: string; readonly message?: string }
  const as = user === null ? '' : ` as ${JSON.stringify(user)}`
  const remedy =
    user !== null && code === 'EPERM'
      ? ': leave out its user, or let the daemon change users: CapabilityBoundingSet=CAP_SETUID CAP_SETGID in its unit (systemctl edit pointsmand)'
      : ''
  return `Cannot run ${program}${as}: ${message ?? String(error)}${remedy}`
}

/** Whatever it does, it is over: also those that it has started and not waited for. */
function endGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nobody is left.
  }
}

function judge(question: ExecQuestion, status: number | null, killed: string | null, said: string): Verdict {
  const line = said.trim().split('\n')[0]?.slice(0, OUTPUT_MAX) ?? ''
  const words = `${status === null ? `ended by ${killed}` : `exit status ${status}`}${line && `: ${line}`}`
  if (status === 0) return good(words)
  if (question.result === 'weight' && status !== null && status >= 2) {
    return { ...good(`${words}, weight ${status - 2}`), weight: { kind: 'is', weight: status - 2 } }
  }
  return bad(words)
}

/** By /etc/passwd; a sentence if there is none. */
export function userNamed(name: string): { readonly uid: number; readonly gid: number } | string {
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [user, , uid, gid] = line.split(':')
    if (user === name || uid === name) return { uid: Number(uid), gid: Number(gid) }
  }
  return `Cannot run it as ${JSON.stringify(name)}: /etc/passwd has no such user`
}
