/** The forwarder's end of the control socket. */
import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { Forwarder } from './forwarder.ts'
import {
  type Answer,
  type ForwarderSetup,
  type Hello,
  line,
  lines,
  type NumberedOrder,
  PROTOCOL_VERSION,
  type Said,
} from './protocol.ts'

/** Lines kept for the next daemon while there is none. */
const LINES_MAX = 200

export class ControlServer {
  readonly #setup: ForwarderSetup
  readonly #server: Server
  readonly #callers = new Set<Socket>()
  /** Who has come while this ends: a daemon that starts meanwhile is to find nobody here, once it is so. */
  readonly #latecomers = new Set<Socket>()
  #ending = false
  /** Who has asked for frames to be held. */
  readonly #holders = new Set<Socket>()
  /** Who has asked for packets to be recorded. */
  #recorder: Socket | null = null
  readonly #unheard: string[] = []
  #forwarder: Forwarder | null = null
  #end: (how: 'close' | 'detach') => Promise<void> = async () => {}
  #told = ''

  constructor(setup: ForwarderSetup) {
    this.#setup = setup
    this.#server = createServer((caller) => this.#greet(caller))
  }

  async listen(
    path: string,
    forwarder: Forwarder,
    end: (how: 'close' | 'detach') => Promise<void>,
  ): Promise<void> {
    this.#forwarder = forwarder
    this.#end = end
    rmSync(path, { force: true })
    // The socket must never be open to others, not even between bind and chmod.
    const mask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject)
        this.#server.listen(path, resolve)
      })
    } finally {
      process.umask(mask)
    }
  }

  /** From now on nobody is greeted: whoever comes waits until this has ended. */
  greetNoMore(): void {
    this.#ending = true
  }

  log(text: string): void {
    if (this.#callers.size > 0) {
      this.#say({ notice: 'log', line: text })
      return
    }
    this.#unheard.push(text)
    if (this.#unheard.length > LINES_MAX) this.#unheard.shift()
  }

  interfacesChanged(): void {
    const interfaces = this.#forwarder?.interfaces() ?? []
    const text = JSON.stringify(interfaces)
    if (text === this.#told) return
    this.#told = text
    this.#say({ notice: 'interfaces', interfaces })
  }

  #say(said: Said): void {
    for (const caller of this.#callers) caller.write(line(said))
  }

  #greet(caller: Socket): void {
    const forwarder = this.#forwarder
    if (forwarder === null) {
      caller.destroy()
      return
    }
    caller.on('error', () => caller.destroy())
    if (this.#ending) {
      this.#latecomers.add(caller)
      caller.on('close', () => this.#latecomers.delete(caller)).resume()
      return
    }
    this.#callers.add(caller)
    caller.on('close', () => {
      this.#callers.delete(caller)
      if (this.#recorder === caller) {
        this.#recorder = null
        forwarder.recordTo(null).catch(() => {})
      }
      if (this.#holders.delete(caller) && this.#holders.size === 0) forwarder.resume().catch(() => {})
    })
    const hello: Hello = {
      hello: PROTOCOL_VERSION,
      pid: process.pid,
      setup: this.#setup,
      interfaces: forwarder.interfaces(),
    }
    caller.write(line(hello))
    for (const text of this.#unheard.splice(0)) caller.write(line({ notice: 'log', line: text }))
    const read = lines<NumberedOrder>((order) => void this.#obey(caller, forwarder, order))
    caller.setEncoding('utf8').on('data', (chunk: string) => {
      try {
        read(chunk)
      } catch {
        // Whoever it is does not speak our language.
        caller.destroy()
      }
    })
  }

  async #obey(caller: Socket, forwarder: Forwarder, order: NumberedOrder): Promise<void> {
    const { number } = order
    const ends = order.order === 'leave' || order.order === 'detach'
    if (ends) this.greetNoMore()
    let answer: Answer
    try {
      const results = await this.#carryOut(caller, forwarder, order)
      answer = { number, error: null, interfaces: forwarder.interfaces(), ...results }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      answer = { number, error: reason, interfaces: forwarder.interfaces() }
    }
    caller.write(line(answer))
    if (answer.error !== null) {
      if (ends) this.#greetAgain()
      return
    }
    if (order.order === 'leave') await this.#end('close')
    if (order.order === 'detach') await this.#end('detach')
  }

  /** It does not end after all: who has waited asks again, or has another forwarder ask this one to leave. */
  #greetAgain(): void {
    this.#ending = false
    for (const caller of this.#latecomers) caller.destroy()
  }

  async #carryOut(
    caller: Socket,
    forwarder: Forwarder,
    order: NumberedOrder,
  ): Promise<Pick<Answer, 'results'>> {
    switch (order.order) {
      case 'attach': {
        const results = await forwarder.attach(order.interfaces)
        // The daemon before this one may have been killed between a change and its announcement.
        await forwarder.published()
        return { results }
      }
      case 'published':
        await forwarder.published()
        return {}
      case 'quiesce':
        await forwarder.quiesce()
        return {}
      case 'hold':
        this.#holders.add(caller)
        await forwarder.hold()
        return {}
      case 'resume':
        this.#holders.delete(caller)
        await forwarder.resume()
        return {}
      case 'record':
        // First of all: it may hang up before the workers have answered.
        this.#recorder = caller
        await forwarder.recordTo(order)
        return {}
      case 'record-no-more':
        this.#recorder = null
        await forwarder.recordTo(null)
        return {}
      case 'detach':
        // All that can fail is done before the answer.
        await forwarder.detach()
        return {}
      case 'leave':
        return {}
      default:
        order satisfies never
        throw new Error('An unknown order: the daemon is of another version')
    }
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const caller of this.#latecomers) caller.destroy()
    for (const caller of this.#callers) caller.end()
    setTimeout(() => {
      for (const caller of this.#callers) caller.destroy()
    }, 200).unref()
    await closed
  }
}
