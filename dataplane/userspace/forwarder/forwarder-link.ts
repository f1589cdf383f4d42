/** A living forwarder as the daemon sees it: orders go in, each with a deadline, and it says what happens. */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { type AttachedInterface, DataplaneError } from '../../dataplane.ts'
import { type Answer, type Hello, line, lines, type Order, PROTOCOL_VERSION, type Said } from './protocol.ts'

/** It answers within milliseconds, nft and the kernel's locks included. */
const ORDER_MS = 15_000
const HELLO_MS = 2000

interface Waiting {
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: Error) => void
}

export interface LinkListener {
  log(text: string): void
  /** The connection has ended, whoever ended it. */
  closed(): void
}

export class ForwarderLink {
  readonly hello: Hello
  readonly #socket: Socket
  #listener: LinkListener | null = null
  /** What it has said before anybody listened. */
  readonly #unheard: string[] = []
  readonly #waiting = new Map<number, Waiting>()
  #interfaces: readonly AttachedInterface[]
  #number = 0
  #over = false

  /** Null when nobody answers there. Throws for one that cannot be talked to. */
  static connect(path: string): Promise<ForwarderLink | null> {
    return new Promise((resolve, reject) => {
      const socket = connect(path)
      const late = setTimeout(() => {
        socket.destroy()
        resolve(null)
      }, HELLO_MS)
      let link: ForwarderLink | null = null
      const read = lines<Said>((said) => {
        if (link !== null) {
          link.#hear(said)
          return
        }
        clearTimeout(late)
        if (!('hello' in said) || said.hello !== PROTOCOL_VERSION) {
          socket.destroy()
          reject(new DataplaneError(foreign(path, 'pid' in said ? Number(said.pid) : null)))
          return
        }
        link = new ForwarderLink(socket, said)
        resolve(link)
      })
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        try {
          read(chunk)
        } catch {
          socket.destroy()
        }
      })
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        clearTimeout(late)
        if (link === null) resolve(null)
        else link.#hangUp()
      })
    })
  }

  private constructor(socket: Socket, hello: Hello) {
    this.#socket = socket
    this.hello = hello
    this.#interfaces = hello.interfaces
  }

  listen(listener: LinkListener): void {
    this.#listener = listener
    for (const text of this.#unheard.splice(0)) listener.log(text)
    if (this.#over) listener.closed()
  }

  get over(): boolean {
    return this.#over
  }

  /** Interfaces it takes packets from; none when it is gone. */
  get interfaces(): readonly AttachedInterface[] {
    return this.#over ? [] : this.#interfaces
  }

  async order(order: Order, deadlineMs = ORDER_MS): Promise<Answer> {
    if (this.#over) throw gone()
    this.#number += 1
    const number = this.#number
    const answered = new Promise<Answer>((resolve, reject) => this.#waiting.set(number, { resolve, reject }))
    const late = setTimeout(() => {
      this.#waiting
        .get(number)
        ?.reject(
          new DataplaneError(
            `The forwarder (process ${this.hello.pid}) has not answered for ${deadlineMs / 1000} s; end it, and it is started again: kill -9 ${this.hello.pid}`,
          ),
        )
    }, deadlineMs)
    this.#socket.write(line({ ...order, number }))
    try {
      const answer = await answered
      this.#interfaces = answer.interfaces
      if (answer.error !== null) throw new DataplaneError(answer.error)
      return answer
    } finally {
      clearTimeout(late)
      this.#waiting.delete(number)
    }
  }

  #hear(said: Said): void {
    if ('number' in said) this.#waiting.get(said.number)?.resolve(said)
    else if (!('notice' in said)) return
    else if (said.notice === 'interfaces') this.#interfaces = said.interfaces
    else if (this.#listener === null) this.#unheard.push(said.line)
    else this.#listener.log(said.line)
  }

  #hangUp(): void {
    if (this.#over) return
    this.#over = true
    for (const { reject } of this.#waiting.values()) reject(gone())
    this.#listener?.closed()
  }

  /** Returns when it has ended, or has not after so long. */
  async ended(deadlineMs: number): Promise<void> {
    for (const end = performance.now() + deadlineMs; !this.#over && performance.now() < end; ) await sleep(5)
  }

  /** Hangs up; the forwarder goes on. */
  close(): void {
    this.#listener = null
    this.#socket.destroy()
    this.#hangUp()
  }
}

function gone(): DataplaneError {
  return new DataplaneError('The forwarder has ended; it is being started again')
}

function foreign(path: string, pid: number | null): string {
  const who = pid === null ? `Whoever listens at ${path}` : `The forwarder at ${path}`
  const remedy = pid === null ? `rm ${path}` : `kill ${pid}`
  return `${who} is of another version and cannot be told what to do; end it: ${remedy}`
}
