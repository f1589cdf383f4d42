/**
 * Random frames on the wires of the bench: mostly plausible conversations between few clients, virtual
 * services and real servers, so that connections are met again; then every kind of damage.
 *
 * Writes into one buffer and allocates nothing, because millions are asked for.
 */
import { MAC } from '../packets/bench.ts'
import { ipBytes, macBytes } from '../packets/bytes.ts'
import type { Wire } from '../packets/vectors.ts'
import { crcOf } from './crc.ts'
import type { Random } from './random.ts'

/** Longest frame made: a full Ethernet frame with two VLAN tags and a little more. */
export const FRAME_MAX = 1540

const CLIENTS4 = ['192.0.2.50', '198.51.100.7', '198.51.100.8', '203.0.113.9'].map(ipBytes)
const CLIENTS6 = ['2001:db8:1::50', '2001:db8:c::7', '2001:db8:c::8', '2001:db8:d::9'].map(ipBytes)
const ODD4 = [
  '0.0.0.0',
  '127.0.0.1',
  '192.0.2.1',
  '192.0.2.100',
  '224.0.0.1',
  '255.255.255.255',
  '240.0.0.1',
  '192.0.2.255',
  '10.0.2.99',
].map(ipBytes)
const ODD6 = [
  '::',
  '::1',
  'ff02::1',
  'fe80::1',
  '2001:db8:1::100',
  '::ffff:192.0.2.50',
  '2001:db8:2::99',
].map(ipBytes)
const VIRTUAL4 = ['192.0.2.100', '192.0.2.101'].map(ipBytes)
const VIRTUAL6 = ['2001:db8:1::100', '2001:db8:1::101'].map(ipBytes)
const SERVERS4 = ['10.0.2.11', '10.0.2.12', '10.0.2.13', '10.0.2.14', '10.0.3.5'].map(ipBytes)
const SERVERS6 = [
  '2001:db8:2::11',
  '2001:db8:2::12',
  '2001:db8:2::13',
  '2001:db8:2::14',
  '2001:db8:3::5',
].map(ipBytes)
/** Ports of services and of real servers alike: those that the random rules use. */
export const PORTS = [80, 443, 53, 8080, 21, 5000] as const
/** Of so many each client has; few, so that conversations get somewhere, or so many that tables fill up. */
const CLIENT_PORTS = [1, 2, 4, 12] as const
const TCP_FLAGS = [
  0x02, 0x02, 0x02, 0x12, 0x10, 0x10, 0x10, 0x10, 0x18, 0x18, 0x11, 0x11, 0x01, 0x04, 0x14, 0x00, 0x03, 0x06,
  0x29, 0xc2,
]

const TCP = 6
const UDP = 17
const SCTP = 132
/** Types of chunks: those that lead somewhere often, others now and then. */
const CHUNKS = [1, 1, 1, 2, 10, 10, 11, 11, 0, 0, 3, 4, 6, 7, 8, 9, 14, 12, 64, 255]
/** Of SIP messages, and of what looks like them. */
const LINES = [
  'INVITE sip:a@b SIP/2.0',
  'Via: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK74bf9, SIP/2.0/UDP 192.0.2.50',
  ...['Call-ID: a@x', 'Call-ID: b@x', 'CALL-ID:c@x', 'i: a@x', 'I \t: b', 'Call-ID:\r\n a@x'],
  ...[
    'Call-ID: @x',
    'Call-ID: a@',
    'Call-ID: a;b',
    'i-x: a@x',
    'Identity: i',
    'Call-IDs: a',
    '\tCall-ID: d@x',
    '',
  ],
  `Call-ID: ${'x'.repeat(255)}`,
  `Call-ID: ${'x'.repeat(200)}@${'x'.repeat(60)}`,
]
const LINE_ENDS = ['\r\n', '\r\n', '\r\n', '\n', '\r', ' \r\n']
/** Where tunnels of the random rules begin. */
const DIRECTOR4 = ipBytes('10.0.2.1')

/** A virtual service that traffic should meet, with its real servers of the same family. */
export interface Target {
  readonly family: number
  readonly address: Uint8Array
  readonly protocol: number
  readonly port: number
  readonly servers: readonly { readonly address: Uint8Array; readonly port: number }[]
  /** What they see as their clients by full NAT. */
  readonly sources: readonly Source[]
}

interface Source {
  readonly address: Uint8Array
  readonly from: number
  readonly to: number
}

export class Traffic {
  /** The frame is its first `length` bytes. */
  readonly frame = new Uint8Array(FRAME_MAX)
  length = 0
  wire: Wire = 'c'
  readonly #random: Random
  readonly #view = new DataView(this.frame.buffer)
  readonly #macs = {
    c: [macBytes(MAC.c0), macBytes(MAC.clientRouter)],
    r: [macBytes(MAC.r0), macBytes(MAC.rs1)],
  } as const
  readonly #otherMac = macBytes('02:00:00:00:09:09')

  readonly #targets: readonly Target[]
  readonly #clients4: readonly Uint8Array[]
  readonly #clients6: readonly Uint8Array[]
  readonly #clientPorts: number
  /** What this frame is about, null for anything else. */
  #target: Target | null = null
  #server: Target['servers'][number] | null = null
  /** Whom a real server answers to by full NAT; null: a client. */
  #asker: Source | null = null

  constructor(random: Random, targets: readonly Target[]) {
    this.#random = random
    this.#targets = targets
    this.#clients4 = CLIENTS4.slice(0, 1 + random.below(CLIENTS4.length))
    this.#clients6 = CLIENTS6.slice(0, 1 + random.below(CLIENTS6.length))
    this.#clientPorts = random.pick(CLIENT_PORTS)
  }

  #client(six: boolean): Uint8Array {
    return this.#random.pick(six ? this.#clients6 : this.#clients4)
  }

  /** Mostly that of the virtual service that this frame is about. */
  #virtual(six: boolean): Uint8Array {
    const target = this.#target
    return target === null || (target.family === 6) !== six || this.#random.once(8)
      ? this.#random.pick(six ? VIRTUAL6 : VIRTUAL4)
      : target.address
  }

  /** Makes the next frame. */
  next(): void {
    const random = this.#random
    this.#target = this.#targets.length === 0 || random.once(8) ? null : random.pick(this.#targets)
    const six = this.#target === null ? random.once(4) : this.#target.family === 6
    const fromClient = random.below(10) < 7
    const sources = this.#target?.sources ?? []
    this.#asker = fromClient || sources.length === 0 || random.once(2) ? null : random.pick(sources)
    this.wire = random.once(200) === fromClient ? 'r' : 'c'
    const at = this.#ethernet(six)
    this.length = six ? this.#ipv6(at, fromClient) : this.#ipv4(at, fromClient)
    if (random.once(20)) this.length = Math.min(FRAME_MAX, this.length + 1 + random.below(20))
    if (random.once(16)) this.#damage(at, six)
    // BPF_PROG_TEST_RUN takes no frame without an Ethernet header.
    this.length = Math.max(this.length, 14)
  }

  #ethernet(six: boolean): number {
    const random = this.#random
    const [own, peer] = this.#macs[this.wire]
    this.frame.set(random.once(150) ? this.#otherMac : own, 0)
    this.frame.set(peer, 6)
    let at = 12
    if (random.once(60)) {
      for (let tags = 1 + (random.once(4) ? 1 : 0); tags > 0; tags--) {
        this.#view.setUint16(at, random.once(3) ? 0x88a8 : 0x8100)
        this.#view.setUint16(at + 2, random.once(2) ? random.below(8) << 13 : random.below(4096))
        at += 4
      }
    }
    this.#view.setUint16(at, six ? 0x86dd : 0x0800)
    return at + 2
  }

  #source(six: boolean, fromClient: boolean): Uint8Array {
    const random = this.#random
    if (random.once(80)) return random.pick(six ? ODD6 : ODD4)
    if (fromClient) return this.#client(six)
    const servers = this.#target?.servers ?? []
    this.#server = servers.length === 0 ? null : random.pick(servers)
    return this.#server?.address ?? random.pick(six ? SERVERS6 : SERVERS4)
  }

  #destination(six: boolean, fromClient: boolean): Uint8Array {
    const random = this.#random
    if (random.once(80)) return random.pick(six ? ODD6 : ODD4)
    if (fromClient) return random.once(40) ? random.pick(six ? SERVERS6 : SERVERS4) : this.#virtual(six)
    return this.#asker?.address ?? this.#client(six)
  }

  #clientPort(): number {
    const { from, to } = this.#asker ?? { from: 40_000, to: 40_000 + this.#clientPorts - 1 }
    return from + this.#random.below(to - from + 1)
  }

  #hops(): number {
    const random = this.#random
    return random.once(30) ? random.below(4) : random.once(20) ? 255 : 64
  }

  #payload(): number {
    const random = this.#random
    if (random.once(40)) return 1300 + random.below(180)
    return random.once(2) ? 0 : random.below(64)
  }

  #protocol(): number {
    const random = this.#random
    if (random.once(40)) return random.pick([1, 4, 41, 47, 50, 51, 58, 132, 255])
    return this.#target?.protocol ?? random.pick([TCP, TCP, TCP, UDP, UDP, SCTP])
  }

  #ipv4(at: number, fromClient: boolean): number {
    const random = this.#random
    const view = this.#view
    const options = random.once(30) ? 4 * (1 + random.below(10)) : 0
    const header = 20 + options
    const part = random.once(8) ? this.#part() : null
    const icmp = random.once(15)
    const protocol = icmp ? 1 : this.#protocol()
    this.frame[at] = 0x40 | (header >> 2)
    this.frame[at + 1] = random.once(5) ? random.below(256) : 0
    view.setUint16(at + 4, part === null ? random.below(65536) : part.id)
    view.setUint16(
      at + 6,
      part !== null
        ? (part.offset >> 3) | (part.more ? 0x2000 : 0)
        : random.once(2)
          ? 0x4000
          : random.once(25)
            ? random.pick([0x2000, 0x2010, 0x0010, 0x8000, 0x6000])
            : 0,
    )
    this.frame[at + 8] = this.#hops()
    this.frame[at + 9] = protocol
    this.frame.set(this.#source(false, fromClient), at + 12)
    this.frame.set(this.#destination(false, fromClient), at + 16)
    for (let i = 0; i < options; i++) this.frame[at + 20 + i] = random.once(3) ? random.below(256) : 1
    const body = at + header
    let end = icmp ? this.#icmp(body, false, fromClient) : this.#transport(body, protocol, fromClient)
    if (part?.more && !random.once(10)) end = body + Math.max(8, (end - body) & ~7)
    view.setUint16(at + 2, end - at)
    this.#transportChecksum(body, end, protocol, this.#pseudo(at + 12, 8, protocol, end - body))
    this.#headerChecksum(at)
    return end
  }

  #ipv6(at: number, fromClient: boolean): number {
    const random = this.#random
    const view = this.#view
    const icmp = random.once(15)
    const protocol = icmp ? 58 : this.#protocol()
    view.setUint32(
      at,
      0x60000000 |
        (random.once(5) ? random.below(256) << 20 : 0) |
        (random.once(3) ? random.below(1 << 20) : 0),
    )
    this.frame[at + 7] = this.#hops()
    this.frame.set(this.#source(true, fromClient), at + 8)
    this.frame.set(this.#destination(true, fromClient), at + 24)
    let body = at + 40
    let next = at + 6
    const part = random.once(8) ? this.#part() : null
    if (part !== null) {
      this.frame[next] = 44
      next = body
      view.setUint32(body, part.offset | (part.more ? 1 : 0))
      view.setUint32(body + 4, part.id)
      body += 8
    }
    for (let extensions = random.once(12) ? 1 + random.below(3) : 0; extensions > 0; extensions--) {
      const type = random.pick([0, 43, 44, 60, 51])
      const units = type === 44 ? 1 : 1 + random.below(3)
      this.frame[next] = type
      next = body
      for (let i = 1; i < units * 8; i++) this.frame[body + i] = random.once(4) ? random.below(256) : 0
      if (type !== 44) this.frame[body + 1] = units - 1
      body += units * 8
    }
    this.frame[next] = protocol
    let end = icmp ? this.#icmp(body, true, fromClient) : this.#transport(body, protocol, fromClient)
    if (part?.more && !random.once(10)) end = body + Math.max(8, (end - body) & ~7)
    view.setUint16(at + 4, end - at - 40)
    this.#transportChecksum(body, end, protocol, this.#pseudo(at + 8, 32, protocol, end - body))
    return end
  }

  /** A fragment of one of few datagrams, so that others of the same are met again; its length is a matter of luck. */
  #part(): { readonly id: number; readonly offset: number; readonly more: boolean } {
    const random = this.#random
    const offset = random.once(3) ? 0 : 8 * random.below(random.once(20) ? 8192 : 8)
    return { id: random.below(3), offset, more: offset === 0 || random.once(2) }
  }

  #ports(at: number, fromClient: boolean): void {
    const random = this.#random
    const known = fromClient ? this.#target?.port : this.#server?.port
    // Port 0 stands for any port.
    const service = random.once(50) ? random.below(65536) : known || random.pick(PORTS)
    const client = random.once(100) ? random.pick([0, 20, 65535]) : this.#clientPort()
    this.#view.setUint16(at, fromClient ? client : service)
    this.#view.setUint16(at + 2, fromClient ? service : client)
  }

  /** Bytes from `at`; returns where they end. */
  #transport(at: number, protocol: number, fromClient: boolean): number {
    const random = this.#random
    const view = this.#view
    this.#ports(at, fromClient)
    let header = 8
    if (protocol === TCP) {
      header = 20
      view.setUint32(at + 4, random.word())
      view.setUint32(at + 8, random.word())
      this.frame[at + 12] = random.once(30) ? random.below(256) : 0x50
      this.frame[at + 13] = random.pick(TCP_FLAGS)
      view.setUint16(at + 14, 64_240)
      view.setUint16(at + 16, 0)
      view.setUint16(at + 18, 0)
    } else {
      view.setUint32(at + 4, 0)
    }
    if (protocol === SCTP) header = 12
    const end = Math.min(at + header + this.#payload(), FRAME_MAX - 24)
    for (let i = at + header; i < end; i++) this.frame[i] = i & 255
    if (protocol === SCTP) return this.#chunks(at + header, end)
    if (protocol !== UDP) return end
    const last = random.once(3) ? this.#message(at + header) : end
    view.setUint16(at + 4, last - at)
    return last
  }

  /** Lines that may name a call, or hardly; returns where they end. */
  #message(at: number): number {
    const random = this.#random
    let end = at
    for (let lines = random.below(8); lines >= 0; lines--) {
      const line = random.pick(LINES) + random.pick(LINE_ENDS)
      for (let i = 0; i < line.length && end < FRAME_MAX - 24; i++) this.frame[end++] = line.charCodeAt(i)
    }
    if (end > at && random.once(4)) this.frame[at + random.below(end - at)] = random.below(256)
    return end - (random.once(4) ? random.below(end - at + 1) : 0)
  }

  /** One or two chunks over what stands there, bundled as RFC 9260 §6.10 wants it, or with lengths that are no good. */
  #chunks(at: number, end: number): number {
    const random = this.#random
    if (random.once(30)) return at + random.below(4)
    let last = Math.max(end, at + 4)
    const length = random.once(20) ? random.below(2000) : 4 + random.below(last - at)
    this.frame[at] = random.pick(CHUNKS)
    this.frame[at + 1] = random.once(10) ? random.below(256) : 0
    this.#view.setUint16(at + 2, length)
    const second = at + ((length + 3) & ~3)
    if (random.once(3) && second + 4 <= FRAME_MAX - 24) {
      this.frame[second] = random.once(2) ? 6 : random.pick(CHUNKS)
      this.frame[second + 1] = 0
      this.#view.setUint16(second + 2, 4)
      if (!random.once(10)) last = Math.max(last, second + 4)
    }
    return last
  }

  /** Echo, or an error that quotes a packet of the opposite direction. */
  #icmp(at: number, six: boolean, fromClient: boolean): number {
    const random = this.#random
    const view = this.#view
    this.frame[at] = random.pick(six ? [1, 2, 3, 4, 128, 129, 135] : [3, 3, 3, 4, 5, 8, 0, 11, 12])
    this.frame[at + 1] = random.below(6)
    view.setUint16(at + 2, 0)
    view.setUint32(at + 4, random.once(2) ? random.below(1500) : 0)
    if (!six && random.once(4)) return this.#tunnelError(at)
    const quote = at + 8
    const header = six ? 40 : 20
    let transport = quote + header
    this.frame.fill(0, quote, transport)
    this.frame[quote] = six ? 0x60 : random.once(20) ? 0x46 : 0x45
    if (!six && random.once(12)) view.setUint16(quote + 6, random.pick([0x2000, 0x0010, 0x4000]))
    const protocol = random.once(12) ? random.below(256) : (this.#target?.protocol ?? TCP)
    this.frame[quote + (six ? 6 : 9)] = protocol
    this.frame[quote + (six ? 7 : 8)] = 60
    const server = this.#server?.address ?? random.pick(six ? SERVERS6 : SERVERS4)
    const client = this.#asker?.address ?? this.#client(six)
    const addresses = quote + (six ? 8 : 12)
    const size = six ? 16 : 4
    // From the clients' side: about what the service sent. From the real servers': about what a client sent.
    this.frame.set(
      fromClient ? (this.#target?.address ?? random.pick(six ? VIRTUAL6 : VIRTUAL4)) : client,
      addresses,
    )
    this.frame.set(fromClient ? client : server, addresses + size)
    if (!six) {
      view.setUint16(quote + 2, 20 + random.below(1480))
      view.setUint16(quote + 10, this.#fold(this.#sum(quote, transport)))
    } else {
      view.setUint16(quote + 4, random.below(1480))
      if (random.once(3)) transport = this.#extensions(quote + 6, transport, protocol)
    }
    const service = (fromClient ? this.#target?.port : this.#server?.port) || random.pick(PORTS)
    const port = this.#clientPort()
    view.setUint16(transport, fromClient ? service : port)
    view.setUint16(transport + 2, fromClient ? port : service)
    const end = transport + (random.once(8) ? random.below(8) : 8 + random.below(40))
    this.frame.fill(7, transport + 4, Math.max(end, transport + 4))
    return end
  }

  /** Extension headers from `at` on, as a quote may have them; `next` is the place of the first one's number. */
  #extensions(next: number, at: number, protocol: number): number {
    const random = this.#random
    for (let headers = 1 + random.below(9); headers > 0; headers--) {
      const type = random.pick([0, 43, 44, 44, 60, 60, 51])
      const units = type === 44 ? 1 : 1 + random.below(2)
      this.frame[next] = type
      next = at
      this.frame.fill(0, at, at + units * 8)
      if (type === 51) this.frame[at + 1] = units * 2 - 2
      else if (type !== 44) this.frame[at + 1] = units - 1
      else if (random.once(6)) this.frame[at + 3] = random.below(256)
      at += units * 8
    }
    this.frame[next] = protocol
    return at
  }

  /** An error about a tunnel packet from the director to a real server; returns where it ends. */
  #tunnelError(at: number): number {
    const random = this.#random
    const view = this.#view
    const quote = at + 8
    // The packet came for the virtual address: this error is for where tunnels begin.
    if (!random.once(20)) this.frame.set(DIRECTOR4, at - 4)
    this.frame[at] = random.once(6) ? 11 : 3
    this.frame[at + 1] = random.once(3) ? random.below(6) : 4
    view.setUint32(at + 4, random.once(8) ? random.word() : 400 + random.below(1200))
    const type = random.below(3)
    const headerAt = (place: number, protocol: number, source: Uint8Array, target: Uint8Array): number => {
      this.frame.fill(0, place, place + 20)
      this.frame[place] = 0x45
      view.setUint16(place + 6, random.once(2) ? 0x4000 : 0)
      this.frame[place + 8] = 62
      this.frame[place + 9] = protocol
      this.frame.set(source, place + 12)
      this.frame.set(target, place + 16)
      return place + 20
    }
    const server = random.once(8)
      ? random.pick(SERVERS4)
      : (this.#target?.servers[0]?.address ?? random.pick(SERVERS4))
    let inner = headerAt(quote, [4, UDP, 47][type] ?? 4, DIRECTOR4, server)
    if (type === 1) {
      view.setUint16(inner, 40_000)
      view.setUint16(inner + 2, random.once(10) ? 80 : 5555)
      view.setUint32(inner + 4, 0)
      view.setUint32(inner + 8, random.once(10) ? random.word() : 0x00040000)
      inner += 12
    } else if (type === 2) {
      const sums = random.once(2)
      view.setUint16(inner, random.once(10) ? random.below(65_536) : sums ? 0x8000 : 0)
      view.setUint16(inner + 2, random.once(10) ? 0x86dd : 0x0800)
      view.setUint32(inner + 4, 0)
      inner += sums ? 8 : 4
    }
    const virtual = this.#target?.family === 4 ? this.#target.address : random.pick(VIRTUAL4)
    const transport = headerAt(inner, this.#target?.protocol ?? TCP, this.#client(false), virtual)
    this.#ports(transport, true)
    const end = transport + (random.once(8) ? random.below(8) : 8 + random.below(600))
    this.frame.fill(7, transport + 4, Math.max(end, transport + 4))
    return end
  }

  /** Unfolded sum of the pseudo header; `at` is where source and destination stand one after the other. */
  #pseudo(at: number, bytes: number, protocol: number, length: number): number {
    return this.#sum(at, at + bytes) + protocol + length
  }

  #sum(from: number, to: number): number {
    let sum = 0
    let at = from
    for (; at + 1 < to; at += 2) sum += this.#view.getUint16(at)
    if (at < to) sum += (this.frame[at] ?? 0) << 8
    return sum
  }

  #fold(sum: number): number {
    let folded = sum
    while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16)
    return ~folded & 0xffff
  }

  #transportChecksum(at: number, end: number, protocol: number, pseudo: number): void {
    if (protocol === SCTP) {
      this.#crc(at, end)
      return
    }
    const place = protocol === TCP ? 16 : protocol === UDP ? 6 : protocol === 1 || protocol === 58 ? 2 : -1
    if (place < 0 || at + place + 2 > end) return
    this.#view.setUint16(at + place, 0)
    const random = this.#random
    let sum = this.#fold(this.#sum(at, end) + (protocol === 1 ? 0 : pseudo))
    if (protocol === UDP) sum = random.once(10) ? 0 : sum === 0 ? 0xffff : sum
    if (random.once(40)) sum = random.below(65_536)
    this.#view.setUint16(at + place, sum)
  }

  /** RFC 9260 §6.8: the lowest byte first. */
  #crc(at: number, end: number): void {
    if (at + 12 > end) return
    this.#view.setUint32(at + 8, 0)
    const crc = this.#random.once(15) ? this.#random.word() : crcOf(this.frame, at, end)
    this.#view.setUint32(at + 8, crc, true)
  }

  #headerChecksum(at: number): void {
    this.#view.setUint16(at + 10, 0)
    const size = ((this.frame[at] ?? 0) & 15) * 4
    this.#view.setUint16(at + 10, this.#fold(this.#sum(at, Math.min(at + size, FRAME_MAX))))
  }

  /** Flips bytes, cuts the frame, lies about lengths; the header checksum is made right again now and then. */
  #damage(at: number, six: boolean): void {
    const random = this.#random
    switch (random.below(4)) {
      case 0:
        this.length = 14 + random.below(Math.max(1, this.length - 14))
        break
      case 1: {
        const place = at + random.below(Math.max(1, Math.min(64, this.length - at)))
        this.frame[place] = random.below(256)
        break
      }
      case 2:
        this.#view.setUint16(at + (six ? 4 : 2), random.once(2) ? random.below(65_536) : random.below(80))
        break
      default:
        this.frame[at] = random.below(256)
    }
    if (!six && random.below(3) > 0) this.#headerChecksum(at)
  }
}
