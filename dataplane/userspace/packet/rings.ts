/**
 * Packet sockets (packet(7)): receive rings of TPACKET_V2 that lie inside of wasm memory, and sockets to
 * send frames with. A ring is mapped over a piece of the linear memory, so the packet program works on
 * the kernel's own buffers and frames are sent from where they were received.
 */

import {
  AF_PACKET,
  ETH_P_ALL,
  MAP_PRIVATE_ANONYMOUS_FIXED,
  MAP_SHARED_FIXED_POPULATE,
  PROT_READ_WRITE,
  SO_ERROR,
  SO_RCVBUFFORCE,
  SO_SNDBUFFORCE,
  SO_SNDTIMEO,
  SOCK_RAW_CLOEXEC,
  SOL_PACKET,
  SOL_SOCKET,
} from '../../../linux/abi.ts'
import {
  addressOf,
  check,
  Errno,
  errno,
  errorName,
  libc,
  MAP_FAILED,
  SystemError,
  words,
} from '../../../linux/libc.ts'
import { DataplaneError } from '../../dataplane.ts'
import type { Region } from '../../wasm/region.ts'

export const VNET_HEADER = 10

const PACKET_RX_RING = 5
const PACKET_STATISTICS = 6
const PACKET_COPY_THRESH = 7
const PACKET_VERSION = 10
const PACKET_RESERVE = 12
const PACKET_TX_RING = 13
const PACKET_VNET_HDR = 15
const PACKET_FANOUT = 18
const PACKET_QDISC_BYPASS = 20
const PACKET_IGNORE_OUTGOING = 23
const TPACKET_V2 = 1
const PACKET_FANOUT_HASH = 0
const PACKET_FANOUT_FLAG_UNIQUEID = 0x2000
const PACKET_FANOUT_FLAG_IGNORE_OUTGOING = 0x4000
const SOCKADDR_LL = 20
const SO_ATTACH_FILTER = 26
const SO_DETACH_FILTER = 27
/** BPF_RET | BPF_K, 0: nothing of any frame. */
const DROP_ALL = Uint8Array.of(0x06, 0, 0, 0, 0, 0, 0, 0)

/** Fields of struct tpacket2_hdr and the struct sockaddr_ll behind it, in bytes. */
export const Slot = {
  status: 0,
  length: 4,
  captured: 8,
  mac: 12,
  vlan: 24,
  packetType: 42,
} as const
export const Status = { USER: 1, COPY: 2, LOSING: 4, VLAN_VALID: 16 } as const
/** Status of a slot of a send ring. */
export const SendStatus = { AVAILABLE: 0, SEND_REQUEST: 1, SENDING: 2, WRONG_FORMAT: 4 } as const
/** Where the virtio header of a frame to be sent stands in its slot. */
export const SEND_OFFSET = 32
export const PACKET_HOST = 0
export const PACKET_OUTGOING = 4

/**
 * Room the kernel leaves between its slot header and the frame, beside what it needs itself: headers
 * the program may put in front, and 6 bytes that bring the IP header to a multiple of 16 behind the
 * virtio header of 10.
 */
const RESERVE = 128 + 6
/** Slot header with address (52), aligned to 16 with the room for an Ethernet header, virtio header. */
const BEFORE_NETWORK_HEADER = 80 + VNET_HEADER + RESERVE
const SLOT_BYTES_MIN = 2048
const SLOT_BYTES_MAX = 16_384
const BLOCK_BYTES = 1 << 16
/** Copies of frames that are larger than a slot wait here. */
const COPY_QUEUE_BYTES = 32 << 20
const SEND_QUEUE_BYTES = 8 << 20
/** A device that takes no frames for so long has lost them. */
const SEND_TIMEOUT_US = 100_000

export interface RingGeometry {
  readonly slotBytes: number
  readonly slots: number
  readonly bytes: number
}

/** Slots that hold frames of the MTU; larger ones (super-packets) are copied separately. */
export function ringGeometry(mtu: number, ringBytes: number): RingGeometry {
  let slotBytes = SLOT_BYTES_MIN
  while (slotBytes < SLOT_BYTES_MAX && BEFORE_NETWORK_HEADER + mtu + 4 > slotBytes) slotBytes *= 2
  const bytes = Math.max(BLOCK_BYTES, Math.floor(ringBytes / BLOCK_BYTES) * BLOCK_BYTES)
  return { slotBytes, slots: bytes / slotBytes, bytes }
}

export interface ReceiveRing {
  readonly fd: number
  readonly ifindex: number
  /** Address in linear memory. */
  readonly base: number
  readonly geometry: RingGeometry
}

/** Slots to send from: frames of the usual MTU, in tunnels too. */
export function sendRingGeometry(bytes: number): RingGeometry {
  return { slotBytes: SLOT_BYTES_MIN, slots: bytes / SLOT_BYTES_MIN, bytes }
}

function option(fd: number, name: number, value: Uint8Array, what: string, level: number = SOL_PACKET): void {
  check(libc.setsockopt(fd, level, name, value, value.length), what)
}

function bindTo(fd: number, ifindex: number, protocol: number): number {
  const address = new Uint8Array(SOCKADDR_LL)
  const view = new DataView(address.buffer)
  view.setUint16(0, AF_PACKET, true)
  view.setUint16(2, protocol, false)
  view.setInt32(4, ifindex, true)
  return libc.bind(fd, address, address.length)
}

/**
 * Opens a ring over `geometry.bytes` of linear memory at `base`; `memory` is the address of the linear
 * memory itself. Frames arrive from `letIn` on.
 */
export function openReceiveRing(
  memory: bigint,
  base: number,
  geometry: RingGeometry,
  ifindex: number,
): ReceiveRing {
  const fd = libc.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0)
  if (fd < 0) throw refused(errno())
  try {
    option(fd, PACKET_VERSION, words(TPACKET_V2), 'choose TPACKET_V2')
    option(fd, PACKET_RESERVE, words(RESERVE), 'reserve room before frames')
    option(fd, PACKET_VNET_HDR, words(1), 'switch PACKET_VNET_HDR on')
    option(fd, PACKET_COPY_THRESH, words(1), 'have large frames copied')
    option(fd, PACKET_IGNORE_OUTGOING, words(1), 'leave outgoing frames out')
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, words(COPY_QUEUE_BYTES), 4)
    makeRing(fd, PACKET_RX_RING, memory + BigInt(base), geometry)
  } catch (error) {
    libc.close(fd)
    throw error
  }
  return { fd, ifindex, base, geometry }
}

/** The ring of a socket, mapped over `geometry.bytes` of memory at `address`. */
function makeRing(fd: number, kind: number, address: bigint, geometry: RingGeometry): void {
  const { bytes, slotBytes, slots } = geometry
  const request = words(BLOCK_BYTES, bytes / BLOCK_BYTES, slotBytes, slots)
  option(fd, kind, request, `make a ring of ${bytes} bytes`)
  const mapped = libc.mmap(address, bytes, PROT_READ_WRITE, MAP_SHARED_FIXED_POPULATE, fd, 0)
  if (mapped === MAP_FAILED) throw new SystemError('map the ring of a packet socket', errno())
}

function refused(number: number): DataplaneError {
  return new DataplaneError(
    `Cannot open a packet socket: ${errorName(number)}; the userspace plane needs CAP_NET_RAW and a kernel with CONFIG_PACKET`,
  )
}

/**
 * Binds a ring to its interface with the door shut: a socket has to be bound before it can join a fanout
 * group, and until then it would be shown the flows of all its members. `letIn` opens it.
 */
export function startReceiving(ring: ReceiveRing): void {
  filterWith(ring.fd, DROP_ALL)
  check(bindTo(ring.fd, ring.ifindex, ETH_P_ALL), `receive from interface ${ring.ifindex}`)
}

/** Frames arrive from now on. */
export function letIn(ring: ReceiveRing): void {
  option(ring.fd, SO_DETACH_FILTER, words(0), 'let frames into a ring', SOL_SOCKET)
}

/** `code`: records of struct sock_filter; how many bytes of a frame the socket is shown. */
function filterWith(fd: number, code: Uint8Array): void {
  const program = new Uint8Array(16)
  const view = new DataView(program.buffer)
  view.setUint16(0, code.length / 8, true)
  view.setBigUint64(8, addressOf(code), true)
  option(fd, SO_ATTACH_FILTER, program, 'keep frames out of a ring', SOL_SOCKET)
}

/**
 * Spreads the flows of an interface over several rings. The first ring founds a group; its number is
 * given to the others.
 */
export function joinFanout(ring: ReceiveRing, group: number | null): number {
  const flags =
    PACKET_FANOUT_HASH |
    PACKET_FANOUT_FLAG_IGNORE_OUTGOING |
    (group === null ? PACKET_FANOUT_FLAG_UNIQUEID : 0)
  option(ring.fd, PACKET_FANOUT, words((group ?? 0) | (flags << 16)), 'spread packets over workers')
  if (group !== null) return group
  const value = new Uint8Array(4)
  check(libc.getsockopt(ring.fd, SOL_PACKET, PACKET_FANOUT, value, words(4)), 'read the fanout group')
  return value[0]! | (value[1]! << 8)
}

/** Closes the socket of a ring and puts plain memory back under it. Nobody may be using it any more. */
export function closeRing(memory: bigint, ring: { readonly fd: number } & Region): void {
  const at = memory + BigInt(ring.base)
  const mapped = libc.mmap(at, ring.bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_FIXED, -1, 0)
  libc.close(ring.fd)
  if (mapped === MAP_FAILED) throw new SystemError('take the ring of a packet socket out of memory', errno())
}

/**
 * A socket that sends complete frames, each behind a virtio header, out of one interface. With `ring`,
 * from slots over that address; a socket sends either from a ring or what it is handed.
 */
export function openSendSocket(
  ifindex: number,
  bypassQueue: boolean,
  ring: { readonly address: bigint; readonly geometry: RingGeometry } | null = null,
): number {
  const fd = libc.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0)
  if (fd < 0) throw refused(errno())
  try {
    option(fd, PACKET_VNET_HDR, words(1), 'switch PACKET_VNET_HDR on')
    if (bypassQueue) option(fd, PACKET_QDISC_BYPASS, words(1), 'send past the queueing discipline')
    if (ring !== null) {
      option(fd, PACKET_VERSION, words(TPACKET_V2), 'choose TPACKET_V2')
      makeRing(fd, PACKET_TX_RING, ring.address, ring.geometry)
    }
    libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, words(SEND_QUEUE_BYTES), 4)
    const timeout = new Uint8Array(new BigInt64Array([0n, BigInt(SEND_TIMEOUT_US)]).buffer)
    check(libc.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeout, timeout.length), 'limit the wait for sending')
    check(bindTo(fd, ifindex, 0), `send to interface ${ifindex}`)
  } catch (error) {
    libc.close(fd)
    throw error
  }
  return fd
}

const statistics = new Uint32Array(2)

/** Frames the kernel had no room for since the last call. */
export function takeDrops(fd: number): number {
  const bytes = new Uint8Array(statistics.buffer)
  if (libc.getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, bytes, words(bytes.length)) < 0) return 0
  return statistics[1]!
}

/** Takes the error a socket has pending (ENETDOWN when its interface went down), so that poll rests. */
export function takeError(fd: number): number {
  const value = new Uint32Array(1)
  const bytes = new Uint8Array(value.buffer)
  if (libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, bytes, words(4)) < 0) return Errno.EINVAL
  return value[0]!
}
