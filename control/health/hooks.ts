/**
 * Programs that are run when something has happened. Nobody waits for them; one that never ends is ended. Few
 * run at a time, those about one service or real server one after the other; while one of these runs, only the
 * last of what has happened meanwhile waits: a program that takes a second is told where a flapping check ended
 * up, not of every turn it took.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Hook } from '../model/health-policy.ts'
import { cannotRun, PROGRAM_PATH, userNamed } from './checker/kinds/exec.ts'

const LIMIT_MS = 60_000
/** Each is a process, and a rack that fails is a thousand real servers. */
const RUNNING_MAX = 16

type Environment = Readonly<Record<string, string>>
export type RunHook = (hook: Hook, environment: Environment) => void

interface Due {
  readonly hook: Hook
  readonly environment: Environment
}

export class Hooks {
  readonly #log: (message: string) => void
  /** What they are about, of those that run. */
  readonly #running = new Set<string>()
  /** The last of each, in the order in which they came first. */
  readonly #waiting = new Map<string, Due>()
  #skipped = 0

  constructor(log: (message: string) => void) {
    this.#log = log
  }

  readonly run: RunHook = (hook, environment) => {
    const about = aboutOf(environment)
    if (this.#waiting.has(about)) this.#skip()
    this.#waiting.set(about, { hook, environment })
    this.#next()
  }

  /** The daemon ends: whoever waits is run now. */
  hurry(): void {
    for (const due of this.#waiting.values()) this.#start(due, () => {})
    this.#waiting.clear()
  }

  #skip(): void {
    // Once for all that is skipped in a row.
    if (this.#skipped++ === 0)
      this.#log('Hooks take longer than what they are told of: changes in between are skipped')
  }

  #next(): void {
    for (const [about, due] of this.#waiting) {
      if (this.#running.size >= RUNNING_MAX) return
      if (this.#running.has(about)) continue
      this.#waiting.delete(about)
      this.#running.add(about)
      this.#start(due, () => {
        this.#running.delete(about)
        if (this.#waiting.size === 0) this.#skipped = 0
        this.#next()
      })
    }
  }

  #start({ hook: { command, user }, environment }: Due, ended: () => void): void {
    const [program = '', ...words] = command
    const failed = (message: string): void => {
      this.#log(message)
      // Not from within: a thousand that cannot be run would each call the next.
      setImmediate(ended)
    }
    const identity = user === null ? null : userNamed(user)
    if (typeof identity === 'string') {
      failed(`${program}: ${identity}`)
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
      failed(cannotRun(program, user, error))
      return
    }
    const late = setTimeout(() => {
      this.#log(`${program} did not end within ${LIMIT_MS / 1000} s: it is ended`)
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // It has just ended.
      }
    }, LIMIT_MS).unref()
    child.once('error', (error) => {
      clearTimeout(late)
      failed(cannotRun(program, user, error))
    })
    child.once('exit', (status, signal) => {
      clearTimeout(late)
      if (status !== 0) this.#log(`${program} ended with ${status ?? signal}`)
      ended()
    })
    child.unref()
  }
}

/** What a hook is told of, but for what has become of it. */
function aboutOf({ POINTSMAN_SERVICE = '', POINTSMAN_REAL_SERVER = '' }: Environment): string {
  return `${POINTSMAN_SERVICE} ${POINTSMAN_REAL_SERVER}`
}
