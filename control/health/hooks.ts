/** Programs that are run when something has happened. Nobody waits for them; one that never ends is ended. */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Hook } from '../model/health-policy.ts'
import { cannotRun, PROGRAM_PATH, userNamed } from './checker/kinds/exec.ts'

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
    let child: ChildProcess
    try {
      child = spawn(program, words, {
        ...{ detached: true, cwd: '/', stdio: 'ignore' },
        env: { PATH: PROGRAM_PATH, ...environment },
        ...(identity ?? {}),
      })
    } catch (error) {
      // Some of what the system refuses is thrown, some is told as an event.
      log(cannotRun(program, user, error))
      return
    }
    const late = setTimeout(() => {
      log(`${program} did not end within ${LIMIT_MS / 1000} s: it is ended`)
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // It has just ended.
      }
    }, LIMIT_MS).unref()
    child.once('error', (error) => {
      clearTimeout(late)
      log(cannotRun(program, user, error))
    })
    child.once('exit', (status, signal) => {
      clearTimeout(late)
      if (status !== 0) log(`${program} ended with ${status ?? signal}`)
    })
    child.unref()
  }
}
