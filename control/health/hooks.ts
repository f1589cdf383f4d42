/** Programs that are run when something has happened. Nobody waits for them; one that never ends is ended. */
import { spawn } from 'node:child_process'
import type { Hook } from '../model/health-policy.ts'
import { PROGRAM_PATH, userNamed } from './checker/kinds/exec.ts'

const LIMIT_MS = 60_000

export type RunHook = (hook: Hook, environment: Readonly<Record<string, string>>) => void

export function hookRunner(log: (message: string) => void): RunHook {
  return ({ command, user }, environment) => {
    const [program = '', ...words] = command
    const identity = user === null ? null : userNamed(user)
    if (typeof identity === 'string') {
      log(`${program}: ${identity}`)
      return
    }
    const child = spawn(program, words, {
      ...{ detached: true, cwd: '/', stdio: 'ignore' },
      env: { PATH: PROGRAM_PATH, ...environment },
      ...(identity ?? {}),
    })
    const late = setTimeout(() => {
      log(`${program} did not end within ${LIMIT_MS / 1000} s: it is ended`)
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // It has just ended.
      }
    }, LIMIT_MS).unref()
    child.once('error', (error) => log(`Cannot run ${program}: ${error.message}`))
    child.once('exit', (status, signal) => {
      clearTimeout(late)
      if (status !== 0) log(`${program} ended with ${status ?? signal}`)
    })
    child.unref()
  }
}
