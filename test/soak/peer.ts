/** A process of the soak inside a host of the lab, and the questions it answers over the IPC channel. */
import { type ChildProcess, spawn } from 'node:child_process'
import { z } from 'zod'
import { typescript } from '../../lab/client.ts'
import { inNamespace } from '../../lab/namespace.ts'

const START_TIMEOUT_MS = 120_000
/** Longer than anything a peer waits for by itself. */
const ANSWER_TIMEOUT_MS = 120_000

const replySchema = z.object({ id: z.number(), error: z.string().nullable(), answer: z.unknown() })
type Reply = z.infer<typeof replySchema>

export interface Question {
  readonly id: number
  readonly verb: string
  readonly ask: unknown
}

export type Handlers = Readonly<Record<string, (ask: unknown) => unknown>>

/** In the process: answers questions until the channel closes, then ends. */
export function answerQuestions(handlers: Handlers): void {
  const answer = async ({ id, verb, ask }: Question): Promise<Reply> => {
    try {
      const handler = handlers[verb]
      if (handler === undefined) throw new Error(`No handler for "${verb}"`)
      return { id, error: null, answer: (await handler(ask)) ?? null }
    } catch (error) {
      return { id, error: error instanceof Error ? error.message : String(error), answer: null }
    }
  }
  process.on('message', (question: Question) => {
    void answer(question).then((reply) => process.connected && process.send?.(reply))
  })
  process.on('disconnect', () => process.exit(0))
  process.send?.({ id: 0, error: null, answer: 'ready' } satisfies Reply)
}

/** Outside: asks. */
export class Peer {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, { resolve(answer: unknown): void; reject(error: Error): void }>()
  readonly #ended: Promise<void>
  readonly #name: string
  #lastId = 0

  private constructor(name: string, child: ChildProcess) {
    this.#name = name
    this.#child = child
    child.on('message', (message) => {
      const { success, data: reply } = replySchema.safeParse(message)
      if (!success) return // whoever waits for it is told that nothing came
      const caller = this.#waiting.get(reply.id)
      this.#waiting.delete(reply.id)
      if (reply.error === null) caller?.resolve(reply.answer)
      else caller?.reject(new Error(`${name}: ${reply.error}`))
    })
    this.#ended = new Promise((resolve) => {
      const end = (why: string): void => {
        for (const caller of this.#waiting.values()) caller.reject(new Error(`${name} ended: ${why}`))
        this.#waiting.clear()
        resolve()
      }
      child.on('error', (error) => end(error.message))
      child.on('exit', (status, signal) => end(`${signal ?? `status ${status}`}`))
    })
  }

  /** Starts a TypeScript file in a namespace; returns when it is ready to answer. */
  static async start(namespace: string, source: string, args: readonly string[] = []): Promise<Peer> {
    const [program, ...rest] = inNamespace(namespace, typescript(source, args))
    const child = spawn(program, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    const peer = new Peer(namespace, child)
    try {
      await peer.#expect(0, START_TIMEOUT_MS)
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
    return peer
  }

  ask<T>(verb: string, shape: z.ZodType<T>, ask: unknown = null): Promise<T> {
    const id = ++this.#lastId
    const answer = this.#expect(id, ANSWER_TIMEOUT_MS)
    if (this.#child.connected) this.#child.send({ id, verb, ask } satisfies Question, () => {})
    return answer.then((value) => shape.parse(value))
  }

  #expect(id: number, timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#waiting.delete(id)
        reject(new Error(`${this.#name} said nothing within ${timeoutMs} ms`))
      }, timeoutMs)
      const done = (): void => clearTimeout(late)
      this.#waiting.set(id, {
        resolve: (answer) => {
          done()
          resolve(answer)
        },
        reject: (error) => {
          done()
          reject(error)
        },
      })
    })
  }

  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect()
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 3000)
    await this.#ended
    clearTimeout(late)
  }
}
