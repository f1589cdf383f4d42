/**
 * Questions to rtnetlink that nobody waits for. The kernel works on a request while it is being sent, and
 * for most kinds under rtnl, a lock that driver resets and firmware loads hold for seconds: so sending is
 * left to another thread, and an answer that is late is "not known yet".
 */
import { MSG_DONTWAIT } from '../abi.ts'
import { libc, recvLater, sendLater } from '../libc.ts'
import {
  decodeMessages,
  encodeRequest,
  errorOf,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from './message.ts'
import type { Query } from './rtnetlink.ts'
import { DATAGRAM_BYTES, openPatient } from './socket.ts'

export type Answer =
  | { readonly kind: 'message'; readonly message: NetlinkMessage }
  /** 0: done. */
  | { readonly kind: 'result'; readonly errno: number }

/** null stands for an answer that has not come in time: nothing is known, ask again. */
export interface Questions {
  /** One object each, in order. */
  ask(queries: readonly Query[]): Promise<readonly (Answer | null)[]>
  /** The same for changes. `flags` as for `RequestSocket.change`. */
  change(queries: readonly Query[], flags?: number): Promise<readonly (Answer | null)[]>
  /** Everything of a kind, handed on piece by piece. False: it did not come to its end, or not unchanged. */
  dump(query: Query, piece: (messages: readonly NetlinkMessage[]) => void): Promise<boolean>
  close(): void
}

/** How datagrams go to the kernel and back; tests have a kernel that is late, or never answers. */
export interface Courier {
  /** Whether the kernel took it; by then it has answered, unless it is a dump. */
  send(bytes: Uint8Array): Promise<boolean>
  /** What is there already, null if nothing is. */
  receiveNow(): Uint8Array | null
  /** The next datagram, null if none comes for seconds. */
  receive(): Promise<Uint8Array | null>
  close(): void
}

/** What is sent at once must be answered within the receive buffer (212,992 bytes, two pages an answer). */
const AT_ONCE = 24
/** A question waits no longer than this for those before it and for its answer. */
const PATIENCE_MS = 2000

export class QuestionSocket implements Questions {
  readonly #courier: Courier
  #sequence = 0
  #queue: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(courier: Courier = new SocketCourier()) {
    this.#courier = courier
  }

  ask(queries: readonly Query[]): Promise<readonly (Answer | null)[]> {
    return this.#all(queries, NLM_F_REQUEST)
  }

  change(
    queries: readonly Query[],
    flags: number = NLM_F_CREATE | NLM_F_REPLACE,
  ): Promise<readonly (Answer | null)[]> {
    return this.#all(queries, NLM_F_REQUEST | NLM_F_ACK | flags)
  }

  dump(query: Query, piece: (messages: readonly NetlinkMessage[]) => void): Promise<boolean> {
    return this.#inTurn(() => this.#dump(query, piece), false)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    // The descriptor's number must not become another's while a thread still uses it.
    void this.#queue.then(() => this.#courier.close())
  }

  async #all(queries: readonly Query[], flags: number): Promise<readonly (Answer | null)[]> {
    const answers: (Answer | null)[] = []
    for (let at = 0; at < queries.length; at += AT_ONCE) {
      const some = queries.slice(at, at + AT_ONCE)
      answers.push(
        ...(await this.#inTurn(
          () => this.#some(some, flags),
          some.map(() => null),
        )),
      )
    }
    return answers
  }

  /** One exchange at a time; `unknown` if its turn and its answer take too long together. */
  #inTurn<T>(exchange: () => Promise<T>, unknown: T): Promise<T> {
    let late = false
    const mine = this.#queue.then(() => (late || this.#closed ? unknown : exchange())).catch(() => unknown)
    this.#queue = mine
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        late = true
        resolve(unknown)
      }, PATIENCE_MS).unref()
      void mine.then((result) => {
        clearTimeout(timer)
        resolve(result)
      })
    })
  }

  #encode(query: Query, flags: number): Uint8Array {
    this.#sequence = (this.#sequence + 1) >>> 0
    const { type, header, attributes } = query
    return encodeRequest({ type, flags, sequence: this.#sequence }, header, attributes)
  }

  async #some(queries: readonly Query[], flags: number): Promise<(Answer | null)[]> {
    const first = (this.#sequence + 1) >>> 0
    const requests = queries.map((query) => this.#encode(query, flags))
    const answers = queries.map((): Answer | null => null)
    if (!(await this.#courier.send(Buffer.concat(requests)))) return answers
    for (let missing = answers.length; missing > 0; ) {
      const bytes = this.#courier.receiveNow()
      if (bytes === null) break
      for (const message of decodeMessages(bytes)) {
        const index = (message.sequence - first) >>> 0
        // What is left of an exchange that nobody waited for.
        if (index >= answers.length || answers[index] !== null) continue
        answers[index] =
          message.type === NLMSG_ERROR
            ? { kind: 'result', errno: errorOf(message) }
            : { kind: 'message', message }
        missing -= 1
      }
    }
    return answers
  }

  async #dump(query: Query, piece: (messages: readonly NetlinkMessage[]) => void): Promise<boolean> {
    const request = this.#encode(query, NLM_F_REQUEST | NLM_F_DUMP)
    const sequence = this.#sequence
    if (!(await this.#courier.send(request))) return false
    let whole = true
    for (;;) {
      const bytes = await this.#courier.receive()
      if (bytes === null) return false
      const messages = decodeMessages(bytes).filter((message) => message.sequence === sequence)
      if (messages.some(({ flags }) => (flags & NLM_F_DUMP_INTR) !== 0)) whole = false
      const end = messages.findIndex(({ type }) => type === NLMSG_DONE || type === NLMSG_ERROR)
      piece(end < 0 ? messages : messages.slice(0, end))
      if (end >= 0) return whole && messages[end]?.type === NLMSG_DONE
    }
  }
}

/** The kernel, by a socket of the calling thread's network namespace. */
export class SocketCourier implements Courier {
  readonly #fd: number
  readonly #buffer = new Uint8Array(DATAGRAM_BYTES)

  /** `protocol`: the kernel's part to talk to, rtnetlink unless said otherwise. */
  constructor(protocol?: number) {
    this.#fd = openPatient(protocol)
  }

  send(bytes: Uint8Array): Promise<boolean> {
    return sendLater(this.#fd, bytes).then((sent) => sent === bytes.length)
  }

  receiveNow(): Uint8Array | null {
    return this.#taken(libc.recv(this.#fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT))
  }

  async receive(): Promise<Uint8Array | null> {
    return this.#taken(await recvLater(this.#fd, this.#buffer))
  }

  #taken(length: number): Uint8Array | null {
    return length < 0 ? null : this.#buffer.slice(0, length)
  }

  close(): void {
    libc.close(this.#fd)
  }
}
