import assert from 'node:assert/strict'
import { test } from 'node:test'
import { JobRecord } from '../../../dataplane/layout/layout.gen.ts'
import { segmentTunnelled } from '../../../dataplane/userspace/worker/segment.ts'
import { be16, checksum, concat, hex, ipBytes, onesSum, pseudoSum, putBe16 } from '../../packets/bytes.ts'
import {
  ethernet,
  type IpPacket,
  ipv4,
  ipv6,
  PROTOCOL,
  raw,
  type Segment,
  tcp,
  udp,
} from '../../packets/frame.ts'
import { linearMemory } from './linear-memory.ts'

const SIZE = 1000
const TCPV4 = 1
const TCPV6 = 4
const UDP_SEGMENTS = 5

/** A tunnel header around an inner packet, as the packet program makes it. */
type Wrap = (inner: IpPacket) => IpPacket

const outer4 = (segment: Segment) =>
  ipv4({ src: '10.0.2.1', dst: '10.0.2.11', df: true, id: 0, ttl: 63 }, segment)
const outer6 = (segment: Segment) =>
  ipv6({ src: '2001:db8:2::1', dst: '2001:db8:2::11', hopLimit: 63 }, segment)
const protocolOf = (inner: IpPacket) => (inner.etherType === 0x0800 ? PROTOCOL.ipip : PROTOCOL.ipv6)
const gueHeader = (inner: IpPacket) => Uint8Array.of(0, protocolOf(inner), 0, 0)
const gre = (inner: IpPacket, withChecksum: boolean): Segment => {
  const header = new Uint8Array(withChecksum ? 8 : 4)
  putBe16(header, 2, inner.etherType)
  const bytes = concat(header, inner.bytes)
  if (withChecksum) {
    bytes[0] = 0x80
    putBe16(bytes, 4, checksum(bytes))
  }
  return raw(PROTOCOL.gre, bytes)
}
const gue = (inner: IpPacket, fields: { checksum?: number }): Segment =>
  udp({ sport: 40000, dport: 6080, ...fields }, concat(gueHeader(inner), inner.bytes))

const WRAPS: Readonly<Record<string, Wrap>> = {
  'ipip over IPv4': (inner) => outer4(raw(protocolOf(inner), inner.bytes)),
  'ipip over IPv6': (inner) => outer6(raw(protocolOf(inner), inner.bytes)),
  'GUE without checksum': (inner) => outer4(gue(inner, { checksum: 0 })),
  'GUE with checksum': (inner) => outer4(gue(inner, {})),
  'GUE with checksum over IPv6': (inner) => outer6(gue(inner, {})),
  GRE: (inner) => outer4(gre(inner, false)),
  'GRE with checksum': (inner) => outer6(gre(inner, true)),
}

interface Inner {
  readonly gsoType: number
  readonly protocol: number
  readonly source: string
  readonly destination: string
  readonly ipBytes: number
  readonly l4Bytes: number
  /** Offset of the checksum in the transport header. */
  readonly checksumAt: number
  build(payload: Uint8Array, index: number, last: boolean): IpPacket
}

const V4 = { source: '198.51.100.7', destination: '192.0.2.100', ipBytes: 20 }
const V6 = { source: '2001:db8:c::7', destination: '2001:db8:1::100', ipBytes: 40 }
const TCP = { protocol: PROTOCOL.tcp, l4Bytes: 20, checksumAt: 16 }
const tcpSegment = (payload: Uint8Array, index: number, last: boolean) =>
  tcp({ seq: 0xffffff00 + index * SIZE, flags: last ? 'PAF' : 'A' }, payload)

const INNERS: Readonly<Record<string, Inner>> = {
  'TCP over IPv4': {
    ...V4,
    ...TCP,
    gsoType: TCPV4,
    build: (payload, index, last) =>
      ipv4({ src: V4.source, dst: V4.destination, id: 0xfffe + index }, tcpSegment(payload, index, last)),
  },
  'TCP over IPv6': {
    ...V6,
    ...TCP,
    gsoType: TCPV6,
    build: (payload, index, last) =>
      ipv6({ src: V6.source, dst: V6.destination }, tcpSegment(payload, index, last)),
  },
  'UDP over IPv4': {
    ...V4,
    gsoType: UDP_SEGMENTS,
    protocol: PROTOCOL.udp,
    l4Bytes: 8,
    checksumAt: 6,
    build: (payload, index) => ipv4({ src: V4.source, dst: V4.destination, id: 7 + index }, udp({}, payload)),
  },
}

const payload = (from: number, to: number) => new Uint8Array(to - from).map((_, i) => (from + i) * 7)

for (const [wrapName, wrap] of Object.entries(WRAPS)) {
  for (const [innerName, inner] of Object.entries(INNERS)) {
    test(`${wrapName}, ${innerName}: segments are the packets a sender would have made`, () => {
      const total = 2 * SIZE + 300
      const want = [0, 1, 2].map((index) => {
        const end = Math.min(total, (index + 1) * SIZE)
        return ethernet({}, wrap(inner.build(payload(index * SIZE, end), index, end === total)))
      })
      // As received: one packet with the flags of the last, its checksum unfinished.
      const whole = ethernet({}, wrap(inner.build(payload(0, total), 0, true)))
      const overhead = whole.length - 14 - inner.ipBytes - inner.l4Bytes - total
      const l4 = 14 + overhead + inner.ipBytes
      const pseudo = pseudoSum(
        ipBytes(inner.source),
        ipBytes(inner.destination),
        inner.protocol,
        inner.l4Bytes + total,
      )
      putBe16(whole, l4 + inner.checksumAt, onesSum(new Uint8Array(0), pseudo))

      const { jobs, mover, allocate } = linearMemory(1)
      const start = allocate(4096) + 1024
      const data = start + overhead
      const vnet = [1 | (inner.gsoType << 8), 0, SIZE, 14 + inner.ipBytes, inner.checksumAt]
      for (const [i, word] of vnet.entries()) jobs.u16[(data - 10) / 2 + i] = word
      jobs.u8.set(whole.subarray(overhead), data)
      mover.arrive(jobs.jobAt(0), jobs.arrivalAt(0), data, whole.length - overhead, 1, 1, 1)
      jobs.u8.set(whole, start)
      jobs.u32[(jobs.jobAt(0) + JobRecord.offsets.moved) / 4] = -overhead
      jobs.u32[(jobs.jobAt(0) + JobRecord.offsets.length) / 4] = whole.length

      let room = allocate(8192)
      const got: Uint8Array[] = []
      segmentTunnelled(
        jobs,
        0,
        (bytes) => {
          const address = room
          room += (bytes + 31) & ~15
          return address
        },
        (address, bytes) => {
          const segment = Uint8Array.from(jobs.u8.subarray(address, address + bytes))
          assert.equal(segment[0], 1, 'checksum to be finished')
          const from = segment[6]! | (segment[7]! << 8)
          const at = segment[8]! | (segment[9]! << 8)
          const frame = segment.subarray(10)
          assert.equal(from, l4)
          const sum = checksum(frame.subarray(from))
          putBe16(frame, from + at, sum === 0 && inner.protocol === PROTOCOL.udp ? 0xffff : sum)
          got.push(frame)
        },
      )
      assert.equal(got.length, want.length)
      for (const [i, frame] of got.entries()) assert.equal(hex(frame), hex(want[i]!), `segment ${i}`)
      assert.equal(be16(got[0]!, 12), whole[12]! * 256 + whole[13]!)
    })
  }
}
