/**
 * What a director has to send, said slowly: every checksum is summed anew over the whole packet, schedules
 * are written as the loops of the specification. Only whole, untagged packets without IPv6 extension headers.
 */
import { be16, checksum, concat, crc32c, ipBytes, macBytes, pseudoSum, putBe16 } from './bytes.ts'
import { ETHERTYPE, PROTOCOL } from './frame.ts'

/** The link layer of what goes out. */
export interface Hop {
  readonly dst: string
  readonly src: string
}

interface Shape {
  readonly six: boolean
  readonly protocol: number
  /** Offsets in the frame. */
  readonly source: number
  readonly destination: number
  readonly hops: number
  readonly transport: number
  readonly end: number
}

function shapeOf(frame: Uint8Array): Shape {
  const six = be16(frame, 12) === ETHERTYPE.ipv6
  if (six) {
    return {
      six,
      protocol: frame[20] ?? 0,
      source: 22,
      destination: 38,
      hops: 21,
      transport: 54,
      end: 54 + be16(frame, 18),
    }
  }
  const transport = 14 + ((frame[14] ?? 0) & 15) * 4
  return {
    six,
    protocol: frame[23] ?? 0,
    source: 26,
    destination: 30,
    hops: 22,
    transport,
    end: 14 + be16(frame, 16),
  }
}

/** Same packet, next hop: MAC addresses, one hop less, Ethernet padding cut off. */
export function forward(frame: Uint8Array, hop: Hop): Uint8Array {
  const shape = shapeOf(frame)
  const out = Uint8Array.from(frame.subarray(0, shape.end))
  out.set(macBytes(hop.dst), 0)
  out.set(macBytes(hop.src), 6)
  out[shape.hops] = (out[shape.hops] ?? 0) - 1
  fixHeader(out, shape)
  return out
}

function fixHeader(out: Uint8Array, shape: Shape): void {
  if (shape.six) return
  putBe16(out, 24, 0)
  putBe16(out, 24, checksum(out.subarray(14, shape.transport)))
}

function fixTransport(out: Uint8Array, shape: Shape): void {
  if (shape.protocol === PROTOCOL.sctp) {
    const segment = out.subarray(shape.transport, shape.end)
    segment.fill(0, 8, 12)
    new DataView(out.buffer).setUint32(shape.transport + 8, crc32c(segment), true)
    return
  }
  const place = shape.transport + (shape.protocol === PROTOCOL.tcp ? 16 : 6)
  putBe16(out, place, 0)
  const body = out.subarray(shape.transport, shape.end)
  const size = shape.six ? 16 : 4
  const source = out.subarray(shape.source, shape.source + size)
  const destination = out.subarray(shape.destination, shape.destination + size)
  const sum = checksum(body, pseudoSum(source, destination, shape.protocol, body.length))
  // RFC 768: a UDP checksum of zero is sent as all ones.
  putBe16(out, place, sum === 0 && shape.protocol === PROTOCOL.udp ? 0xffff : sum)
}

/** Client to a NAT real server. */
export function natIn(frame: Uint8Array, hop: Hop, server: string, port: number): Uint8Array {
  const out = forward(frame, hop)
  const shape = shapeOf(out)
  out.set(ipBytes(server), shape.destination)
  putBe16(out, shape.transport + 2, port)
  fixHeader(out, shape)
  fixTransport(out, shape)
  return out
}

/** NAT real server to client. */
export function natOut(frame: Uint8Array, hop: Hop, virtual: string, port: number): Uint8Array {
  const out = forward(frame, hop)
  const shape = shapeOf(out)
  out.set(ipBytes(virtual), shape.source)
  putBe16(out, shape.transport, port)
  fixHeader(out, shape)
  fixTransport(out, shape)
  return out
}

/**
 * Into an IPv4 or IPv6 packet of its own (ipip): TTL is the inner one after it was decremented, TOS the inner
 * one with CE turned into ECT(0), DF a copy of the inner one, id 0 with DF.
 *
 * @param id of the outer IPv4 header, which the director chooses freely when DF is clear
 */
export function tunnel(frame: Uint8Array, hop: Hop, source: string, server: string, id = 0): Uint8Array {
  const inner = forward(frame, hop)
  const shape = shapeOf(inner)
  const packet = inner.subarray(14)
  const tos = shape.six ? (be16(inner, 14) >> 4) & 255 : (inner[15] ?? 0)
  const outerTos = (tos & 3) === 3 ? (tos & ~3) | 2 : tos
  const hops = inner[shape.hops] ?? 0
  const protocol = shape.six ? PROTOCOL.ipv6 : PROTOCOL.ipip
  const outerSix = server.includes(':')
  const link = Uint8Array.from(inner.subarray(0, 14))
  putBe16(link, 12, outerSix ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4)
  if (outerSix) {
    const header = new Uint8Array(40)
    header[0] = 0x60 | (outerTos >> 4)
    header[1] = (outerTos & 15) << 4
    putBe16(header, 4, packet.length)
    header[6] = protocol
    header[7] = hops
    header.set(ipBytes(source), 8)
    header.set(ipBytes(server), 24)
    return concat(link, header, packet)
  }
  const header = new Uint8Array(20)
  header[0] = 0x45
  header[1] = outerTos
  putBe16(header, 2, 20 + packet.length)
  const df = !shape.six && (be16(inner, 20) & 0x4000) !== 0
  putBe16(header, 4, df ? 0 : id)
  putBe16(header, 6, df ? 0x4000 : 0)
  header[8] = hops
  header[9] = protocol
  header.set(ipBytes(source), 12)
  header.set(ipBytes(server), 16)
  putBe16(header, 10, checksum(header))
  return concat(link, header, packet)
}

/** Round robin over real servers in the order of the list, newest first; those of weight 0 are passed over. */
export function* roundRobin(weights: readonly number[]): Generator<number> {
  if (weights.every((weight) => weight <= 0)) return
  for (let at = 0; ; at = (at + 1) % weights.length) if ((weights[at] ?? 0) > 0) yield at
}

/**
 * Weighted round robin by the state machine of kernel IPVS: the list is newest first, the current weight
 * survives from the time the real servers were added one by one.
 */
export class WeightedRoundRobin {
  readonly #weights: number[] = []
  #last = -1
  #current = 0
  #highest = 0
  #step = 1

  add(weight: number): void {
    this.#weights.unshift(weight)
    const usable = this.#weights.filter((one) => one > 0)
    const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))
    this.#step = usable.length === 0 ? 1 : usable.reduce(gcd)
    this.#highest = Math.max(0, ...usable) - (this.#step - 1)
    this.#last = -1
    if (this.#current > this.#highest || this.#current === 0) this.#current = this.#highest
    else if (this.#step > 1) this.#current = Math.floor(this.#current / this.#step) * this.#step + 1
  }

  /** Place in the list, newest first; null when nothing can be chosen. */
  next(): number | null {
    if (this.#highest <= 0) return null
    for (let looked = 0; looked < 100_000; looked++) {
      this.#last++
      if (this.#last >= this.#weights.length) {
        this.#last = -1
        this.#current -= this.#step
        if (this.#current <= 0) this.#current = this.#highest
        continue
      }
      const weight = this.#weights[this.#last] ?? 0
      if (weight > 0 && weight >= this.#current) return this.#last
    }
    return null
  }
}
