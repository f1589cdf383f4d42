/** The few calls of libc that wires need: packet sockets and network namespaces. */
import { closeSync, openSync } from 'node:fs'
import koffi from 'koffi'

const libc = koffi.load('libc.so.6')

const call = {
  socket: libc.func('int socket(int, int, int)'),
  bind: libc.func('int bind(int, void *, uint32_t)'),
  setsockopt: libc.func('int setsockopt(int, int, int, void *, uint32_t)'),
  send: libc.func('int64_t send(int, void *, size_t, int)'),
  recv: libc.func('int64_t recv(int, void *, size_t, int)'),
  close: libc.func('int close(int)'),
  setns: libc.func('int setns(int, int)'),
  nametoindex: libc.func('uint32_t if_nametoindex(str)'),
  strerror: libc.func('str strerror(int)'),
}

const AF_PACKET = 17
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const ETH_P_ALL = 3
const SOL_PACKET = 263
const PACKET_VNET_HDR = 15
const PACKET_IGNORE_OUTGOING = 23
const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33
const MSG_DONTWAIT = 0x40
const CLONE_NEWNET = 0x40000000
const EAGAIN = 11
const ENETDOWN = 100

function must(result: number, action: string): number {
  if (result < 0) {
    const errno = koffi.errno()
    throw new Error(`Cannot ${action}: ${call.strerror(errno)} (errno ${errno})`)
  }
  return result
}

/** Moves this thread into a named network namespace for as long as the callback runs. */
export function inNamespace<T>(name: string, action: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r')
  const away = openSync(`/run/netns/${name}`, 'r')
  try {
    must(call.setns(away, CLONE_NEWNET), `enter network namespace ${name}`)
    try {
      return action()
    } finally {
      must(call.setns(home, CLONE_NEWNET), 'return to the network namespace of the process')
    }
  } finally {
    closeSync(home)
    closeSync(away)
  }
}

/** Moves this thread into a named network namespace for good. */
export function enterNamespace(name: string): void {
  const fd = openSync(`/run/netns/${name}`, 'r')
  must(call.setns(fd, CLONE_NEWNET), `enter network namespace ${name}`)
  closeSync(fd)
}

export function interfaceIndex(name: string): number {
  const index: number = call.nametoindex(name)
  if (index === 0) throw new Error(`Cannot find interface ${name} in this network namespace`)
  return index
}

/** A raw packet socket on one interface of the current namespace that sees what others send, not its own frames. */
export class PacketSocket {
  readonly #fd: number
  readonly #buffer = Buffer.alloc(65_536 + VNET_HEADER)
  readonly #vnet: boolean

  /** @param vnet carry a virtio_net_hdr before every frame, so that unfinished checksums can be sent */
  constructor(interfaceName: string, { vnet = false } = {}) {
    this.#vnet = vnet
    this.#fd = must(call.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), 'open a packet socket')
    const one = Buffer.from(Uint32Array.of(1).buffer)
    must(call.setsockopt(this.#fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, one, 4), 'ignore outgoing frames')
    if (vnet) must(call.setsockopt(this.#fd, SOL_PACKET, PACKET_VNET_HDR, one, 4), 'ask for PACKET_VNET_HDR')
    const size = Buffer.from(Uint32Array.of(8 << 20).buffer)
    must(call.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4), 'enlarge the receive buffer')
    // struct sockaddr_ll: family, protocol in network order, interface index.
    const address = Buffer.alloc(20)
    address.writeUInt16LE(AF_PACKET, 0)
    address.writeUInt16BE(ETH_P_ALL, 2)
    address.writeInt32LE(interfaceIndex(interfaceName), 4)
    must(call.bind(this.#fd, address, address.length), `bind a packet socket to ${interfaceName}`)
  }

  send(frame: Uint8Array): void {
    const header = this.#vnet ? VNET_HEADER : 0
    const bytes = Buffer.alloc(header + frame.length)
    bytes.set(frame, header)
    must(Number(call.send(this.#fd, bytes, bytes.length, 0)), `send a frame of ${frame.length} bytes`)
  }

  /** Sends a frame whose transport checksum is still to be summed from `start` and stored at `start + offset`. */
  sendPartial(frame: Uint8Array, start: number, offset: number): void {
    if (!this.#vnet) throw new Error('Cannot send an unfinished checksum: the socket was opened without vnet')
    const bytes = Buffer.alloc(VNET_HEADER + frame.length)
    bytes[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM
    bytes.writeUInt16LE(start, 6)
    bytes.writeUInt16LE(offset, 8)
    bytes.set(frame, VNET_HEADER)
    must(Number(call.send(this.#fd, bytes, bytes.length, 0)), 'send a frame with an unfinished checksum')
  }

  /** The next frame waiting, or null. */
  receive(): Uint8Array | null {
    const got = Number(call.recv(this.#fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT))
    if (got < 0) {
      const errno = koffi.errno()
      // A link that goes down is reported once to its sockets.
      if (errno === EAGAIN || errno === ENETDOWN) return null
      must(got, 'receive from a packet socket')
    }
    return Uint8Array.from(this.#buffer.subarray(this.#vnet ? VNET_HEADER : 0, got))
  }

  close(): void {
    call.close(this.#fd)
  }
}

/** struct virtio_net_hdr without the number of buffers. */
const VNET_HEADER = 10
const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
