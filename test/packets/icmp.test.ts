/** ICMP errors that no recording has: what they quote, whom they are about, and what is learnt of them. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { LiveRecord, SettingsRecord } from '../../dataplane/layout/layout.gen.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Bench } from './bench.ts'
import { concat, unhex } from './bytes.ts'
import { decode } from './decode.ts'
import {
  type Extension,
  fragmentHeader,
  type IpPacket,
  icmp,
  icmpv6,
  ipv4,
  ipv6,
  PROTOCOL,
  padOptions,
  raw,
  tcp,
  udp,
} from './frame.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import {
  CLIENT4,
  CLIENT6,
  DIRECTOR4,
  fromClient,
  fromServer,
  RS4,
  RS6,
  request,
  service,
  VIP4,
  VIP6,
} from './scenes.ts'

const ROUTER4 = '203.0.113.254'
const ROUTER6 = '2001:db8:d::fe'
const FRAG_NEEDED = { type: 3, code: 4 } as const

/** RFC 4302 §2.2: lengths in 32-bit words, less two. */
const AUTHENTICATION: Extension = {
  protocol: PROTOCOL.ah,
  rest: unhex('0400000000000100000002000000030000000400000005'),
}

const CHAINS: readonly (readonly [string, readonly Extension[]])[] = [
  ['nothing', []],
  ['a fragment header of offset 0', [fragmentHeader(7, 0, true)]],
  ['destination options', [padOptions(PROTOCOL.destination, 2)]],
  [
    'hop-by-hop and destination options and a fragment header',
    [padOptions(PROTOCOL.hopByHop), padOptions(PROTOCOL.destination), fragmentHeader(7, 0, true)],
  ],
]

/** A packet towards the real server in the tunnel, as a router quotes it. */
function tunnelled(inner: IpPacket, type: 'ipip' | 'gue' | 'gre', server: string = RS4[0]): IpPacket {
  const around = { src: DIRECTOR4, dst: server, df: true }
  if (type === 'ipip') return ipv4(around, inner)
  if (type === 'gre') return ipv4(around, raw(PROTOCOL.gre, concat(unhex('00000800'), inner.bytes)))
  return ipv4(
    around,
    udp({ sport: 40_000, dport: 6080, checksum: 0 }, concat(unhex('00040000'), inner.bytes)),
  )
}

function questions(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)

  for (const [what, extensions] of CHAINS) {
    test(`an ICMPv6 error that quotes ${what} before the ports goes to the real server`, {
      skip,
    }, async () => {
      await it().load(service(6, 't', '-m', 1))
      it().send('c', request(6, tcp({ flags: 'S' })))
      const quoted = ipv6({ src: VIP6, dst: CLIENT6, extensions }, tcp({ sport: 80, dport: 40001 }))
      const got = it().send(
        'c',
        fromClient(ipv6({ src: ROUTER6, dst: VIP6 }, icmpv6({ type: 2, rest: 1280 }, quoted))),
      )
      assert.equal(got.verdict, 'forward_icmp')
      const lines = decode(got.frame).join('\n')
      assert.match(lines, /icmpv6 type 2 code 0 rest 0x500 checksum 0x\w+ ok/)
      assert.match(lines, new RegExp(`ipv6 ${RS6[0]} > ${CLIENT6}`))
    })
  }

  test('an ICMPv6 error that quotes an authentication header is about the ports behind it', {
    skip,
  }, async () => {
    await it().load(service(6, 't', '-g', 1))
    it().send('c', request(6, tcp({ flags: 'S' })))
    const quoted = ipv6(
      { src: VIP6, dst: CLIENT6, extensions: [AUTHENTICATION] },
      tcp({ sport: 80, dport: 40001 }),
    )
    const error = fromClient(ipv6({ src: ROUTER6, dst: VIP6 }, icmpv6({ type: 1, code: 4 }, quoted)))
    assert.equal(it().send('c', error).verdict, 'forward_icmp')
  })

  test('an ICMPv6 error about a later fragment is about nobody', { skip }, async () => {
    await it().load(service(6, 't', '-m', 1))
    it().send('c', request(6, tcp({ flags: 'S' })))
    const quoted = ipv6(
      { src: VIP6, dst: CLIENT6, extensions: [fragmentHeader(7, 8, true)] },
      tcp({ sport: 80, dport: 40001 }),
    )
    const error = fromClient(ipv6({ src: ROUTER6, dst: VIP6 }, icmpv6({ type: 2, rest: 1280 }, quoted)))
    assert.equal(it().send('c', error).verdict, 'pass_icmp')
  })

  for (const family of [4, 6] as const) {
    test(`IPv${family}: a NAT real server's error to a client without a neighbour does not leave as it is`, {
      skip,
    }, async () => {
      const [client, vip, server] =
        family === 4 ? ['192.0.2.77', VIP4, RS4[0]] : ['2001:db8:1::77', VIP6, RS6[0]]
      await it().load(service(family, 'u', '-m', 1))
      const asked = udp({ sport: 40001, dport: 53 }, 'question')
      it().send(
        'c',
        fromClient(
          family === 4 ? ipv4({ src: client, dst: vip }, asked) : ipv6({ src: client, dst: vip }, asked),
        ),
      )
      const error =
        family === 4
          ? ipv4(
              { src: server, dst: client },
              icmp({ type: 3, code: 3 }, ipv4({ src: client, dst: server }, asked)),
            )
          : ipv6(
              { src: server, dst: client },
              icmpv6({ type: 1, code: 4 }, ipv6({ src: client, dst: server }, asked)),
            )
      const got = it().send('r', fromServer(error))
      assert.equal(got.verdict, 'drop_next_hop_unresolved')
    })
  }

  const inner = (df: boolean, size = 1400): IpPacket =>
    ipv4({ src: CLIENT4, dst: VIP4, df, ttl: 63 }, tcp({ flags: 'A' }, new Uint8Array(size - 40)))
  const data = (size: number): Uint8Array =>
    fromClient(ipv4({ src: CLIENT4, dst: VIP4, df: true }, tcp({ flags: 'A' }, new Uint8Array(size - 40))))
  const told = (mtu: number, quote: IpPacket, dst = DIRECTOR4): Uint8Array =>
    fromServer(
      ipv4({ src: '10.0.2.254', dst }, icmp({ ...FRAG_NEEDED, rest: mtu }, quote.bytes.subarray(0, 548))),
    )
  const limit = (): number | null => {
    const got = it().send('c', data(1460))
    if (got.verdict === 'forward_tun') return null
    assert.equal(got.verdict, 'answer_too_big')
    return Number(/rest 0x(\w+)/.exec(decode(got.frame)[2] ?? '')?.[1]?.replace(/^/, '0x'))
  }
  const tunnel = async (type: 'ipip' | 'gue' | 'gre'): Promise<void> => {
    const words = type === 'gue' ? '-i --tun-type gue --tun-port 6080' : `-i --tun-type ${type}`
    await it().load(service(4, 't', words, 1))
    it().send('c', request(4, tcp({ flags: 'S' })))
  }

  for (const [type, overhead] of [
    ['ipip', 20],
    ['gre', 24],
    ['gue', 32],
  ] as const) {
    test(`${type}: what a router says of the path is kept for its real server and ends`, {
      skip,
    }, async () => {
      await tunnel(type)
      assert.equal(limit(), null)
      assert.equal(it().send('r', told(1300, tunnelled(inner(true), type))).verdict, 'forward_icmp_reply')
      assert.equal(limit(), 1300 - overhead)
      const larger = it().send('r', told(1400, tunnelled(inner(true), type)))
      assert.match(decode(larger.frame)[2] ?? '', new RegExp(`rest 0x${(1300 - overhead).toString(16)} `))
      assert.equal(limit(), 1300 - overhead, 'a path does not grow by being told')
      it().send('r', told(100, tunnelled(inner(true), type)))
      assert.equal(limit(), 552 - overhead, 'nor does it shrink to nothing')
      const { view, entries } = it().dataplane.map('live')
      for (let real = 0; real < entries; real++) {
        const at = real * LiveRecord.size
        const path = LiveRecord.getPath(view, at)
        if (path !== 0n) LiveRecord.setPath(view, at, path - (80_000n << 32n))
      }
      assert.equal(limit(), null, 'ten minutes later the path is tried anew')
      const settings = it().dataplane.map('settings').view
      SettingsRecord.setPathsLearnt(settings, 0, SettingsRecord.getPathsLearnt(settings, 0) - 80_000)
      assert.equal(limit(), null)
      assert.equal(SettingsRecord.getPathsLearnt(settings, 0), 0, 'no packet looks there any more')
    })
  }

  test('an error about a tunnel packet is ours only if all of it is', { skip }, async () => {
    await tunnel('gue')
    const whole = tunnelled(inner(true), 'gue')
    const strangers: readonly (readonly [string, Uint8Array])[] = [
      ['another kind of tunnel', told(1300, tunnelled(inner(true), 'ipip'))],
      ['another real server', told(1300, tunnelled(inner(true), 'gue', RS4[1]))],
      ['no connection', told(1300, tunnelled(ipv4({ src: CLIENT4, dst: VIP4 }, tcp({ sport: 9 })), 'gue'))],
      ['to another host', told(1300, whole, '10.0.2.99')],
    ]
    for (const [why, frame] of strangers) assert.equal(it().send('r', frame).verdict, 'pass_icmp', why)
    const spoiled = told(1300, whole)
    spoiled[spoiled.length - 1]! ^= 1
    assert.equal(it().send('r', spoiled).verdict, 'drop_icmp_checksum')
    assert.equal(limit(), null)
    assert.equal(it().send('r', told(1300, tunnelled(inner(false), 'gue'))).verdict, 'drop_icmp_taken')
    assert.equal(limit(), 1268)
  })

  test('schedule_icmp: an error makes a connection that its client goes on with', { skip }, async () => {
    await it().load(['schedule_icmp=1', ...service(4, 't', '-m', 2)])
    const about = (sport: number, dport = 40001): Uint8Array =>
      fromClient(
        ipv4(
          { src: ROUTER4, dst: VIP4 },
          icmp({ ...FRAG_NEEDED, rest: 1200 }, ipv4({ src: VIP4, dst: CLIENT4 }, tcp({ sport, dport }))),
        ),
      )
    const first = it().send('c', about(80))
    assert.equal(first.verdict, 'forward_icmp')
    assert.match(await it().run('ipvsadm -Lnc'), /TCP 00:0[23] {2}NONE +198\.51\.100\.7:40001 /)
    const after = it().send('c', request(4, tcp({ flags: 'A' })))
    assert.equal(after.verdict, 'forward_nat')
    assert.deepEqual(after.frame.subarray(0, 6), first.frame.subarray(0, 6), 'the same real server')
    assert.equal(it().send('c', about(81)).verdict, 'pass_icmp', 'no service there')
    assert.equal(it().send('c', about(80, 20)).verdict, 'pass_ftp_data')
    await it().load(['schedule_icmp=1', `ipvsadm -A -t ${VIP4}:80 -s rr`])
    assert.equal(it().send('c', about(80)).verdict, 'drop_no_real_server')
    await it().load(service(4, 't', '-m', 2))
    assert.equal(it().send('c', about(80)).verdict, 'pass_icmp', 'off by default')
  })

  test('schedule_icmp: a datagram of one go leaves no connection behind', { skip }, async () => {
    await it().load([
      'schedule_icmp=1',
      `ipvsadm -A -u ${VIP4}:53 -s rr -o`,
      `ipvsadm -a -u ${VIP4}:53 -r ${RS4[0]}:53 -g`,
    ])
    const quoted = ipv4({ src: VIP4, dst: CLIENT4 }, udp({ sport: 53, dport: 40001 }))
    const error = fromClient(ipv4({ src: ROUTER4, dst: VIP4 }, icmp({ type: 3, code: 3 }, quoted)))
    assert.equal(it().send('c', error).verdict, 'forward_icmp')
    assert.doesNotMatch(await it().run('ipvsadm -Lnc'), /UDP/)
  })

  test('ping of a virtual address is answered by the stack', { skip }, async () => {
    await it().load([...service(4, 't', '-m', 1), ...service(6, 't', '-m', 1)])
    const echo4 = fromClient(ipv4({ src: CLIENT4, dst: VIP4 }, icmp({ type: 8, rest: 1 }, 'ping')))
    const echo6 = fromClient(ipv6({ src: CLIENT6, dst: VIP6 }, icmpv6({ type: 128, rest: 1 }, 'ping')))
    assert.equal(it().send('c', echo4).verdict, 'pass_icmp')
    assert.equal(it().send('c', echo6).verdict, 'pass_icmp')
  })
}

describe('ICMP in wasm', () => {
  questions(async () => openWasmProgram(), false)
})

describe('ICMP in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmic${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
  )
})
