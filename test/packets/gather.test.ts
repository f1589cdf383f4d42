/** Datagrams that come in fragments are put together in traffic control, where packets are taken there and beside XDP. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DataplaneName, playAll } from '../conformance/packets.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { MAC } from './bench.ts'
import { checksum, concat, hex } from './bytes.ts'
import { fragmentsOf } from './fragments-of.ts'
import { ethernet, type IpPacket, ipv4, ipv6, type Segment, tcp, udp } from './frame.ts'
import type { Setup, Vector, Wire } from './vectors.ts'

const CLIENT = { 4: '198.51.100.7', 6: '2001:db8:c::7' } as const
const VIP = { 4: '192.0.2.100', 6: '2001:db8:1::100' } as const
const SERVER = { 4: '10.0.2.11', 6: '2001:db8:2::11' } as const
const DIRECTOR = '2001:db8:2::1'
const FAMILIES = [4, 6] as const
type Family = (typeof FAMILIES)[number]
/** Bytes of IP packets that fragments are. */
const SIZE = 1400

const bytesOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8))
const ip = (src: string, dst: string, segment: Segment, ttl = 64): IpPacket =>
  src.includes(':') ? ipv6({ src, dst, hopLimit: ttl }, segment) : ipv4({ src, dst, ttl, id: 77 }, segment)
const fromClient = (packet: IpPacket) => ethernet({ src: MAC.clientRouter, dst: MAC.c0 }, packet)
const toClient = (packet: IpPacket) => ethernet({ src: MAC.c0, dst: MAC.clientRouter }, packet)
const fromServer = (packet: IpPacket) => ethernet({ src: MAC.rs1, dst: MAC.r0 }, packet)
const toServer = (packet: IpPacket) => ethernet({ src: MAC.r0, dst: MAC.rs1 }, packet)
const at = (address: string, port: number) => `${address.includes(':') ? `[${address}]` : address}:${port}`
const ipvsadm = (line: string): Setup => ['ipvsadm', ...line.split(' ')]

/** The frame in fragments, in order. */
const pieces = (frame: Uint8Array, size = SIZE): Uint8Array[] => fragmentsOf(frame, size, 99)

interface Sent {
  readonly wire: Wire
  readonly frames: readonly Uint8Array[]
  readonly out: Wire
  /** What has left when all of them are there. */
  readonly expected: readonly Uint8Array[]
  /** The frame that the first of it leaves with where there is no room for all of it; the last unless said otherwise. */
  readonly from?: number
}

/** @param hasRoom for datagrams of any size */
type VectorOf = (hasRoom: boolean) => Vector

function vector(name: string, setup: readonly Setup[], sent: readonly Sent[]): VectorOf {
  return (hasRoom) => ({
    ...{ name, area: 'gather', kernel: 'none', setup },
    steps: sent.flatMap(({ wire, frames, out, expected, from: early }) =>
      frames.map((frame, i) => {
        const from = hasRoom || early === undefined ? frames.length - 1 : early
        const due =
          i < from
            ? []
            : i === from
              ? expected.slice(0, expected.length - (frames.length - 1 - i))
              : [expected[expected.length - (frames.length - i)]!]
        return {
          inject: { wire, frame: hex(frame) },
          expect: due.map((one) => ({ wire: out, frame: hex(one) })),
        }
      }),
    ),
  })
}

const shuffled = (frames: readonly Uint8Array[]): Uint8Array[] =>
  frames.map((_, i) => frames[(i * 7 + 3) % frames.length]!)

/** A datagram to the service of a method, and what the real server gets. */
function asked(family: Family, method: string, data: Uint8Array): { frame: Uint8Array; arrives: Uint8Array } {
  const there = udp({ sport: 40001, dport: 53 }, data)
  const frame = fromClient(ip(CLIENT[family], VIP[family], there))
  switch (method) {
    case '-m':
      return {
        frame,
        arrives: toServer(ip(CLIENT[family], SERVER[family], udp({ sport: 40001, dport: 5353 }, data), 63)),
      }
    case '-g':
      return { frame, arrives: toServer(ip(CLIENT[family], VIP[family], there, 63)) }
    default: {
      const inside = ip(CLIENT[family], VIP[family], there, 63)
      return {
        frame,
        arrives: toServer(ipv6({ src: DIRECTOR, dst: SERVER[6], hopLimit: 63 }, inside)),
      }
    }
  }
}

/** The same payload behind more headers, which the datagram's first has not. */
function withLongerHeaders(first: Uint8Array): Uint8Array {
  const at = first[14]! >> 4 === 4 ? 34 : 54
  const more = at === 34 ? Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 0) : Uint8Array.of(44, 0, 1, 4, 0, 0, 0, 0)
  const frame = concat(first.subarray(0, at), more, first.subarray(at))
  const view = new DataView(frame.buffer)
  if (at === 54) {
    frame[20] = 60
    view.setUint16(18, view.getUint16(18) + more.length)
    return frame
  }
  frame[14] = 0x47
  view.setUint16(16, view.getUint16(16) + more.length)
  view.setUint16(24, 0)
  view.setUint16(24, checksum(frame.subarray(14, 42)))
  return frame
}

const setup = (family: Family, method: string): Setup[] => [
  ipvsadm(`-A -u ${at(VIP[family], 53)} -s rr`),
  ipvsadm(
    `-a -u ${at(VIP[family], 53)} -r ${at(SERVER[method === '-i' ? 6 : family], method === '-m' ? 5353 : 53)} ${method}`,
  ),
]

const VECTORS: readonly VectorOf[] = [
  ...FAMILIES.flatMap((family) =>
    ['-m', '-g'].flatMap((method) =>
      [4000, 15_300].map((length) => {
        const { frame, arrives } = asked(family, method, bytesOf(length))
        const expected = pieces(arrives)
        const sent = { wire: 'c', out: 'r', expected } as const
        return vector(`IPv${family} ${method}, ${length} bytes`, setup(family, method), [
          { ...sent, frames: pieces(frame).toReversed() },
          { ...sent, frames: pieces(frame) },
          { ...sent, frames: shuffled(pieces(frame)) },
        ])
      }),
    ),
  ),
  ...FAMILIES.map((family) => {
    const { frame, arrives } = asked(family, '-i', bytesOf(family === 4 ? 1300 : 1350))
    return vector(`IPv${family} -i, of a size that leaves whole`, setup(family, '-i'), [
      { wire: 'c', out: 'r', frames: pieces(frame, 800).toReversed(), expected: [arrives] },
    ])
  }),
  ...FAMILIES.map((family) => {
    const { frame, arrives } = asked(family, '-m', bytesOf(100))
    const answer = fromServer(
      ip(SERVER[family], CLIENT[family], udp({ sport: 5353, dport: 40001 }, bytesOf(5000))),
    )
    const back = toClient(
      ip(VIP[family], CLIENT[family], udp({ sport: 53, dport: 40001 }, bytesOf(5000)), 63),
    )
    return vector(`IPv${family}: a NAT real server's answer, reversed`, setup(family, '-m'), [
      { wire: 'c', out: 'r', frames: [frame], expected: [arrives] },
      { wire: 'r', out: 'c', frames: pieces(answer).toReversed(), expected: pieces(back) },
    ])
  }),
  ...FAMILIES.map((family) => {
    const { frame, arrives } = asked(family, '-m', bytesOf(4000))
    const [first, second, ...rest] = pieces(frame)
    return vector(`IPv${family}: fragments that come twice`, setup(family, '-m'), [
      {
        ...{ wire: 'c', out: 'r', expected: pieces(arrives) },
        frames: [second!, first!, second!, first!, ...rest],
      },
    ])
  }),
  ...FAMILIES.map((family) => {
    const { frame, arrives } = asked(family, '-m', bytesOf(4000))
    const [first, ...rest] = pieces(frame)
    const again = withLongerHeaders(first!)
    return vector(`IPv${family}: a first fragment that comes again with more headers`, setup(family, '-m'), [
      { wire: 'c', out: 'r', expected: pieces(arrives), frames: [first!, again, ...rest] },
    ])
  }),
  ...FAMILIES.map((family) => {
    const frames = pieces(asked(family, '-m', bytesOf(4000)).frame)
    const others = pieces(asked(family, '-m', bytesOf(4000)).frame, SIZE - 160)
    return vector(`IPv${family}: of fragments that overlap nothing is taken`, setup(family, '-m'), [
      { wire: 'c', out: 'r', frames: [frames[0]!, others[1]!, frames[1]!, frames[2]!], expected: [] },
    ])
  }),
  ...FAMILIES.map((family) => {
    const { frame, arrives } = asked(family, '-m', bytesOf(20_000))
    const frames = pieces(frame)
    const payload = SIZE - (family === 4 ? 20 : 48)
    return vector(
      `IPv${family}: a datagram that is larger than a packet can be, in order`,
      setup(family, '-m'),
      [
        // All that has been kept goes on with the one that says so.
        { wire: 'c', out: 'r', frames, expected: pieces(arrives), from: Math.floor(15_360 / payload) },
      ],
    )
  }),
  ...FAMILIES.map((family) => {
    const { frame, arrives } = asked(family, '-m', bytesOf(20_000))
    const late = (frames: readonly Uint8Array[]) => {
      const [head, second, third, ...rest] = frames
      return [head!, second!, ...rest.slice(0, 9), third!, ...rest.slice(9)]
    }
    return vector(`IPv${family}: one that is so large, of which a fragment comes late`, setup(family, '-m'), [
      { wire: 'c', out: 'r', frames: late(pieces(frame)), expected: late(pieces(arrives)), from: 10 },
    ])
  }),
  ...FAMILIES.map((family) => {
    const service = at(VIP[family], 5060)
    const call = Buffer.from(`INVITE sip:a@b SIP/2.0\r\nVia: ${'x'.repeat(2000)}\r\nCall-ID: a@x\r\n\r\n`)
    const { client, vip, server } = { client: CLIENT[family], vip: VIP[family], server: SERVER[family] }
    const asked = udp({ sport: 5060, dport: 5060 }, call)
    const there = udp({ sport: 5060, dport: 5066 }, call)
    const said = udp({ sport: 5066, dport: 5060 }, call)
    return vector(
      `IPv${family}: SIP in fragments, whose Call-ID is not in the first`,
      [
        ipvsadm(`-A -u ${service} -s rr -p 100 -o --pe sip`),
        ipvsadm(`-a -u ${service} -r ${at(server, 5066)} -m`),
      ],
      [
        {
          ...{ wire: 'c', out: 'r', frames: pieces(fromClient(ip(client, vip, asked))) },
          expected: pieces(toServer(ip(client, server, there, 63))),
        },
        {
          ...{ wire: 'r', out: 'c', frames: pieces(fromServer(ip(server, client, said))).toReversed() },
          expected: pieces(toClient(ip(vip, client, asked, 63))),
        },
      ],
    )
  }),
  vector(
    'a connection that begins with a SYN in fragments',
    [ipvsadm(`-A -t ${VIP[4]}:80 -s rr`), ipvsadm(`-a -t ${VIP[4]}:80 -r ${SERVER[4]}:8080 -m`)],
    [
      {
        ...{ wire: 'c', out: 'r' },
        frames: pieces(fromClient(ip(CLIENT[4], VIP[4], tcp({ sport: 40001, dport: 80, flags: 'S' }))), 28),
        expected: [toServer(ip(CLIENT[4], SERVER[4], tcp({ sport: 40001, dport: 8080, flags: 'S' }), 63))],
      },
    ],
  ),
]

function arePutTogether(plane: DataplaneName, skip: string | null): void {
  test(`on ${plane} datagrams are put together`, { skip: skip ?? false }, async (t) => {
    const vectors = VECTORS.map((of) => of(plane === 'userspace'))
    for (const { name, outcome, lines } of await playAll(vectors, plane, 1))
      await t.test(name, () => assert.equal(outcome, 'passed', lines.join('\n')))
  })
}

for (const plane of ['xdp', 'tc', 'userspace'] as const) arePutTogether(plane, missingPrivilege())
