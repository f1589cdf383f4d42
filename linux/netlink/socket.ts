/** Sockets to the kernel's rtnetlink: one kind asks and waits, the other listens. */

import koffi from 'koffi'
import {
  AF_NETLINK,
  MSG_DONTWAIT,
  MSG_TRUNC,
  SO_RCVBUFFORCE,
  SO_RCVTIMEO,
  SOCK_RAW_CLOEXEC,
  SOL_NETLINK,
  SOL_SOCKET,
} from '../abi.ts'
import { addressOf, check, Errno, errno, errorName, libc, words } from '../libc.ts'
import { MachineError } from '../machine-error.ts'
import {
  decodeMessages,
  encodeRequest,
  errorOf,
  errorText,
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

const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12
export const NETLINK_GENERIC = 16
const NETLINK_ADD_MEMBERSHIP = 1
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12

/** The kernel puts at most 32 KiB into a datagram of a dump; a single answer is far smaller. */
export const DATAGRAM_BYTES = 64 * 1024
/** Answers come while the request is being sent; only a held rtnl lock makes one wait. */
const ANSWER_TIMEOUT_S = 5
/** Room for bursts of events: thousands of routes changed at once. */
const EVENT_BUFFER_BYTES = 16 << 20
/** Longest stretch of handling events in one go, and the least time for others after one that long. */
const DRAIN_MS = 2
const REST_MS = 2
/** Dumps that the kernel says are inconsistent are repeated this often. */
const DUMP_ATTEMPTS = 5

/** The kernel refused a request. */
export class NetlinkError extends MachineError {
  override readonly name = 'NetlinkError'
  readonly errno: number

  constructor(action: string, number: number, text: string | null) {
    super(`Cannot ${action}: ${errorName(number)}${text === null ? '' : ` (${text})`}`)
    this.errno = number
  }
}

function open(protocol: number): number {
  const fd = check(libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol), 'open a netlink socket')
  const address = new Uint8Array(12)
  address[0] = AF_NETLINK
  check(libc.bind(fd, address, address.length), 'bind a netlink socket')
  // Both make answers better where the kernel knows them, and are not needed where it does not.
  libc.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, words(1), 4)
  libc.setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, words(1), 4)
  return fd
}

/** A socket whose calls give up after some seconds. */
export function openPatient(protocol: number = NETLINK_ROUTE): number {
  const fd = open(protocol)
  const timeout = new Uint8Array(new BigInt64Array([BigInt(ANSWER_TIMEOUT_S), 0n]).buffer)
  check(libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length), 'limit netlink waits')
  return fd
}

/**
 * The result of a call that waits. A signal may end it early (those with a time limit are never restarted,
 * signal(7)); at the limit there is no answer, which is no broken invariant: rtnl was held so long.
 */
function patient(call: () => number, action: string): number {
  for (;;) {
    const result = call()
    if (result >= 0) return result
    const number = errno()
    if (number !== Errno.EINTR) throw new NetlinkError(action, number, null)
  }
}

/** Asks and waits for the answer. Calls block for some microseconds. Belongs to one thread. */
export class RequestSocket {
  readonly #fd: number
  readonly #buffer = new Uint8Array(DATAGRAM_BYTES)
  #sequence = 0
  #closed = false

  /** `protocol`: the kernel's part to talk to. */
  constructor(protocol: number = NETLINK_ROUTE) {
    this.#fd = openPatient(protocol)
  }

  /** One object; null when the kernel answers with an error: there is none, no route, no such device. */
  get(query: Query): NetlinkMessage | null {
    const { messages, error } = this.#exchange(query, NLM_F_REQUEST)
    return error === 0 ? (messages[0] ?? null) : null
  }

  /** Everything of a kind. */
  dump(query: Query, action: string): NetlinkMessage[] {
    for (let attempt = 1; ; attempt++) {
      const { messages, error, text, interrupted } = this.#exchange(query, NLM_F_REQUEST | NLM_F_DUMP)
      if (error !== 0) throw new NetlinkError(action, error, text)
      if (!interrupted || attempt === DUMP_ATTEMPTS) return messages
    }
  }

  /** Changes something. `flags` say what may happen: by default an object is created or replaced. */
  change(query: Query, action: string, flags: number = NLM_F_CREATE | NLM_F_REPLACE): void {
    const { error, text } = this.#exchange(query, NLM_F_REQUEST | NLM_F_ACK | flags)
    if (error !== 0) throw new NetlinkError(action, error, text)
  }

  #exchange(
    query: Query,
    flags: number,
  ): {
    readonly messages: NetlinkMessage[]
    readonly error: number
    readonly text: string | null
    readonly interrupted: boolean
  } {
    this.#sequence = (this.#sequence + 1) >>> 0
    const sequence = this.#sequence
    const request = encodeRequest({ type: query.type, flags, sequence }, query.header, query.attributes)
    patient(() => libc.send(this.#fd, request, request.length, 0), 'send a netlink request')
    const isDump = (flags & NLM_F_DUMP) === NLM_F_DUMP
    const wantsAck = (flags & NLM_F_ACK) !== 0
    const messages: NetlinkMessage[] = []
    let interrupted = false
    for (;;) {
      const length = patient(
        () => libc.recv(this.#fd, this.#buffer, this.#buffer.length, MSG_TRUNC),
        'receive a netlink answer',
      )
      if (length > this.#buffer.length)
        throw new NetlinkError('receive a netlink answer', Errno.EMSGSIZE, null)
      for (const message of decodeMessages(this.#buffer.slice(0, length))) {
        // What is left of an exchange that timed out.
        if (message.sequence !== sequence) continue
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true
        if (message.type === NLMSG_ERROR) {
          return { messages, error: errorOf(message), text: errorText(message), interrupted }
        }
        if (message.type === NLMSG_DONE) return { messages, error: 0, text: null, interrupted }
        messages.push(message)
        if (!isDump && !wantsAck) return { messages, error: 0, text: null, interrupted }
      }
    }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    libc.close(this.#fd)
  }
}

/**
 * Hears of changes. `onOverflow`: events were lost, everything must be read again. Who makes changes may be
 * faster than we: events have half of this thread's time at most, the rest is for those who ask.
 */
export class EventSocket {
  readonly #fd: number
  /** Kept: a poll handle that nobody refers to stops without a word. */
  readonly #handle: ReturnType<typeof koffi.node.poll>
  readonly #onMessages: (messages: NetlinkMessage[]) => void
  readonly #onOverflow: () => void
  #rest: NodeJS.Timeout | null = null
  /**
   * Some were lost, and until nothing is left to be received the kernel drops all that follow without telling
   * again (netlink_overrun). So what is left is thrown away, and only then is everything read again.
   */
  #lost = false
  #closed = false

  constructor(
    groups: readonly number[],
    onMessages: (messages: NetlinkMessage[]) => void,
    onOverflow: () => void,
    protocol: number = NETLINK_ROUTE,
  ) {
    this.#onMessages = onMessages
    this.#onOverflow = onOverflow
    this.#fd = open(protocol)
    // Without CAP_NET_ADMIN the default size has to do: then overflows come sooner.
    libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, words(EVENT_BUFFER_BYTES), 4)
    for (const group of groups) {
      check(
        libc.setsockopt(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, words(group), 4),
        `listen to netlink group ${group}`,
      )
    }
    this.#handle = koffi.node.poll(this.#fd, { readable: true }, () => this.#work())
    this.#handle.unref()
  }

  #work(): void {
    if (this.drain() || this.#closed) return
    this.#handle.stop()
    this.#rest = setTimeout(() => {
      this.#rest = null
      this.#handle.start({ readable: true }, () => this.#work())
    }, REST_MS).unref()
  }

  /** Handles what has arrived, for some milliseconds; true when that was all. */
  drain(): boolean {
    const stop = performance.now() + DRAIN_MS
    while (!this.#closed) {
      const { messages, overflow, empty } = receiveEvents(this.#fd)
      this.#lost ||= overflow
      if (messages.length > 0 && !this.#lost) this.#onMessages(messages)
      if (empty) {
        if (this.#lost) this.#tellLoss()
        return true
      }
      if (performance.now() >= stop) return false
    }
    return true
  }

  #tellLoss(): void {
    this.#lost = false
    this.#onOverflow()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#rest !== null) clearTimeout(this.#rest)
    this.#handle.stop()
    this.#handle.close()
    libc.close(this.#fd)
  }
}

/** Datagrams received by one call. */
const AT_ONCE = 64
/** struct mmsghdr: struct msghdr, then the length. */
const MMSGHDR = { iov: 16, iovCount: 24, flags: 48, length: 56, size: 64 }
const IOVEC_BYTES = 16

/** Takes datagrams of events from a socket, many at once. One for all sockets of this thread. */
class Inbox {
  readonly #area = Buffer.alloc(AT_ONCE * DATAGRAM_BYTES)
  readonly #vectors = Buffer.alloc(AT_ONCE * IOVEC_BYTES)
  readonly #headers = Buffer.alloc(AT_ONCE * MMSGHDR.size)

  constructor() {
    const [area, vectors] = [addressOf(this.#area), addressOf(this.#vectors)]
    for (let i = 0; i < AT_ONCE; i++) {
      this.#vectors.writeBigUInt64LE(area + BigInt(i * DATAGRAM_BYTES), i * IOVEC_BYTES)
      this.#vectors.writeBigUInt64LE(BigInt(DATAGRAM_BYTES), i * IOVEC_BYTES + 8)
      this.#headers.writeBigUInt64LE(vectors + BigInt(i * IOVEC_BYTES), i * MMSGHDR.size + MMSGHDR.iov)
      this.#headers.writeBigUInt64LE(1n, i * MMSGHDR.size + MMSGHDR.iovCount)
    }
  }

  /** `overflow`: some were lost before these. `empty`: there are no more. */
  receive(fd: number): {
    readonly messages: NetlinkMessage[]
    readonly overflow: boolean
    readonly empty: boolean
  } {
    const count = libc.recvmmsg(fd, this.#headers, AT_ONCE, MSG_DONTWAIT, null)
    if (count < 0) {
      const number = errno()
      return { messages: [], overflow: number === Errno.ENOBUFS, empty: !GOES_ON.has(number) }
    }
    const header = (i: number, field: number): number => this.#headers.readUInt32LE(i * MMSGHDR.size + field)
    // Messages end at multiples of four, so datagrams put together read like one.
    let bytes = 0
    for (let i = 0; i < count; i++) bytes += (header(i, MMSGHDR.length) + 3) & ~3
    const all = Buffer.alloc(bytes)
    let overflow = false
    let at = 0
    for (let i = 0; i < count; i++) {
      const from = i * DATAGRAM_BYTES
      const length = header(i, MMSGHDR.length)
      if ((header(i, MMSGHDR.flags) & MSG_TRUNC) !== 0) {
        overflow = true
        continue
      }
      this.#area.copy(all, at, from, from + length)
      at += (length + 3) & ~3
    }
    return { messages: decodeMessages(all), overflow, empty: count < AT_ONCE }
  }
}

const GOES_ON: ReadonlySet<number> = new Set([Errno.EINTR, Errno.ENOBUFS])

let inbox: Inbox | null = null

function receiveEvents(fd: number): ReturnType<Inbox['receive']> {
  inbox ??= new Inbox()
  return inbox.receive(fd)
}
