/**
 * One connection of a session with ZooKeeper. Requests go out as they come, answers come back in their order;
 * a server that has been silent for two thirds of the session's time is taken for lost, so that there is time to
 * find another one before the session ends.
 */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import type { RegistryAddress } from '../../model/pool.ts'
import { lookupName } from '../lookup.ts'
import { ANSWER_BYTES_MAX } from '../registry.ts'
import { passwordOf, tlsOptions } from '../tls.ts'
import { ZkReader, ZkWriter } from './wire.ts'

export const OPCODES = { create: 1, delete: 2, exists: 3, getData: 4, setData: 5, getChildren: 12 } as const
const AUTH = 100
const PING = 11
const CLOSE = -11
const XID_EVENT = -1
const XID_PING = -2
const XID_AUTH = -4
export const NO_NODE = -101
export const NODE_EXISTS = -110
const EPHEMERAL = 1
/** Everybody may do everything: create's access list, in numbers. */
const PERM_ALL = 31
const PERM_READ = 1

export const EVENTS = { created: 1, deleted: 2, dataChanged: 3, childrenChanged: 4 } as const

export interface WatchEvent {
  readonly type: number
  readonly path: string
}

/** What survives a connection. */
export interface SessionIdentity {
  readonly id: bigint
  readonly password: Buffer
}

const NEW: SessionIdentity = { id: 0n, password: Buffer.alloc(16) }
const CONNECT_MS = 5000
const FINISH_MS = 1000

const WORDS: Readonly<Record<number, string>> = {
  [-4]: 'the connection is lost',
  [NO_NODE]: 'there is no such node',
  [-102]: 'it is not allowed',
  [NODE_EXISTS]: 'there is such a node already',
  [-112]: 'the session has expired',
  [-115]: 'the user or the password is wrong',
}

export class ZkError extends Error {
  readonly code: number

  constructor(where: string, code: number) {
    super(`${where}: ${WORDS[code] ?? `ZooKeeper's error ${code}`}`)
    this.code = code
  }
}

/** The session is over, and with it all that it held. */
export class ExpiredError extends Error {}

interface Waiting {
  readonly xid: number
  readonly done: (reader: ZkReader) => void
  readonly failed: (error: Error) => void
}

export interface SessionOptions {
  readonly address: RegistryAddress
  /** HOST:PORT. */
  readonly endpoint: string
  readonly sessionMs: number
  /** To go on with; null: a new one. */
  readonly session: SessionIdentity | null
  readonly lastZxid: bigint
  readonly event: (event: WatchEvent) => void
  /** The server has shown that it is there. */
  readonly alive: () => void
}

export class ZkSession {
  readonly identity: SessionIdentity
  /** As the server grants it. */
  readonly sessionMs: number
  readonly endpoint: string
  readonly #socket: Socket
  readonly #options: SessionOptions
  #waiting: Waiting[] = []
  #xid = 1
  #lastZxid: bigint
  #heardMs = Date.now()
  #ended: Error | null = null
  readonly #pings: NodeJS.Timeout
  readonly #end: { promise: Promise<never>; reject: (error: Error) => void }

  /**
   * Settles when the server has taken the session; an ended one is an `ExpiredError`.
   * @param signal ends the opening; an open one is closed by whoever has it
   */
  static async open(options: SessionOptions, signal: AbortSignal): Promise<ZkSession> {
    const { endpoint } = options
    signal.throwIfAborted()
    const socket = dial(options)
    const frames = new Frames()
    let made: ZkSession | null = null
    const stop = (): void => void socket.destroy(new Error('It is enough'))
    signal.addEventListener('abort', stop, { once: true })
    const greeting = await new Promise<Buffer>((resolve, reject) => {
      const late = setTimeout(
        () => socket.destroy(new Error(`${endpoint} has not answered within ${CONNECT_MS} ms`)),
        CONNECT_MS,
      )
      socket.on('data', (chunk: Buffer) => {
        try {
          const [first] = frames.take(chunk, 1)
          if (first === undefined) return
          clearTimeout(late)
          socket.removeAllListeners('data')
          socket.pause()
          resolve(first)
        } catch (error) {
          socket.destroy(error instanceof Error ? error : new Error(String(error)))
        }
      })
      socket.on('error', (error: NodeJS.ErrnoException) => {
        clearTimeout(late)
        const text = error.message || error.code || String(error)
        reject(text.includes(endpoint) ? error : new Error(`${endpoint}: ${text}`))
      })
      socket.on('close', () => {
        clearTimeout(late)
        reject(new Error(`${endpoint} has ended the connection`))
      })
      const { session, lastZxid, sessionMs } = options
      const { id, password } = session ?? NEW
      socket.write(
        new ZkWriter().int(0).long(lastZxid).int(sessionMs).long(id).bytes(password).bool(false).frame(),
      )
    }).finally(() => signal.removeEventListener('abort', stop))
    try {
      const reader = new ZkReader(greeting)
      reader.int()
      const grantedMs = reader.int()
      const identity = { id: reader.long(), password: Buffer.from(reader.bytes()) }
      if (grantedMs <= 0) throw new ExpiredError(`${endpoint}: the session has expired`)
      made = new ZkSession(options, socket, frames, identity, grantedMs)
      await made.#logIn()
      return made
    } catch (error) {
      // Nobody else knows of it: an attempt that has failed leaves neither a connection nor a session.
      if (made === null) socket.destroy()
      else made.close()
      throw error instanceof RangeError
        ? new Error(`${endpoint} answers something else than ZooKeeper does: ${error.message}`)
        : error
    }
  }

  private constructor(
    options: SessionOptions,
    socket: Socket,
    frames: Frames,
    identity: SessionIdentity,
    grantedMs: number,
  ) {
    this.#options = options
    this.endpoint = options.endpoint
    this.#socket = socket
    this.identity = identity
    this.sessionMs = grantedMs
    this.#lastZxid = options.lastZxid
    let reject: (error: Error) => void = () => {}
    const promise = new Promise<never>((_resolve, failed) => {
      reject = failed
    })
    // Whoever does not wait for it hears it from the requests.
    promise.catch(() => {})
    this.#end = { promise, reject }
    socket.removeAllListeners('error').removeAllListeners('close')
    socket.on('error', (error) => this.#fail(new Error(`${this.endpoint}: ${error.message}`)))
    socket.on('close', () => this.#fail(new Error(`${this.endpoint} has ended the connection`)))
    const take = (chunk: Buffer): void => {
      try {
        for (const frame of frames.take(chunk)) this.#heard(new ZkReader(frame))
      } catch (error) {
        this.#fail(new Error(`${this.endpoint} answers something else than ZooKeeper does: ${error}`))
      }
    }
    take(Buffer.alloc(0))
    socket.on('data', take)
    socket.resume()
    this.#pings = setInterval(() => this.#ping(), grantedMs / 3)
  }

  get lastZxid(): bigint {
    return this.#lastZxid
  }

  /** Rejects when the connection is over. */
  get ended(): Promise<never> {
    return this.#end.promise
  }

  // Requests

  async children(path: string, watch: boolean): Promise<string[]> {
    return (await this.#ask(OPCODES.getChildren, (to) => to.text(path).bool(watch))).texts()
  }

  async data(path: string, watch: boolean): Promise<string> {
    return (await this.#ask(OPCODES.getData, (to) => to.text(path).bool(watch))).text()
  }

  /** Whether there is such a node; what becomes of it is told once. */
  async exists(path: string): Promise<boolean> {
    try {
      await this.#ask(OPCODES.exists, (to) => to.text(path).bool(true))
      return true
    } catch (error) {
      if (error instanceof ZkError && error.code === NO_NODE) return false
      throw error
    }
  }

  async create(path: string, value: string, ephemeral: boolean): Promise<void> {
    const { user } = this.#options.address
    await this.#ask(OPCODES.create, (to) => {
      to.text(path).text(value)
      if (user === null) to.int(1).int(PERM_ALL).text('world').text('anyone')
      // What somebody has logged in for is his, and everybody's to read.
      else to.int(2).int(PERM_ALL).text('auth').text('').int(PERM_READ).text('world').text('anyone')
      return to.int(ephemeral ? EPHEMERAL : 0)
    })
  }

  async set(path: string, value: string): Promise<void> {
    await this.#ask(OPCODES.setData, (to) => to.text(path).text(value).int(-1))
  }

  async remove(path: string): Promise<void> {
    await this.#ask(OPCODES.delete, (to) => to.text(path).int(-1))
  }

  /** Whose session a node ends with; 0: nobody's. */
  async owner(path: string): Promise<bigint> {
    const reader = await this.#ask(OPCODES.exists, (to) => to.text(path).bool(false))
    // Stat: czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner.
    for (let n = 0; n < 4; n++) reader.long()
    for (let n = 0; n < 3; n++) reader.int()
    return reader.long()
  }

  /** Ends the session itself, with all that it holds. */
  close(): void {
    if (this.#ended !== null) return
    this.#socket.end(new ZkWriter().int(this.#xid).int(CLOSE).frame())
    this.#fail(new Error(`${this.endpoint}: it is closed`))
  }

  /** As `close`; settles when the server has done so, or does not answer. */
  async finish(): Promise<void> {
    if (this.#ended !== null) return
    this.#socket.write(new ZkWriter().int(this.#xid).int(CLOSE).frame())
    await Promise.race([this.ended.catch(() => {}), sleep(FINISH_MS)])
    this.leave()
  }

  /** Ends the connection; the session may be gone on with. */
  leave(): void {
    this.#fail(new Error(`${this.endpoint}: it is left`))
    this.#socket.destroy()
  }

  async #logIn(): Promise<void> {
    const { user } = this.#options.address
    if (user === null) return
    const words = `${user}:${passwordOf(this.#options.address) ?? ''}`
    const request = new ZkWriter().int(XID_AUTH).int(AUTH).int(0).text('digest').text(words)
    await this.#send(XID_AUTH, request)
  }

  async #ask(opcode: number, body: (to: ZkWriter) => ZkWriter): Promise<ZkReader> {
    const xid = this.#xid++
    return await this.#send(xid, body(new ZkWriter().int(xid).int(opcode)))
  }

  #send(xid: number, request: ZkWriter): Promise<ZkReader> {
    if (this.#ended !== null) return Promise.reject(this.#ended)
    return new Promise((done, failed) => {
      this.#waiting.push({ xid, done, failed })
      this.#socket.write(request.frame())
    })
  }

  #heard(reader: ZkReader): void {
    this.#heardMs = Date.now()
    const xid = reader.int()
    const zxid = reader.long()
    const error = reader.int()
    if (zxid > this.#lastZxid) this.#lastZxid = zxid
    if (xid === XID_PING) {
      this.#options.alive()
      return
    }
    if (xid === XID_EVENT) {
      const type = reader.int()
      reader.int()
      this.#options.event({ type, path: reader.text() })
      return
    }
    const waiting = this.#waiting.shift()
    if (waiting === undefined || waiting.xid !== xid) {
      this.#fail(new Error(`${this.endpoint} answers what nobody has asked`))
    } else if (error === 0) waiting.done(reader)
    else waiting.failed(new ZkError(this.endpoint, error))
  }

  #ping(): void {
    const silentMs = Date.now() - this.#heardMs
    if (silentMs > (this.sessionMs * 2) / 3) {
      this.#fail(new Error(`${this.endpoint} has not answered for ${silentMs} ms`))
      return
    }
    this.#socket.write(new ZkWriter().int(XID_PING).int(PING).frame())
  }

  #fail(error: Error): void {
    if (this.#ended !== null) return
    this.#ended = error
    clearInterval(this.#pings)
    for (const { failed } of this.#waiting) failed(error)
    this.#waiting = []
    this.#end.reject(error)
    // What has been written is let go first.
    setImmediate(() => this.#socket.destroy())
  }
}

/** Messages out of what comes in. */
class Frames {
  #chunks: Buffer[] = []
  #length = 0

  /** @param most the others wait for the next call */
  take(chunk: Buffer, most = Number.POSITIVE_INFINITY): Buffer[] {
    if (chunk.length > 0) this.#chunks.push(chunk)
    this.#length += chunk.length
    const frames: Buffer[] = []
    while (this.#length >= 4 && frames.length < most) {
      if (this.#chunks[0]!.length < 4) this.#chunks = [Buffer.concat(this.#chunks)]
      const size = this.#chunks[0]!.readInt32BE(0)
      if (size < 0 || size > ANSWER_BYTES_MAX) throw new RangeError(`a message of ${size} bytes`)
      if (this.#length < 4 + size) break
      const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks)
      frames.push(all.subarray(4, 4 + size))
      const rest = all.subarray(4 + size)
      this.#chunks = rest.length > 0 ? [rest] : []
      this.#length = rest.length
    }
    return frames
  }
}

function dial({ endpoint, address }: SessionOptions): Socket {
  const [, host = '', port = '2181'] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(endpoint) ?? [null, endpoint]
  const place = { host, port: Number(port), lookup: lookupName }
  const socket =
    address.tls === null
      ? connect(place)
      : connectTls({ servername: host, ...place, ...tlsOptions(address.tls) })
  return socket.setNoDelay(true)
}
