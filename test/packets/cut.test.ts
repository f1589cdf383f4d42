/** Packets that are larger than the path and may be fragmented leave in fragments, where the host can make them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DataplaneName, playAll } from '../conformance/packets.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { MAC } from './bench.ts'
import { hex } from './bytes.ts'
import { fragmentsOf } from './fragments-of.ts'
import { ethernet, type IpPacket, type Ipv4Fields, ipv4, ipv6, udp } from './frame.ts'
import type { Setup, Vector, Wire } from './vectors.ts'
import { openWireHost } from './wire-host.ts'

const CLIENT = '198.51.100.7'
const VIP = '192.0.2.100'
const NAT = '10.0.2.11'
const TUNNEL6 = '2001:db8:2::12'
const DATA = Uint8Array.from({ length: 1400 }, (_, i) => i * 7 + (i >> 8))

const request = (fields: Partial<Ipv4Fields>, dst = VIP, dport = 53): IpPacket =>
  ipv4({ src: CLIENT, dst, ...fields }, udp({ sport: 40001, dport }, DATA))
const fromClient = (packet: IpPacket) => ethernet({ src: MAC.clientRouter, dst: MAC.c0 }, packet)
const toServer = (mac: string, packet: IpPacket) => ethernet({ src: MAC.r0, dst: mac }, packet)

function vector(
  name: string,
  setup: readonly Setup[],
  steps: readonly [Wire, Uint8Array, Wire, Uint8Array][],
): Vector {
  return {
    name,
    area: 'cut',
    kernel: 'none',
    setup,
    steps: steps.map(([wire, frame, out, expected]) => ({
      inject: { wire, frame: hex(frame) },
      expect: [{ wire: out, frame: hex(expected) }],
    })),
  }
}

const ipvsadm = (line: string): Setup => ['ipvsadm', ...line.split(' ')]
const mtu = (link: string, bytes: number): Setup => ['ip', 'link', 'set', link, 'mtu', String(bytes)]

/** Compared as the real server or the client puts them together. */
const VECTORS: readonly Vector[] = [
  vector(
    'around an IPv4 packet, a tunnel over IPv6',
    [mtu('r0', 1400), ipvsadm(`-A -u ${VIP}:53`), ipvsadm(`-a -u ${VIP}:53 -r ${TUNNEL6} -i`)],
    [
      [
        'c',
        fromClient(request({})),
        'r',
        toServer(MAC.rs2, ipv6({ src: '2001:db8:2::1', dst: TUNNEL6, hopLimit: 63 }, request({ ttl: 63 }))),
      ],
    ],
  ),
  vector(
    'to a direct routing real server',
    [mtu('r0', 700), ipvsadm(`-A -u ${VIP}:53`), ipvsadm(`-a -u ${VIP}:53 -r ${NAT} -g`)],
    [['c', fromClient(request({})), 'r', toServer(MAC.rs1, request({ ttl: 63 }))]],
  ),
  vector(
    'to a NAT real server',
    [mtu('r0', 700), ipvsadm(`-A -u ${VIP}:53`), ipvsadm(`-a -u ${VIP}:53 -r ${NAT}:5353 -m`)],
    [['c', fromClient(request({})), 'r', toServer(MAC.rs1, request({ ttl: 63 }, NAT, 5353))]],
  ),
  vector(
    'from a NAT real server to a client',
    [mtu('c0', 600), ipvsadm(`-A -u ${VIP}:53`), ipvsadm(`-a -u ${VIP}:53 -r ${NAT}:5353 -m`)],
    [
      [
        'c',
        fromClient(ipv4({ src: CLIENT, dst: VIP }, udp({ sport: 40001, dport: 53 }))),
        'r',
        toServer(MAC.rs1, ipv4({ src: CLIENT, dst: NAT, ttl: 63 }, udp({ sport: 40001, dport: 5353 }))),
      ],
      [
        'r',
        ethernet(
          { src: MAC.rs1, dst: MAC.r0 },
          ipv4({ src: NAT, dst: CLIENT }, udp({ sport: 5353, dport: 40001 }, DATA)),
        ),
        'c',
        ethernet(
          { src: MAC.c0, dst: MAC.clientRouter },
          ipv4({ src: VIP, dst: CLIENT, ttl: 63 }, udp({ sport: 53, dport: 40001 }, DATA)),
        ),
      ],
    ],
  ),
]

function leavesInFragments(plane: DataplaneName, skip: string | null): void {
  test(`on ${plane} they leave in fragments`, { skip: skip ?? false }, async (t) => {
    for (const { name, outcome, lines } of await playAll(VECTORS, plane, 1))
      await t.test(name, () => assert.equal(outcome, 'passed', lines.join('\n')))
  })
}

/** XDP has a program of traffic control do it; what NAT has translated the stack forwards, and cuts. */
for (const plane of ['xdp', 'tc', 'userspace'] as const) leavesInFragments(plane, missingPrivilege())
leavesInFragments('wasm', null)

test('traffic control and the userspace plane make the same fragments', {
  skip: missingPrivilege() ?? false,
}, async () => {
  const host = await openWireHost(`pmcut${process.pid % 100_000}`, 'tc')
  try {
    await host.reset()
    for (const step of [mtu('r0', 700), ipvsadm(`-A -u ${VIP}:53`), ipvsadm(`-a -u ${VIP}:53 -r ${NAT} -g`)])
      await host.setup(step)
    await host.settle()
    // Record route is the first one's, the router alert everybody's (RFC 791 §3.1, RFC 2113).
    const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0)
    for (const fields of [{ id: 5 }, { options, id: 6 }]) {
      const frameOf = (ttl: number) => request({ ttl, ...fields })
      const wanted = fragmentsOf(toServer(MAC.rs1, frameOf(63)), 700, 0)
      assert.ok(wanted.length > 2)
      const expect = wanted.map((frame) => ({ wire: 'r' as const, frame: hex(frame) }))
      const { frames } = await host.inject({
        inject: { wire: 'c', frame: hex(fromClient(frameOf(64))) },
        expect,
      })
      assert.deepEqual(
        frames.map(({ frame }) => hex(frame)),
        expect.map(({ frame }) => frame),
      )
    }
  } finally {
    await host.close()
  }
})
