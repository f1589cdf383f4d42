/** A stand as the stopwatch sees it. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Answers, Ask, Reply } from './protocol.ts'

/** Loading a program of this size into a kernel takes seconds, and more on a busy machine. */
const PATIENCE_MS = 120_000

export class StandClient {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number | null, (reply: Reply) => void>()
  #next = 0

  private constructor(child: ChildProcess) {
    this.#child = child
    child.on('message', (reply: Reply) => {
      const take = this.#waiting.get(reply.number)
      this.#waiting.delete(reply.number)
      take?.(reply)
    })
    child.on('exit', (status, signal) => {
      const why = `its stand ended with ${status ?? signal}`
      for (const [number, take] of this.#waiting) take({ number, ok: false, why })
      this.#waiting.clear()
    })
  }

  /** @param tree folder of a built checkout, with `stand.ts` in it */
  static async start(tree: string): Promise<StandClient> {
    const child = fork(join(tree, 'bench/against/stand.ts'), [], {
      cwd: tree,
      execArgv: ['--import', import.meta.resolve('tsx')],
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    const client = new StandClient(child)
    await client.#reply(null)
    return client
  }

  async ask<Name extends Ask['ask']>(asked: Extract<Ask, { ask: Name }>): Promise<Answers[Name]> {
    const number = this.#next++
    const reply = this.#reply(number)
    this.#child.send({ number, asked })
    return (await reply) as Answers[Name]
  }

  async #reply(number: number | null): Promise<unknown> {
    const late = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE_MS)
    const reply = await new Promise<Reply>((resolve) => this.#waiting.set(number, resolve))
    clearTimeout(late)
    if (!reply.ok) throw new Error(reply.why)
    return reply.answer
  }

  /** It removes its network namespace. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const gone = once(this.#child, 'exit')
    if (this.#child.connected) this.#child.disconnect()
    const late = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE_MS)
    await gone
    clearTimeout(late)
  }
}
