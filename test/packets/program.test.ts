import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { MapMemory } from '../../dataplane/dataplane.ts'
import { listInterfaces, putInterface } from '../../dataplane/interface-table.ts'
import { InterfaceRecord } from '../../dataplane/layout/layout.gen.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Bench, MAC } from './bench.ts'
import { be16, concat, macBytes } from './bytes.ts'
import { decode, diff } from './decode.ts'
import {
  ethernet,
  fragmentHeader,
  type Ipv4Fields,
  icmp,
  icmpv6,
  ipv4,
  ipv6,
  PROTOCOL,
  padOptions,
  patch,
  raw,
  type Segment,
  tcp,
  udp,
} from './frame.ts'
import { forward, type Hop, natIn, natOut, roundRobin, tunnel, WeightedRoundRobin } from './model.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import {
  CLIENT4,
  DIRECTOR4,
  DIRECTOR6,
  ENDS,
  fromClient,
  fromServer,
  RS4,
  RS6,
  reply,
  request,
  service,
  toClient,
  toServer,
  VIP4,
  VIP6,
} from './scenes.ts'
import type { Wire } from './vectors.ts'

/** The frame, or the frame for what the program chose freely (ids of outer headers). */
type Wanted = Uint8Array | ((got: Uint8Array) => Uint8Array)

interface Case {
  readonly name: string
  readonly rules: readonly string[]
  readonly steps: readonly {
    readonly wire: Wire
    readonly send: Uint8Array
    readonly verdict: string
    /** What has to leave, and where; left out when nothing may. */
    readonly want?: { readonly wire: Wire; readonly frame: Wanted }
  }[]
}

const syn = (sport = 40001): Segment => tcp({ sport, flags: 'S' })
const FAMILIES = [4, 6] as const

function recordOf(map: MapMemory, ifindex: number): InterfaceRecord {
  const records = Array.from({ length: map.entries }, (_, i) =>
    InterfaceRecord.read(map.view, i * map.entrySize),
  )
  return records.find((record) => record.ifindex === ifindex)!
}

/** Request and reply through NAT to a real server that listens on another port. */
function natCases(): Case[] {
  return FAMILIES.flatMap((family) =>
    (['t', 'u'] as const).map((protocol) => {
      const segment = protocol === 't' ? syn() : udp({ sport: 40001 }, 'question')
      const vport = protocol === 't' ? 80 : 53
      const back =
        protocol === 't'
          ? tcp({ sport: 8080, dport: 40001, flags: 'SA' })
          : udp({ sport: 8080, dport: 40001 }, 'answer')
      const { vip } = ENDS[family]
      const real = (family === 4 ? RS4 : RS6)[0]
      const bracket = (text: string): string => (family === 6 ? `[${text}]` : text)
      const sent = request(family, segment)
      const answer = reply(family, back)
      return {
        name: `nat: IPv${family} ${protocol === 't' ? 'tcp' : 'udp'} to a mapped port and back`,
        rules: [
          `ipvsadm -A -${protocol} ${bracket(vip)}:${vport} -s rr`,
          `ipvsadm -a -${protocol} ${bracket(vip)}:${vport} -r ${bracket(real)}:8080 -m`,
        ],
        steps: [
          {
            wire: 'c',
            send: sent,
            verdict: 'forward_nat',
            want: { wire: 'r', frame: natIn(sent, toServer(0), real, 8080) },
          },
          {
            wire: 'r',
            send: answer,
            verdict: 'forward_nat_reply',
            want: { wire: 'c', frame: natOut(answer, toClient, vip, vport) },
          },
        ],
      } satisfies Case
    }),
  )
}

/** A request that needs one step and one answer. */
function once(
  name: string,
  rules: readonly string[],
  send: Uint8Array,
  verdict: string,
  frame?: Wanted,
  wire: Wire = 'r',
): Case {
  return {
    name,
    rules,
    steps: [{ wire: 'c', send, verdict, ...(frame === undefined ? {} : { want: { wire, frame } }) }],
  }
}

function v4(fields: Partial<Ipv4Fields>, segment: Segment, padding = 0): Uint8Array {
  return fromClient(ipv4({ src: CLIENT4, dst: VIP4, ...fields }, segment), padding)
}

const dr = service(4, 't', '-g', 1)
const nat = service(4, 't', '-m', 1)
const tun = service(4, 't', '-i', 1)
const udpNat = service(4, 'u', '-m', 1)
const pass = (name: string, send: Uint8Array, verdict: string, rules = dr): Case =>
  once(name, rules, send, verdict)

const METHODS: Case[] = [
  ...FAMILIES.map((family) => {
    const sent = request(family, syn())
    return once(
      `dr: IPv${family} changes nothing but addresses of the link and the hop count`,
      service(family, 't', '-g', 1),
      sent,
      'forward_dr',
      forward(sent, toServer(0)),
    )
  }),
  ...FAMILIES.map((family) => {
    const sent = request(family, syn())
    const [source, server] = family === 4 ? [DIRECTOR4, RS4[0]] : [DIRECTOR6, RS6[0]]
    return once(
      `tun: IPv${family} goes into a header of its own family`,
      service(family, 't', '-i', 1),
      sent,
      'forward_tun',
      (got) => tunnel(sent, toServer(0), source, server, be16(got, 18)),
    )
  }),
  once(
    'tun: IPv4 in IPv6',
    [dr[0] ?? '', `ipvsadm -a -t ${VIP4}:80 -r [${RS6[0]}]:80 -i`],
    request(4, syn()),
    'forward_tun',
    tunnel(request(4, syn()), toServer(0), DIRECTOR6, RS6[0]),
  ),
  once(
    'tun: IPv6 in IPv4',
    [`ipvsadm -A -t [${VIP6}]:80 -s rr`, `ipvsadm -a -t [${VIP6}]:80 -r ${RS4[0]}:80 -i`],
    request(6, syn()),
    'forward_tun',
    (got) => tunnel(request(6, syn()), toServer(0), DIRECTOR4, RS4[0], be16(got, 18)),
  ),
]

/** Fields that a method copies: TOS, ECN, DF, options, TTL. */
const FIELDS: Case[] = [
  ...[0x00, 0x01, 0x02, 0x03, 0xb8, 0xbb].map((tos) => {
    const sent = v4({ tos, df: true }, syn())
    return once(
      `tun: outer TOS for inner 0x${tos.toString(16)}`,
      tun,
      sent,
      'forward_tun',
      tunnel(sent, toServer(0), DIRECTOR4, RS4[0]),
    )
  }),
  ...[2, 255].map((ttl) => {
    const sent = request(4, syn(), ttl)
    return once(
      `nat: TTL ${ttl} goes down by one`,
      nat,
      sent,
      'forward_nat',
      natIn(sent, toServer(0), RS4[0], 80),
    )
  }),
  (() => {
    const sent = v4({ options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 1) }, syn())
    return once('nat: IPv4 options stay', nat, sent, 'forward_nat', natIn(sent, toServer(0), RS4[0], 80))
  })(),
  (() => {
    const sent = request(4, udp({ sport: 40001, checksum: 0 }, 'odd'))
    return once(
      'nat: a UDP checksum of 0 is computed',
      udpNat,
      sent,
      'forward_nat',
      natIn(sent, toServer(0), RS4[0], 53),
    )
  })(),
  (() => {
    const sent = request(4, udp({ sport: 40001, checksum: 0 }))
    return once(
      'dr: a UDP checksum of 0 stays 0',
      service(4, 'u', '-g', 1),
      sent,
      'forward_dr',
      forward(sent, toServer(0)),
    )
  })(),
  (() => {
    const sent = request(4, udp({ sport: 40001 }, zeroSumPayload()))
    return once(
      'nat: a computed UDP checksum of 0 goes out as all ones',
      udpNat,
      sent,
      'forward_nat',
      natIn(sent, toServer(0), RS4[0], 53),
    )
  })(),
  (() => {
    const sent = v4({}, syn(), 12)
    const shortest = concat(forward(sent, toServer(0)), new Uint8Array(6))
    return once('dr: Ethernet padding is cut to the shortest frame', dr, sent, 'forward_dr', shortest)
  })(),
  (() => {
    const sent = v4({ df: true }, syn(), 12)
    const whole = tunnel(v4({ df: true }, syn()), toServer(0), DIRECTOR4, RS4[0])
    return once('tun: Ethernet padding does not go into the tunnel', tun, sent, 'forward_tun', whole)
  })(),
  (() => {
    const plain = request(4, syn())
    const tagged = ethernet(
      { src: MAC.clientRouter, dst: MAC.c0, vlan: [{ id: 0, priority: 5 }] },
      ipv4({ src: CLIENT4, dst: VIP4 }, syn()),
    )
    return once('dr: a priority tag is taken for none', dr, tagged, 'forward_dr', forward(plain, toServer(0)))
  })(),
]

/** Two bytes that make the UDP checksum towards the real server come out as zero. */
function zeroSumPayload(): Uint8Array {
  for (let word = 0; word < 0x10000; word++) {
    const payload = Uint8Array.of(word >> 8, word & 255)
    const out = natIn(request(4, udp({ sport: 40001 }, payload)), toServer(0), RS4[0], 53)
    if (out[40] === 0xff && out[41] === 0xff) return payload
  }
  throw new Error('No payload gives a checksum of zero')
}

/** A NAT service whose real server is the director itself. */
function localNode(family: 4 | 6, address: string, port: number): string[] {
  const bracket = (text: string): string => (family === 6 ? `[${text}]` : text)
  const { vip } = ENDS[family]
  return [
    `ipvsadm -A -t ${bracket(vip)}:80 -s rr`,
    `ipvsadm -a -t ${bracket(vip)}:80 -r ${bracket(address)}:${port} -m`,
  ]
}

const LOCAL: Case[] = FAMILIES.map((family) =>
  once(
    `nat: IPv${family} where nothing is to translate`,
    localNode(family, ENDS[family].vip, 80),
    request(family, syn()),
    'pass_local_node',
  ),
)

const REFUSED: Case[] = [
  pass(
    'not IP at all',
    ethernet({ src: MAC.clientRouter, dst: MAC.c0, type: 0x0806 }, new Uint8Array(28)),
    'pass_not_ip',
  ),
  pass(
    'for another station',
    ethernet({ src: MAC.clientRouter, dst: MAC.client }, ipv4({ src: CLIENT4, dst: VIP4 }, syn())),
    'pass_not_for_host',
  ),
  pass(
    'in a VLAN',
    ethernet(
      { src: MAC.clientRouter, dst: MAC.c0, vlan: [{ id: 7 }] },
      ipv4({ src: CLIENT4, dst: VIP4 }, syn()),
    ),
    'pass_vlan',
  ),
  pass(
    'IPv4 header length below five words (RFC 791 §3.1)',
    v4({ headerLength: 4 }, syn()),
    'pass_malformed',
  ),
  pass('IPv4 header checksum wrong', v4({ checksum: 0x1234 }, syn()), 'pass_malformed'),
  pass('IPv4 total length longer than the frame', v4({ totalLength: 200 }, syn()), 'pass_malformed'),
  pass('IPv4 version 5', v4({ version: 5 }, syn()), 'pass_malformed'),
  pass('frame that ends within the IPv4 header', v4({}, syn()).subarray(0, 30), 'pass_malformed'),
  pass(
    'first IPv4 fragment of what starts nothing',
    v4({ mf: true }, tcp({ flags: 'A' }, new Uint8Array(12))),
    'pass_not_first',
  ),
  pass('later IPv4 fragment', v4({ fragmentOffset: 64 }, syn()), 'pass_fragment'),
  pass('GRE', v4({}, raw(PROTOCOL.gre, 'data')), 'pass_protocol'),
  pass('ICMP echo', v4({}, icmp({ type: 8 }, 'ping')), 'pass_icmp'),
  pass('no service at this port', v4({}, tcp({ dport: 81, flags: 'S' })), 'pass_no_service'),
  pass('TCP without SYN and without connection', v4({}, tcp({ flags: 'A' })), 'pass_not_first'),
  pass('RST without connection', v4({}, tcp({ flags: 'R' })), 'pass_not_first'),
  pass('SYN and RST together', v4({}, tcp({ flags: 'SR' })), 'pass_not_first'),
  pass('FTP data by its source port', v4({}, tcp({ sport: 20, flags: 'S' })), 'pass_ftp_data'),
  pass('multicast source', v4({ src: '224.0.0.5' }, syn()), 'pass_martian_source'),
  pass('loopback source', v4({ src: '127.0.0.1' }, syn()), 'pass_martian_source'),
  pass('own address as source', v4({ src: VIP4 }, syn()), 'pass_martian_source'),
  pass(
    'later IPv6 fragment',
    fromClient(ipv6({ src: ENDS[6].client, dst: VIP6, extensions: [fragmentHeader(1, 64, false)] }, syn())),
    'pass_fragment',
    service(6, 't', '-g', 1),
  ),
  once('TCP header cut short', dr, v4({}, raw(PROTOCOL.tcp, new Uint8Array(12))), 'pass_malformed'),
]

const BOTH_HOPS: readonly Hop[] = [toServer(0), toServer(1), toServer(2)]

const EXTENSIONS: Case[] = [
  (() => {
    const sent = fromClient(
      ipv6({ src: ENDS[6].client, dst: VIP6, extensions: [padOptions(PROTOCOL.destination, 2)] }, syn()),
    )
    const want = patch(patch(sent, 0, (toServer(0).dst + toServer(0).src).replaceAll(':', '')), 21, '3f')
    return once(
      'dr: IPv6 extension headers go through unchanged',
      service(6, 't', '-g', 1),
      sent,
      'forward_dr',
      want,
    )
  })(),
]

/** One less, and the header's checksum after it: what the stack quotes of a packet it was about to forward. */
function quoted(frame: Uint8Array): Uint8Array {
  return forward(frame, toClient).subarray(14)
}

/** Port unreachable from the director to real server 0 about its packet. */
function unreachable(family: 4 | 6, frame: Uint8Array, got: Uint8Array): Uint8Array {
  const room = family === 4 ? 576 - 28 : 1280 - 48
  const quote = quoted(frame).subarray(0, room)
  const packet =
    family === 4
      ? ipv4({ src: DIRECTOR4, dst: RS4[0], tos: 0xc0, id: be16(got, 18) }, icmp({ type: 3, code: 3 }, quote))
      : ipv6({ src: DIRECTOR6, dst: RS6[0] }, icmpv6({ type: 1, code: 4 }, quote))
  return ethernet({ src: toServer(0).src, dst: toServer(0).dst }, packet)
}

/** What nat_icmp_send does about packets of real servers; as answered by IPVS of Linux 6.1. */
function strayCases(): Case[] {
  const stray = (
    name: string,
    family: 4 | 6,
    protocol: 't' | 'u',
    send: Uint8Array,
    verdict: 'answer_port_unreachable' | 'pass_no_service',
    method = '-m',
    wire: Wire = 'r',
  ): Case => ({
    name: `nat_icmp_send: IPv${family} ${name}`,
    rules: ['nat_icmp_send=1', ...service(family, protocol, method, 1)],
    steps: [
      {
        wire,
        send,
        verdict,
        ...(verdict === 'pass_no_service'
          ? {}
          : { want: { wire: 'r', frame: (got: Uint8Array) => unreachable(family, send, got) } as const }),
      },
    ],
  })
  const late = tcp({ sport: 80, dport: 40001, flags: 'SA' })
  const to = (dst: string, ttl = 64): Uint8Array => fromServer(ipv4({ src: RS4[0], dst, ttl }, late))
  return [
    ...FAMILIES.flatMap((family) => [
      stray('answer of no connection', family, 't', reply(family, late), 'answer_port_unreachable'),
      stray(
        'datagram of no connection',
        family,
        'u',
        reply(family, udp({ sport: 53, dport: 40001 })),
        'answer_port_unreachable',
      ),
      stray(
        'long datagram: the quote is cut',
        family,
        'u',
        reply(family, udp({ sport: 53, dport: 40001 }, 'x'.repeat(1400))),
        'answer_port_unreachable',
      ),
      stray('last but one hop', family, 't', reply(family, late, 0, 2), 'answer_port_unreachable'),
      stray('last hop: the stack answers', family, 't', reply(family, late, 0, 1), 'pass_no_service'),
      stray(
        'reset: needs no answer',
        family,
        't',
        reply(family, tcp({ sport: 80, dport: 40001, flags: 'R' })),
        'pass_no_service',
      ),
      stray(
        'another port',
        family,
        't',
        reply(family, tcp({ sport: 81, dport: 40001, flags: 'SA' })),
        'pass_no_service',
      ),
      stray(
        'another protocol',
        family,
        't',
        reply(family, udp({ sport: 80, dport: 40001 })),
        'pass_no_service',
      ),
      stray('another real server', family, 't', reply(family, late, 1), 'pass_no_service'),
      stray('direct routing', family, 't', reply(family, late), 'pass_no_service', '-g'),
      stray(
        'packet to the director itself: its own business',
        family,
        't',
        fromServer(
          family === 4
            ? ipv4({ src: RS4[0], dst: DIRECTOR4 }, late)
            : ipv6({ src: RS6[0], dst: DIRECTOR6 }, late),
        ),
        'pass_no_service',
      ),
    ]),
    stray('multicast', 4, 't', to('224.0.0.9'), 'pass_no_service'),
    stray('broadcast', 4, 't', to('10.0.2.255'), 'pass_no_service'),
    stray('limited broadcast', 4, 't', to('255.255.255.255'), 'pass_no_service'),
    stray('destination without a neighbour', 4, 't', to('192.0.2.77'), 'answer_port_unreachable'),
    stray(
      "from the clients' wire: the answer goes where the real server is",
      4,
      't',
      fromClient(ipv4({ src: RS4[0], dst: '198.51.100.9' }, late)),
      'answer_port_unreachable',
      '-m',
      'c',
    ),
    {
      name: 'nat_icmp_send: nothing while it is off',
      rules: ['nat_icmp_send=1', ...service(4, 't', '-m', 1), 'nat_icmp_send=0'],
      steps: [{ wire: 'r', send: reply(4, late), verdict: 'pass_no_service' }],
    },
    {
      name: 'nat_icmp_send: switched on when the real servers are there already',
      rules: [...service(4, 't', '-m', 2), 'nat_icmp_send=1', `ipvsadm -d -t ${VIP4}:80 -r ${RS4[1]}:80`],
      steps: [
        {
          wire: 'r',
          send: reply(4, late),
          verdict: 'answer_port_unreachable',
          want: { wire: 'r', frame: (got) => unreachable(4, reply(4, late), got) },
        },
        { wire: 'r', send: reply(4, late, 1), verdict: 'pass_no_service' },
      ],
    },
  ]
}

const CASES: readonly Case[] = [
  ...natCases(),
  ...METHODS,
  ...FIELDS,
  ...EXTENSIONS,
  ...LOCAL,
  ...REFUSED,
  ...strayCases(),
]

/** Everything here is asked of both programs. */
function questions(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)

  for (const { name, rules, steps } of CASES) {
    test(name, { skip }, async () => {
      await it().load(rules)
      for (const { wire, send, verdict, want } of steps) {
        const got = it().send(wire, send)
        const sent = decode(send).join('\n')
        assert.equal(got.verdict, verdict, sent)
        if (want === undefined) {
          assert.notEqual(got.action, 'send', sent)
          if (got.action === 'pass')
            assert.deepEqual(
              diff(send, got.frame).filter((line) => !line.startsWith('    ')),
              [],
            )
        } else {
          const frame = want.frame instanceof Uint8Array ? want.frame : want.frame(got.frame)
          assert.equal(Buffer.compare(frame, got.frame), 0, diff(frame, got.frame).join('\n'))
          assert.equal(got.action, 'send')
          assert.equal(got.wire, want.wire)
        }
      }
    })
  }

  /** Real servers, by place in the list, of so many new connections. */
  const chosen = (count: number, servers: number): number[] =>
    Array.from({ length: count }, (_, i) => {
      const { frame } = it().send('c', request(4, syn(41_000 + i)))
      const mac = Buffer.from(frame.subarray(0, 6)).toString('hex')
      const added = BOTH_HOPS.findIndex((hop) => hop.dst.replaceAll(':', '') === mac)
      return servers - 1 - added
    })

  test('rr: real servers in the order of the list, newest first', { skip }, async () => {
    await it().load(service(4, 't', '-g', 3))
    const want = roundRobin([1, 1, 1])
    assert.deepEqual(
      chosen(9, 3),
      Array.from({ length: 9 }, () => want.next().value),
    )
  })

  test('rr: weight 0 gets nothing new, its connections go on', { skip }, async () => {
    await it().load(service(4, 't', '-g', 2))
    const first = it().send('c', request(4, syn()))
    assert.equal(first.verdict, 'forward_dr')
    await it().run(`ipvsadm -e -t ${VIP4}:80 -r ${RS4[1]}:80 -g -w 0`)
    assert.deepEqual(chosen(4, 2), [1, 1, 1, 1])
    const next = it().send('c', request(4, tcp({ flags: 'A' })))
    assert.equal(Buffer.compare(next.frame.subarray(0, 6), first.frame.subarray(0, 6)), 0)
  })

  for (const weights of [
    [1, 3, 2],
    [4, 2, 2],
    [5, 1, 0],
    [10, 3, 7],
    [1, 1, 1],
    [0, 0, 3],
  ]) {
    test(`wrr: weights ${weights.join(', ')} give the exact sequence of IPVS`, { skip }, async () => {
      await it().load(
        service(
          4,
          't',
          '-g',
          3,
          weights.map((weight) => `-w ${weight}`),
          'wrr',
        ),
      )
      const model = new WeightedRoundRobin()
      for (const weight of weights) model.add(weight)
      assert.deepEqual(
        chosen(40, 3),
        Array.from({ length: 40 }, () => model.next()),
      )
    })
  }

  for (const family of FAMILIES) {
    test(`nat: IPv${family} to a socket of the director is begun where its answer is seen`, {
      skip,
    }, async () => {
      const own = family === 4 ? DIRECTOR4 : DIRECTOR6
      await it().load(localNode(family, own, 8080))
      const sent = request(family, syn(), 1)
      const got = it().send('c', sent)
      assert.equal(got.action, 'pass')
      if (it().dataplane.answers?.()?.seen !== true) {
        assert.equal(got.verdict, 'pass_unsupported')
        assert.deepEqual(Buffer.from(got.frame), Buffer.from(sent))
        return
      }
      assert.equal(got.verdict, 'pass_local_node')
      const lines = decode(got.frame).join('\n')
      assert.ok(lines.includes(`> ${own} tcp`), lines)
      assert.match(lines, /8080/)
      assert.doesNotMatch(lines, /wrong|bad/)
    })
  }

  test('no real server: port unreachable comes from the virtual address', { skip }, async () => {
    await it().load([dr[0] ?? ''])
    const got = it().send('c', request(4, syn()))
    assert.equal(got.verdict, 'answer_port_unreachable')
    assert.equal(got.wire, 'c')
    const lines = decode(got.frame)
    assert.match(lines[1] ?? '', /192\.0\.2\.100 > 198\.51\.100\.7 icmp ttl 64 tos 0xc0 .* ok$/)
    assert.match(lines[2] ?? '', /icmp type 3 code 3 .* ok$/)
    assert.match(lines[3] ?? '', /198\.51\.100\.7 > 192\.0\.2\.100 tcp ttl 64/)
  })

  test('TTL used up: time exceeded quotes the packet as it came, and the connection exists', {
    skip,
  }, async () => {
    await it().load(nat)
    const got = it().send('c', request(4, syn(), 1))
    assert.equal(got.verdict, 'answer_time_exceeded')
    assert.match(decode(got.frame)[2] ?? '', /icmp type 11 code 0 .* ok$/)
    assert.match(decode(got.frame)[3] ?? '', /ttl 1 /)
    assert.match(await it().run('ipvsadm -Lnc'), /SYN_RECV +198\.51\.100\.7:40001 /)
  })

  /** Client and server segments, and what the listing says after each (dataplane state table of IPVS). */
  const conversation: readonly (readonly ['c' | 'r', string, string])[] = [
    ['c', 'S', 'SYN_RECV'],
    ['r', 'SA', 'SYN_RECV'],
    ['c', 'A', 'ESTABLISHED'],
    ['r', 'PA', 'ESTABLISHED'],
    ['c', 'FA', 'CLOSE_WAIT'],
    ['r', 'FA', 'TIME_WAIT'],
    ['c', 'A', 'TIME_WAIT'],
  ]

  test('frames for further addresses of the host are taken, those of other stations are not', {
    skip,
  }, async () => {
    await it().load(dr)
    const map = it().dataplane.map('interfaces')
    const at = listInterfaces(map).map((ifindex) => recordOf(map, ifindex))
    const c0 = at.find(({ mac }) => Buffer.compare(mac, macBytes(MAC.c0)) === 0)
    assert.ok(c0 !== undefined)
    const to = (dst: string): string => {
      const packet = ipv4({ src: CLIENT4, dst: VIP4 }, syn())
      return it().send('c', ethernet({ src: MAC.clientRouter, dst }, packet)).verdict
    }
    const put = (...addresses: string[]): number =>
      putInterface(it().dataplane, { name: 'c0', ...c0 }, [c0.mac, ...addresses.map(macBytes)])
    const vrrp = '00:00:5e:00:01:33'
    assert.equal(to(vrrp), 'pass_not_for_host')
    const many = Array.from(
      { length: 255 },
      (_, i) => `00:00:5e:00:02:${(i + 1).toString(16).padStart(2, '0')}`,
    )
    put(...many, vrrp)
    try {
      assert.equal(to(vrrp), 'forward_dr')
      for (const mac of many) assert.equal(to(mac), 'forward_dr', mac)
      assert.equal(to(MAC.c0), 'forward_dr')
      for (const other of ['00:00:5e:00:01:34', '02:00:5e:00:01:33', MAC.client, 'ff:ff:ff:ff:ff:ff']) {
        assert.equal(to(other), 'pass_not_for_host', other)
      }
    } finally {
      put()
    }
    assert.equal(to(vrrp), 'pass_not_for_host', 'no longer')
  })

  test('nat: the TCP state follows both sides', { skip }, async () => {
    await it().load(nat)
    for (const [wire, flags, state] of conversation) {
      if (wire === 'c') it().send('c', request(4, tcp({ flags })))
      else it().send('r', reply(4, tcp({ sport: 80, dport: 40001, flags })))
      assert.match(
        await it().run('ipvsadm -Lnc'),
        new RegExp(`${state} +198\\.51\\.100\\.7:40001`),
        `after ${wire} ${flags}`,
      )
    }
  })

  test('dr: the TCP state follows the client alone', { skip }, async () => {
    await it().load(dr)
    for (const [flags, state] of [
      ['S', 'SYN_RECV'],
      ['A', 'ESTABLISHED'],
      ['FA', 'FIN_WAIT'],
      ['A', 'FIN_WAIT'],
      ['R', 'CLOSE'],
    ] as const) {
      it().send('c', request(4, tcp({ flags })))
      assert.match(
        await it().run('ipvsadm -Lnc'),
        new RegExp(`${state} +198\\.51\\.100\\.7:40001`),
        `after ${flags}`,
      )
    }
  })
}

describe('the packet program in wasm', () => {
  questions(async () => openWasmProgram(), false)
})

describe('the packet program in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmpt${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
  )
})
