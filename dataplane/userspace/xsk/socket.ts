/**
 * AF_XDP sockets (Documentation/networking/af_xdp.rst) in copy mode: one per interface and queue, all
 * of a worker over one frame memory, which is a piece of the wasm memory.
 */

import {
  AF_XDP,
  MAP_PRIVATE_ANONYMOUS_FIXED,
  MAP_SHARED_FIXED_POPULATE,
  PROT_READ_WRITE,
  SOCK_RAW_CLOEXEC,
  SOL_XDP,
} from '../../../linux/abi.ts'
import { check, Errno, errno, errorName, libc, MAP_FAILED, SystemError, words } from '../../../linux/libc.ts'
import { DataplaneError } from '../../dataplane.ts'
import { PM_CHUNK, PM_XSK_ENTRIES } from '../../layout/layout.gen.ts'
import type { Region } from '../../wasm/region.ts'

/** Linear memory for the four rings of a queue, a quarter for each. */
export const RINGS_BYTES = 4 * 65_536

const XDP_MMAP_OFFSETS = 1
const XDP_RX_RING = 2
const XDP_TX_RING = 3
const XDP_UMEM_REG = 4
const XDP_UMEM_FILL_RING = 5
const XDP_UMEM_COMPLETION_RING = 6
const XDP_STATISTICS = 7
const XDP_SHARED_UMEM = 1
const XDP_COPY = 2
const PGOFF = { rx: 0, tx: 0x8000_0000, fill: 0x1_0000_0000, completion: 0x1_8000_0000 } as const
const RING_ORDER: readonly (keyof typeof PGOFF)[] = ['rx', 'tx', 'fill', 'completion']
const DESCRIPTOR = { packet: 16, address: 8 } as const

/** Addresses of a ring in linear memory. */
export interface XskRing {
  readonly producer: number
  readonly consumer: number
  readonly entries: number
}

/** One queue of one interface; plain data, may be posted. */
export interface XskQueue {
  readonly fd: number
  readonly ifindex: number
  readonly queue: number
  readonly rx: XskRing
  readonly tx: XskRing
  readonly fill: XskRing
  readonly completion: XskRing
  /** Where the rings are mapped. */
  readonly rings: Region
  /** The frame memory of the worker. */
  readonly frames: Region
}

type Offsets = Readonly<
  Record<keyof typeof PGOFF, { producer: number; consumer: number; descriptors: number }>
>

function set(fd: number, name: number, value: Uint8Array, what: string): void {
  check(libc.setsockopt(fd, SOL_XDP, name, value, value.length), what)
}

function readOffsets(fd: number): Offsets {
  const values = new BigUint64Array(16)
  const bytes = new Uint8Array(values.buffer)
  check(
    libc.getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, bytes, words(bytes.length)),
    'read the AF_XDP ring offsets',
  )
  const ring = (i: number) => ({
    producer: Number(values[i * 4]),
    consumer: Number(values[i * 4 + 1]),
    descriptors: Number(values[i * 4 + 2]),
  })
  return { rx: ring(0), tx: ring(1), fill: ring(2), completion: ring(3) }
}

/** Maps a ring over its quarter of `rings`. */
function mapRing(
  fd: number,
  offsets: Offsets,
  kind: keyof typeof PGOFF,
  memory: bigint,
  rings: Region,
): XskRing {
  const size = kind === 'rx' || kind === 'tx' ? DESCRIPTOR.packet : DESCRIPTOR.address
  const { producer, consumer, descriptors } = offsets[kind]
  const bytes = descriptors + PM_XSK_ENTRIES * size
  const room = rings.bytes / RING_ORDER.length
  if (bytes > room)
    throw new DataplaneError(`Cannot map the ${kind} ring: it has ${bytes} bytes, expected at most ${room}`)
  const base = rings.base + RING_ORDER.indexOf(kind) * room
  const at = memory + BigInt(base)
  const mapped = libc.mmap(at, bytes, PROT_READ_WRITE, MAP_SHARED_FIXED_POPULATE, fd, PGOFF[kind])
  if (mapped === MAP_FAILED) throw new SystemError(`map the ${kind} ring`, errno())
  return { producer: base + producer, consumer: base + consumer, entries: base + descriptors }
}

/**
 * Opens a socket for one queue, or returns null when the interface has no such queue. `sharedFd`: another
 * socket over the same frames, null for the first. `memory`: address of the linear memory; `rings`:
 * `RINGS_BYTES` of it.
 */
export function openXskQueue(
  memory: bigint,
  rings: Region,
  frames: Region,
  sharedFd: number | null,
  ifindex: number,
  queue: number,
): XskQueue | null {
  const fd = libc.socket(AF_XDP, SOCK_RAW_CLOEXEC, 0)
  if (fd < 0) {
    throw new DataplaneError(
      `Cannot open an AF_XDP socket: ${errorName(errno())}; it needs CAP_NET_RAW and a kernel with CONFIG_XDP_SOCKETS, --engine packet does without`,
    )
  }
  try {
    if (sharedFd === null) registerFrames(fd, memory, frames)
    const entries = words(PM_XSK_ENTRIES)
    set(fd, XDP_UMEM_FILL_RING, entries, 'make a fill ring')
    set(fd, XDP_UMEM_COMPLETION_RING, entries, 'make a completion ring')
    set(fd, XDP_RX_RING, entries, 'make a receive ring')
    set(fd, XDP_TX_RING, entries, 'make a transmit ring')
    const address = new Uint8Array(16)
    const view = new DataView(address.buffer)
    view.setUint16(0, AF_XDP, true)
    view.setUint16(2, sharedFd === null ? XDP_COPY : XDP_SHARED_UMEM, true)
    view.setUint32(4, ifindex, true)
    view.setUint32(8, queue, true)
    view.setUint32(12, sharedFd ?? 0, true)
    if (libc.bind(fd, address, address.length) < 0) {
      const number = errno()
      if (number === Errno.EINVAL && queue > 0) {
        libc.close(fd)
        return null
      }
      throw new SystemError(`bind an AF_XDP socket to queue ${queue} of interface ${ifindex}`, number)
    }
    const offsets = readOffsets(fd)
    return {
      fd,
      ifindex,
      queue,
      rx: mapRing(fd, offsets, 'rx', memory, rings),
      tx: mapRing(fd, offsets, 'tx', memory, rings),
      fill: mapRing(fd, offsets, 'fill', memory, rings),
      completion: mapRing(fd, offsets, 'completion', memory, rings),
      rings,
      frames,
    }
  } catch (error) {
    libc.close(fd)
    throw error
  }
}

function registerFrames(fd: number, memory: bigint, frames: Region): void {
  const registration = new Uint8Array(32)
  const view = new DataView(registration.buffer)
  view.setBigUint64(0, memory + BigInt(frames.base), true)
  view.setBigUint64(8, BigInt(frames.bytes), true)
  view.setUint32(16, PM_CHUNK, true)
  set(fd, XDP_UMEM_REG, registration, `register ${frames.bytes} bytes for frames (see ulimit -l)`)
}

/** Closes the socket and puts plain memory back under its rings: no thread may be using them any more. */
export function closeXskQueue(memory: bigint, queue: XskQueue): void {
  const { base, bytes } = queue.rings
  const at = memory + BigInt(base)
  const mapped = libc.mmap(at, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_FIXED, -1, 0)
  libc.close(queue.fd)
  if (mapped === MAP_FAILED) throw new SystemError('take the AF_XDP rings out of memory', errno())
}

/** Frames lost since the socket was opened: no buffer to put them into, or a full receive ring. */
export function readXskDrops(fd: number): number {
  const values = new BigUint64Array(6)
  const bytes = new Uint8Array(values.buffer)
  if (libc.getsockopt(fd, SOL_XDP, XDP_STATISTICS, bytes, words(bytes.length)) < 0) return 0
  return Number(values[0]! + values[3]!)
}
