/** Full NAT, in both objects: both ends of packets and of errors, frame by frame; whose a port is, and until when. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { PM_TICK_SHIFT } from '../../dataplane/layout/layout.gen.ts'
import { parseAddress } from '../../net/address.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Bench } from './bench.ts'
import { decode } from './decode.ts'
import {
  CHUNK,
  ethernet,
  type IpPacket,
  icmp,
  icmpv6,
  ip,
  ipv4,
  type Segment,
  sctp,
  tcp,
  udp,
} from './frame.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import {
  CLIENT4,
  ENDS,
  fromClient,
  fromServer,
  RS4,
  RS6,
  service,
  toClient,
  toServer,
  VIP4,
} from './scenes.ts'

const OURS = { 4: '10.0.2.5', 6: '2001:db8:2::5' } as const
const ROUTER = { 4: '203.0.113.254', 6: '2001:db8:d::fe' } as const
const SERVER = { 4: RS4[0], 6: RS6[0] } as const
const FAMILIES = [4, 6] as const
const SECOND = Math.round(1e9 / 2 ** PM_TICK_SHIFT)

const bracket = (text: string): string => (text.includes(':') ? `[${text}]` : text)
const sent = (hop: { dst: string; src: string }, packet: IpPacket): Uint8Array => ethernet(hop, packet)

/** One address with these ports, and a service on port 80 or 53 whose real server listens elsewhere. */
async function scene(
  it: Program,
  family: 4 | 6,
  option: string,
  ports = { from: 5000, to: 5000 },
): Promise<void> {
  const at = `${option} ${bracket(ENDS[family].vip)}:${option === '-u' ? 53 : 80}`
  await it.load([`ipvsadm -A ${at} -s rr`, `ipvsadm -a ${at} -r ${bracket(SERVER[family])}:8080 --full-nat`])
  await it.changeFullNat({ add: [{ address: parseAddress(OURS[family])!, ports }], delete: [] })
}

const SEGMENTS: Readonly<Record<string, (sport: number, dport: number, answer: boolean) => Segment>> = {
  '-t': (sport, dport, answer) => tcp({ sport, dport, flags: answer ? 'SA' : 'S' }, ''),
  '-u': (sport, dport) => udp({ sport, dport }, 'an odd number of bytes'),
  '--sctp-service': (sport, dport, answer) =>
    sctp({ sport, dport }, [{ type: answer ? CHUNK.initAck : CHUNK.init, value: 'sixteen bytes ..' }]),
}

function both(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)

  for (const family of FAMILIES)
    for (const [option, segment] of Object.entries(SEGMENTS))
      test(`IPv${family} ${option}: both ends are replaced there and back`, { skip }, async () => {
        await scene(it(), family, option)
        const { client, vip } = ENDS[family]
        const port = option === '-u' ? 53 : 80
        const there = it().send('c', fromClient(ip({ src: client, dst: vip }, segment(40001, port, false))))
        assert.equal(there.verdict, 'forward_nat')
        assert.deepEqual(
          decode(there.frame),
          decode(
            sent(
              toServer(0),
              ip({ src: OURS[family], dst: SERVER[family], ttl: 63 }, segment(5000, 8080, false)),
            ),
          ),
        )
        const back = it().send(
          'r',
          fromServer(ip({ src: SERVER[family], dst: OURS[family] }, segment(8080, 5000, true))),
        )
        assert.equal(back.verdict, 'forward_nat_reply')
        assert.deepEqual(
          decode(back.frame),
          decode(sent(toClient, ip({ src: vip, dst: client, ttl: 63 }, segment(port, 40001, true)))),
        )
        assert.equal(back.wire, 'c')
      })

  test('a datagram without a checksum gets one', { skip }, async () => {
    await scene(it(), 4, '-u')
    const got = it().send(
      'c',
      fromClient(ip({ src: CLIENT4, dst: VIP4 }, udp({ sport: 40001, checksum: 0 }, 'question'))),
    )
    assert.deepEqual(
      decode(got.frame),
      decode(
        sent(
          toServer(0),
          ip({ src: OURS[4], dst: RS4[0], ttl: 63 }, udp({ sport: 5000, dport: 8080 }, 'question')),
        ),
      ),
    )
  })

  for (const family of FAMILIES) {
    const { client, vip } = ENDS[family]
    const error = (quoted: IpPacket): Segment =>
      family === 4 ? icmp({ type: 3, code: 4, rest: 1280 }, quoted) : icmpv6({ type: 2, rest: 1280 }, quoted)
    const begin = async (): Promise<void> => {
      await scene(it(), family, '-t')
      it().send('c', fromClient(ip({ src: client, dst: vip }, tcp({ flags: 'S' }))))
    }

    test(`IPv${family}: an error about an answer reaches the real server, about what it sent`, {
      skip,
    }, async () => {
      await begin()
      const got = it().send(
        'c',
        fromClient(
          ip(
            { src: ROUTER[family], dst: vip },
            error(ip({ src: vip, dst: client }, tcp({ sport: 80, dport: 40001 }))),
          ),
        ),
      )
      assert.equal(got.verdict, 'forward_icmp')
      const about = ip(
        { src: SERVER[family], dst: OURS[family] },
        quotedLike({ sport: 8080, dport: 5000 }, vip, client),
      )
      assert.deepEqual(
        decode(got.frame),
        decode(sent(toServer(0), ip({ src: OURS[family], dst: SERVER[family], ttl: 63 }, error(about)))),
      )
    })

    test(`IPv${family}: an error about a request reaches the client, about what it sent`, {
      skip,
    }, async () => {
      await begin()
      const got = it().send(
        'r',
        fromServer(
          ip(
            { src: SERVER[family], dst: OURS[family] },
            error(ip({ src: OURS[family], dst: SERVER[family] }, tcp({ sport: 5000, dport: 8080 }))),
          ),
        ),
      )
      assert.equal(got.verdict, 'forward_icmp_reply')
      const about = ip(
        { src: client, dst: vip },
        quotedLike({ sport: 40001, dport: 80 }, OURS[family], SERVER[family], 5000, 8080),
      )
      assert.deepEqual(
        decode(got.frame),
        decode(sent(toClient, ip({ src: vip, dst: client, ttl: 63 }, error(about)))),
      )
    })
  }

  test('what comes to the address and belongs to no connection is the stack’s', { skip }, async () => {
    await scene(it(), 4, '-t')
    it().send('c', fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ flags: 'S' }))))
    for (const [sport, dport] of [
      [8080, 5001],
      [8081, 5000],
      [22, 40000],
    ] as const) {
      const got = it().send('r', fromServer(ip({ src: RS4[0], dst: OURS[4] }, tcp({ sport, dport }))))
      assert.equal(got.action, 'pass', `${sport} ${dport}`)
    }
  })

  test('an answer that cannot go on is answered, and not left to the stack, whose it is not', {
    skip,
  }, async () => {
    await scene(it(), 4, '-t')
    it().send('c', fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ flags: 'S' }))))
    const last = it().send(
      'r',
      fromServer(ip({ src: RS4[0], dst: OURS[4], ttl: 1 }, tcp({ sport: 8080, dport: 5000, flags: 'SA' }))),
    )
    assert.equal(last.verdict, 'answer_time_exceeded')
    assert.match(decode(last.frame).join('\n'), new RegExp(`ipv4 ${OURS[4]} > ${RS4[0]}`))
    // A frame of more than a page is no frame of BPF_PROG_TEST_RUN.
    if (it().name === 'BPF') return
    const large = it().send(
      'r',
      fromServer(
        ipv4({ src: RS4[0], dst: OURS[4], df: true }, tcp({ sport: 8080, dport: 5000 }, 'x'.repeat(3600))),
      ),
    )
    assert.equal(large.verdict, 'answer_too_big')
  })

  test('every port is had once, and none that is left refuses a connection by name', { skip }, async () => {
    await scene(it(), 4, '-t', { from: 5000, to: 5003 })
    const seen = new Set<number>()
    const verdicts = Array.from({ length: 6 }, (_, n) => {
      const got = it().send(
        'c',
        fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ sport: 41_000 + n, flags: 'S' }))),
      )
      if (got.verdict === 'forward_nat')
        seen.add(new DataView(got.frame.buffer, got.frame.byteOffset).getUint16(34))
      return got.verdict
    })
    assert.deepEqual(verdicts, [
      ...Array.from({ length: 4 }, () => 'forward_nat'),
      ...Array.from({ length: 2 }, () => 'drop_ports_taken'),
    ])
    assert.deepEqual([...seen].sort(), [5000, 5001, 5002, 5003])
  })

  test('another real server has the same ports for itself', { skip }, async () => {
    await it().load(service(4, 't', '--full-nat', 2))
    await it().changeFullNat({
      add: [{ address: parseAddress(OURS[4])!, ports: { from: 5000, to: 5000 } }],
      delete: [],
    })
    const verdicts = [1, 2, 3].map(
      (n) =>
        it().send('c', fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ sport: 41_000 + n, flags: 'S' }))))
          .verdict,
    )
    assert.deepEqual(verdicts, ['forward_nat', 'forward_nat', 'drop_ports_taken'])
  })

  test('without an address the rule is kept and its packets are the stack’s', { skip }, async () => {
    await it().load(service(4, 't', '--full-nat', 1))
    const syn = fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ flags: 'S' })))
    assert.equal(it().send('c', syn).verdict, 'pass_unsupported')
    await it().changeFullNat({ add: [{ address: parseAddress(OURS[4])! }], delete: [] })
    assert.equal(it().send('c', syn).verdict, 'forward_nat')
    await it().changeFullNat({ add: [], delete: [parseAddress(OURS[4])!] })
    assert.equal(it().send('c', syn).verdict, 'forward_nat', 'a connection keeps what it has')
    assert.match(await it().run('ipvsadm -Ln'), /-> 10\.0\.2\.11:80 +FullNat +1 +1 +0 /)
  })
}

/** A TCP header as it was quoted: its checksum is that of the packet before it was translated. */
function quotedLike(
  ports: { sport: number; dport: number },
  src: string,
  dst: string,
  sport = 80,
  dport = 40001,
): Segment {
  const before = ip({ src, dst }, tcp({ sport, dport })).bytes
  const l4 = src.includes(':') ? 40 : 20
  const checksum = new DataView(before.buffer, before.byteOffset).getUint16(l4 + 16)
  return tcp({ ...ports, checksum })
}

describe('full NAT, wasm', () => both(async () => openWasmProgram(), false))
describe('full NAT, BPF', () =>
  both(
    async () => await openKernelProgram(new Bench(`pmfn${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
  ))

describe('a port', () => {
  let now = 1_000_000
  const it = openedProgram(async () => openWasmProgram(() => now), false)
  const ask = (sport: number, flags = 'S'): string =>
    it().send('c', fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ sport, flags })))).verdict

  test('is free as soon as its connection’s time is over, and nobody has to look after it', async () => {
    await scene(it(), 4, '-t')
    assert.equal(ask(41_000), 'forward_nat')
    assert.equal(ask(41_001), 'drop_ports_taken')
    now += 130 * SECOND
    assert.equal(ask(41_001), 'forward_nat')
    assert.equal(ask(41_000), 'drop_ports_taken')
  })

  test('is given back by a connection that has to begin anew', async () => {
    await scene(it(), 4, '-t')
    assert.equal(ask(41_000), 'forward_nat')
    assert.equal(ask(41_000, 'R'), 'forward_nat')
    assert.equal(ask(41_000), 'forward_nat')
  })
})
