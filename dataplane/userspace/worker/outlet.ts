/**
 * Frames on their way out of one interface. Most go through a ring; super-packets and what the ring has no
 * room for are gathered and handed over with one sendmmsg(2), from where they lie.
 */
import { addressOf, Errno, errno, libc } from '../../../linux/libc.ts'
import { openSendSocket } from '../packet/rings.ts'
import type { SendRing } from '../packet/send-ring.ts'
import { GsoType, type JobTable } from './jobs.ts'

/** struct mmsghdr and struct iovec on 64-bit machines. */
const MESSAGE = { size: 64, iov: 16, iovCount: 24 } as const
const IOVEC = { size: 16, words: 4 } as const
const IF_NAMESIZE = 16

/** Byte of a virtio header that says whether a frame is a super-packet. */
const GSO_TYPE = 1

export class Outlet {
  readonly ifindex: number
  readonly #fd: number
  /**
   * The way through the queueing discipline, where the kernel cuts super-packets that the device cannot
   * take. Straight to the device it would drop them instead (ENOBUFS). -1 before it was needed.
   */
  #cuttingFd = -1
  /** The device has refused a super-packet: all go that way, until `retry`. */
  #cuts = false
  readonly #jobs: JobTable
  readonly #ring: SendRing | null
  readonly #capacity: number
  readonly #messages: Uint8Array
  /** Address of every message, to go on behind one that was refused. */
  readonly #messageAt: readonly bigint[]
  readonly #vectors: Uint32Array
  readonly #memoryLow: number
  readonly #memoryHigh: number
  readonly #name = new Uint8Array(IF_NAMESIZE)
  #count = 0
  #refused = 0
  #broken = false

  /**
   * `memory`: address of the linear memory that frames lie in, `jobs` the views of it; `ring` makes the ring,
   * if there can be one.
   */
  constructor(
    ifindex: number,
    memory: bigint,
    jobs: JobTable,
    bypassQueue: boolean,
    ring: () => SendRing | null,
  ) {
    const { capacity } = jobs
    this.ifindex = ifindex
    this.#jobs = jobs
    this.#capacity = capacity
    this.#memoryLow = Number(memory & 0xffff_ffffn)
    this.#memoryHigh = Number(memory >> 32n)
    this.#messages = new Uint8Array(capacity * MESSAGE.size)
    this.#vectors = new Uint32Array(capacity * IOVEC.words)
    const view = new DataView(this.#messages.buffer)
    const vectors = addressOf(new Uint8Array(this.#vectors.buffer))
    const messages = addressOf(this.#messages)
    for (let i = 0; i < capacity; i++) {
      view.setBigUint64(i * MESSAGE.size + MESSAGE.iov, vectors + BigInt(i * IOVEC.size), true)
      view.setBigUint64(i * MESSAGE.size + MESSAGE.iovCount, 1n, true)
    }
    this.#messageAt = Array.from({ length: capacity }, (_, i) => messages + BigInt(i * MESSAGE.size))
    this.#fd = openSendSocket(ifindex, bypassQueue)
    this.#ring = ring()
  }

  /** The interface is gone or was replaced: open another outlet if there is one again. */
  get broken(): boolean {
    return this.#broken
  }

  /** Whether the interface is no more; a frame may never come to find out. */
  isOrphan(): boolean {
    return libc.if_indextoname(this.ifindex, this.#name) === null
  }

  /** Puts frames of the jobs `from` to `end` - 1 into the ring; returns the first that cannot go that way. */
  put(from: number, end: number): number {
    if (this.#ring === null) return from
    const next = this.#ring.put(from, end)
    // Frames leave in the order they came: those in the ring when it is flushed.
    if (next > from && this.#count > 0) this.#send()
    return next
  }

  /** `length` bytes at `address` in linear memory: virtio header, then frame. They stay there until `flush`. */
  queue(address: number, length: number): void {
    if (this.#ring?.waiting === true) this.#ring.flush(this.#append)
    this.#append(address, length)
  }

  /** No more can be queued without sending what waits. */
  get full(): boolean {
    return this.#count === this.#capacity
  }

  readonly #append = (address: number, length: number): void => {
    if (this.#count === this.#capacity) this.#send()
    const at = this.#count * IOVEC.words
    const low = this.#memoryLow + address
    const carry = low >= 0x1_0000_0000
    this.#vectors[at] = carry ? low - 0x1_0000_0000 : low
    this.#vectors[at + 1] = this.#memoryHigh + (carry ? 1 : 0)
    this.#vectors[at + 2] = length
    this.#count += 1
  }

  /** Sends what was gathered; returns how many frames the socket has refused since the last time. */
  flush(): number {
    if (this.#ring !== null) this.#ring.flush(this.#append)
    if (this.#count > 0) this.#send()
    const refused = this.#refused
    this.#refused = 0
    return refused
  }

  #send(): void {
    const count = this.#count
    let sent = 0
    this.#count = 0
    while (sent < count) {
      const fd = this.#cuts && this.#isSuper(sent) ? this.#cuttingFd : this.#fd
      const result = libc.sendmmsg(fd, this.#messageAt[sent]!, this.#sameWay(sent, count), 0)
      if (result > 0) {
        sent += result
        continue
      }
      const number = errno()
      if (number === Errno.EINTR) continue
      if (number === Errno.ENOBUFS && !this.#cuts && this.#isSuper(sent) && this.#startCutting()) continue
      // Unregistered: this socket will never send again.
      if (number === Errno.ENXIO || number === Errno.ENODEV) this.#broken = true
      if (this.#broken || number === Errno.ENETDOWN) {
        this.#refused += count - sent
        return
      }
      this.#refused += 1
      sent += 1
    }
  }

  /** How many of the frames from `from` on may leave together. */
  #sameWay(from: number, count: number): number {
    if (!this.#cuts) return count - from
    const isSuper = this.#isSuper(from)
    let next = from + 1
    while (next < count && this.#isSuper(next) === isSuper) next++
    return next - from
  }

  #isSuper(index: number): boolean {
    const low = this.#vectors[index * IOVEC.words]! - this.#memoryLow
    const address = low < 0 ? low + 0x1_0000_0000 : low
    return this.#jobs.u8[address + GSO_TYPE] !== GsoType.NONE
  }

  #startCutting(): boolean {
    if (this.#cuttingFd < 0) {
      try {
        this.#cuttingFd = openSendSocket(this.ifindex, false)
      } catch {
        return false
      }
    }
    this.#cuts = true
    return true
  }

  /** A full queue refuses with the same word, and offloads come back: now and then the straight way again. */
  retry(): void {
    this.#cuts = false
  }

  close(): void {
    this.#ring?.close()
    if (this.#cuttingFd >= 0) libc.close(this.#cuttingFd)
    libc.close(this.#fd)
  }
}
