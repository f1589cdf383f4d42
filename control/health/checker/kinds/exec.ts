/**
 * A program: exit status 0 is good. In its dynamic form (keepalived's MISC_CHECK) 1 is bad, and 2 to 255 are
 * a weight plus 2. It runs in a session of its own, so that what it has started ends with it.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { CheckQuestion } from '../../../model/check.ts'
import { bad, good, type Job, type Verdict } from '../protocol.ts'

type ExecQuestion = CheckQuestion & { readonly kind: 'exec' }

const OUTPUT_MAX = 200
export const PROGRAM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export function askExec(job: Job, question: ExecQuestion, signal: AbortSignal): Promise<Verdict> {
  const [program = '', ...words] = question.command
  const user = question.user === null ? null : userNamed(question.user)
  if (typeof user === 'string') return Promise.resolve({ state: 'void', words: user })
  return new Promise((resolve) => {
    const child = spawn(program, words, {
      detached: true,
      cwd: '/',
      env: { PATH: PROGRAM_PATH, ...job.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(user ?? {}),
    })
    let said = ''
    const note = (part: Buffer) => {
      if (said.length < OUTPUT_MAX) said += part.toString('latin1')
    }
    child.stdout.on('data', note)
    child.stderr.on('data', note)
    child.once('error', (error) =>
      resolve({ state: 'void', words: `Cannot run ${program}: ${error.message}` }),
    )
    child.once('exit', (status, killed) => {
      endGroup(child.pid)
      resolve(judge(question, status, killed, said))
    })
    signal.addEventListener('abort', () => endGroup(child.pid), { once: true })
  })
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
