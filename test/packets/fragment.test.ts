/** Fragments, each of which goes its way by what the first of its datagram decided. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { publishEgress } from '../../dataplane/egress-table.ts'
import { EgressFlag, FragmentRecord, PM_FRAGMENTS } from '../../dataplane/layout/layout.gen.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Bench } from './bench.ts'
import { concat, ipBytes } from './bytes.ts'
import { decode } from './decode.ts'
import { fragmentHeader, type IpPacket, ipv4, ipv6, PROTOCOL, raw, type Segment, tcp, udp } from './frame.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program, type ProgramAnswer } from './programs.ts'
import {
  CLIENT4,
  DIRECTOR4,
  ENDS,
  fromClient,
  fromServer,
  RS4,
  RS6,
  request,
  service,
  toClient,
  toServer,
  VIP4,
} from './scenes.ts'

const FAMILIES = [4, 6] as const
const TEXT = new TextEncoder().encode('a datagram in three pieces, of which the last is the shortest')

interface Piece {
  readonly offset: number
  readonly more: boolean
  readonly bytes: Uint8Array
}

/** A transport segment cut after so many bytes each. */
function cut(segment: Segment, src: string, dst: string, size = 24): { protocol: number; pieces: Piece[] } {
  const bytes = segment.build({ source: ipBytes(src), destination: ipBytes(dst) })
  const pieces: Piece[] = []
  for (let at = 0; at < bytes.length; at += size)
    pieces.push({ offset: at, more: at + size < bytes.length, bytes: bytes.subarray(at, at + size) })
  return { protocol: segment.protocol, pieces }
}

function packet(src: string, dst: string, protocol: number, piece: Piece, id: number): IpPacket {
  const payload = raw(protocol, piece.bytes)
  return src.includes(':')
    ? ipv6({ src, dst, extensions: [fragmentHeader(id, piece.offset, piece.more)] }, payload)
    : ipv4({ src, dst, id, mf: piece.more, fragmentOffset: piece.offset }, payload)
}

/** Frames of a datagram of the client, in order. */
function asked(
  family: 4 | 6,
  segment: Segment = udp({ sport: 40001 }, TEXT),
  id = 77,
  size = 24,
): Uint8Array[] {
  const { client, vip } = ENDS[family]
  const { protocol, pieces } = cut(segment, client, vip, size)
  return pieces.map((piece) => fromClient(packet(client, vip, protocol, piece, id)))
}

/** Frames of a datagram of real server 0, in order. */
function answered(family: 4 | 6, segment: Segment, id = 88): Uint8Array[] {
  const server = (family === 4 ? RS4 : RS6)[0]
  const { protocol, pieces } = cut(segment, server, ENDS[family].client)
  return pieces.map((piece) => fromServer(packet(server, ENDS[family].client, protocol, piece, id)))
}

/** The transport segment of fragments that were sent on. */
function joined(answers: readonly ProgramAnswer[], family: 4 | 6): Uint8Array {
  return concat(...answers.map(({ frame }) => frame.subarray(family === 4 ? 34 : 62)))
}

/** @param canBeKept whether its host knows interfaces that take no frame of ours */
function questions(open: () => Promise<Program>, skip: string | false, canBeKept: boolean): void {
  const it = openedProgram(open, skip)
  const verdicts = (wire: 'c' | 'r', frames: readonly Uint8Array[]): string[] =>
    frames.map((frame) => it().send(wire, frame).verdict)
  const forget = (): void => void it().dataplane.map('fragments').bytes.fill(0)
  const load = async (rules: readonly string[]): Promise<void> => {
    await it().load(rules)
    forget()
  }

  for (const family of FAMILIES) {
    const real = (family === 4 ? RS4 : RS6)[0]
    const at = family === 4 ? `${ENDS[4].vip}:53` : `[${ENDS[6].vip}]:53`
    const mapped = [
      `ipvsadm -A -u ${at} -s rr`,
      `ipvsadm -a -u ${at} -r ${family === 4 ? real : `[${real}]`}:5353 -m`,
    ]

    test(`IPv${family} NAT: all fragments are translated, there and back, and the sum is right`, {
      skip,
    }, async () => {
      await load(mapped)
      const there = asked(family).map((frame) => it().send('c', frame))
      assert.deepEqual(new Set(there.map(({ verdict }) => verdict)), new Set(['forward_nat']))
      assert.equal(there.length, 3)
      const { client, vip } = ENDS[family]
      const wanted = udp({ sport: 40001, dport: 5353 }, TEXT)
      assert.deepEqual(
        joined(there, family),
        wanted.build({ source: ipBytes(client), destination: ipBytes(real) }),
      )
      for (const { frame } of there) {
        assert.match(decode(frame)[1] ?? '', new RegExp(`${client} > ${real} `))
        assert.doesNotMatch(decode(frame)[1] ?? '', /WRONG/)
        assert.deepEqual(
          frame.subarray(0, 6),
          Uint8Array.from(Buffer.from(toServer(0).dst.replaceAll(':', ''), 'hex')),
        )
      }
      const back = answered(family, udp({ sport: 5353, dport: 40001 }, TEXT)).map((frame) =>
        it().send('r', frame),
      )
      assert.deepEqual(new Set(back.map(({ verdict }) => verdict)), new Set(['forward_nat_reply']))
      assert.deepEqual(
        joined(back, family),
        udp({ sport: 53, dport: 40001 }, TEXT).build({ source: ipBytes(vip), destination: ipBytes(client) }),
      )
      for (const { frame, wire } of back) {
        assert.match(decode(frame)[1] ?? '', new RegExp(`${vip} > ${client} `))
        assert.equal(wire, 'c')
        assert.deepEqual(
          frame.subarray(0, 6),
          Uint8Array.from(Buffer.from(toClient.dst.replaceAll(':', ''), 'hex')),
        )
      }
    })

    for (const [method, verdict] of [
      ['-g', 'forward_dr'],
      ['-i', 'forward_tun'],
    ] as const) {
      test(`IPv${family} ${method}: later fragments go where the first went, and count as one packet`, {
        skip,
      }, async () => {
        await load(service(family, 'u', method, 3))
        const ways = [1, 2, 3].map((id) => {
          const answers = asked(family, udp({ sport: 40_000 + id }, TEXT), id).map((frame) =>
            it().send('c', frame),
          )
          assert.deepEqual(
            answers.map((answer) => answer.verdict),
            [verdict, verdict, verdict],
          )
          return new Set(answers.map(({ frame }) => Buffer.from(frame.subarray(0, 6)).toString('hex')))
        })
        assert.deepEqual(
          ways.map((way) => way.size),
          [1, 1, 1],
        )
        assert.equal(new Set(ways.flatMap((way) => [...way])).size, 3, 'each datagram another real server')
        const bytes = (family === 4 ? 20 : 40) + 8 + TEXT.length
        assert.match(
          await it().run('ipvsadm -Ln --stats --exact'),
          new RegExp(`UDP .* 3 +3 +0 +${3 * bytes} +0\\n`),
        )
      })
    }

    test(`IPv${family}: a first fragment that goes to the stack takes the others along`, {
      skip,
    }, async () => {
      await load(service(family, 'u', '-m', 1))
      const foreign = asked(family, udp({ sport: 40001, dport: 54 }, TEXT))
      assert.deepEqual(verdicts('c', foreign), ['pass_no_service', 'pass_fragment', 'pass_fragment'])
    })

    test(`IPv${family}: of a datagram that is refused nothing else goes anywhere`, { skip }, async () => {
      await load(service(family, 'u', '-m', 0))
      assert.deepEqual(verdicts('c', asked(family)), [
        'answer_port_unreachable',
        'drop_fragment_refused',
        'drop_fragment_refused',
      ])
    })

    test(`IPv${family}: a first fragment that comes again is decided on anew`, { skip }, async () => {
      await load(service(family, 'u', '-m', 0))
      const [first, second] = asked(family)
      assert.ok(first && second)
      assert.deepEqual(verdicts('c', [first, second]), ['answer_port_unreachable', 'drop_fragment_refused'])
      const address = family === 4 ? real : `[${real}]`
      await it().run(`ipvsadm -a -u ${at} -r ${address}:53 -m`)
      assert.deepEqual(verdicts('c', [first, second]), ['forward_nat', 'forward_nat'])
      await it().run(`ipvsadm -A -u ${at.replace(':53', ':54')} -s rr`)
      await it().run(`ipvsadm -D -u ${at}`)
      const [other, later] = asked(family, udp({ sport: 40002 }, TEXT), 78)
      assert.ok(other && later)
      assert.deepEqual(verdicts('c', [other, later]), ['pass_no_service', 'pass_fragment'])
      for (const rule of mapped) await it().run(rule)
      assert.deepEqual(verdicts('c', [other, later]), ['forward_nat', 'forward_nat'])
    })

    if (canBeKept)
      test(`IPv${family}: all fragments leave by the stack where the first does`, { skip }, async () => {
        await load(mapped)
        const ways = Array.from({ length: 64 }, (_, i) => [i + 1, EgressFlag.NoRedirect] as const)
        publishEgress(it().dataplane.map('egress'), new Map(ways))
        const there = asked(family).map((frame) => it().send('c', frame))
        publishEgress(it().dataplane.map('egress'), new Map())
        assert.deepEqual(
          there.map(({ verdict }) => verdict),
          ['pass_egress', 'pass_egress', 'pass_egress'],
        )
        for (const { frame } of there)
          assert.match(decode(frame)[1] ?? '', new RegExp(`${ENDS[family].client} > ${real} `))
      })

    test(`IPv${family}: early fragments are not sent on without their first`, { skip }, async () => {
      await load(mapped)
      const [first, second, third] = asked(family)
      assert.ok(first && second && third)
      assert.deepEqual(verdicts('c', [third, first, second]), ['pass_fragment', 'forward_nat', 'forward_nat'])
      const [reply] = answered(family, udp({ sport: 5353, dport: 40001 }, TEXT), 5).slice(1)
      assert.ok(reply)
      const mine = it().send('r', reply)
      assert.ok(['drop_fragment_early', 'pass_fragment'].includes(mine.verdict))
      assert.notEqual(mine.action, 'send')
    })

    test(`IPv${family}: of fragments that overlap nothing is taken any more`, { skip }, async () => {
      await load(mapped)
      const { client, vip } = ENDS[family]
      const { protocol, pieces } = cut(udp({ sport: 40001 }, TEXT), client, vip)
      const [first, second, third] = pieces
      assert.ok(first && second && third)
      const frame = (piece: Piece, id = 9): Uint8Array => fromClient(packet(client, vip, protocol, piece, id))
      const over = { ...second, offset: 16 }
      assert.deepEqual(verdicts('c', [frame(first), frame(over), frame(second), frame(third)]), [
        'forward_nat',
        'drop_fragment_overlap',
        'drop_fragment_overlap',
        'drop_fragment_overlap',
      ])
      const other = cut(udp({ sport: 40002 }, TEXT), client, vip).pieces[0]
      assert.ok(other)
      assert.deepEqual(
        verdicts('c', [frame(first, 10), frame(first, 10), frame(other, 10), frame(second, 10)]),
        ['forward_nat', 'forward_nat', 'drop_fragment_overlap', 'forward_nat'],
        'the same once more is no harm; another of the same extent is not taken',
      )
      const longer = { ...other, bytes: concat(other.bytes, new Uint8Array(8)) }
      assert.deepEqual(verdicts('c', [frame(longer, 10), frame(third, 10)]), [
        'drop_fragment_overlap',
        'drop_fragment_overlap',
      ])
    })

    test(`IPv${family}: an identification is free again once all of its datagram has come`, {
      skip,
    }, async () => {
      await load(mapped)
      for (const sport of [40_001, 40_002, 40_003]) {
        const answers = asked(family, udp({ sport }, TEXT), 4).map((frame) => it().send('c', frame))
        assert.deepEqual(
          answers.map(({ verdict }) => verdict),
          ['forward_nat', 'forward_nat', 'forward_nat'],
        )
      }
    })

    test(`IPv${family}: a note ends after half a minute`, { skip }, async () => {
      await load(service(family, 'u', '-m', 0))
      const [first, second] = asked(family)
      assert.ok(first && second)
      assert.deepEqual(verdicts('c', [first, second]), ['answer_port_unreachable', 'drop_fragment_refused'])
      const { view, entries } = it().dataplane.map('fragments')
      for (let i = 0; i < entries; i++) {
        const base = i * FragmentRecord.size
        const until = FragmentRecord.getUntil(view, base)
        if (until !== 0) FragmentRecord.setUntil(view, base, until - 3600)
      }
      assert.equal(it().send('c', second).verdict, 'pass_fragment')
    })
  }

  test('a first fragment without flags and checksum is not taken', { skip }, async () => {
    await load(service(4, 't', '-m', 1))
    const frames = asked(4, tcp({ flags: 'S', options: Uint8Array.of(2, 4, 5, 0xb4) }), 3, 8)
    assert.equal(it().send('c', frames[0] ?? new Uint8Array()).verdict, 'drop_fragment_short')
    const elsewhere = asked(4, tcp({ dport: 81, flags: 'S' }), 4, 8)
    assert.equal(it().send('c', elsewhere[0] ?? new Uint8Array()).verdict, 'pass_fragment')
  })

  test('a state changes by the first fragment alone', { skip }, async () => {
    await load(service(4, 't', '-m', 1))
    it().send('c', request(4, tcp({ flags: 'S' })))
    assert.deepEqual(verdicts('c', asked(4, tcp({ flags: 'PA' }, TEXT))), [
      'forward_nat',
      'forward_nat',
      'forward_nat',
      'forward_nat',
    ])
    assert.match(await it().run('ipvsadm -Lnc'), /ESTABLISHED +198\.51\.100\.7:40001/)
  })

  test('a fragmented datagram without a checksum stays without', { skip }, async () => {
    await load(service(4, 'u', '-m', 1))
    const answers = asked(4, udp({ sport: 40001, checksum: 0 }, TEXT)).map((frame) => it().send('c', frame))
    assert.deepEqual(
      joined(answers, 4),
      udp({ sport: 40001, checksum: 0 }, TEXT).build({
        source: ipBytes(CLIENT4),
        destination: ipBytes(RS4[0]),
      }),
    )
  })

  test('a later fragment is never answered', { skip }, async () => {
    await load(service(4, 'u', '-m', 1))
    const [first, second] = asked(4)
    assert.ok(first && second)
    assert.equal(it().send('c', first).verdict, 'forward_nat')
    const { protocol, pieces } = cut(udp({ sport: 40001 }, TEXT), CLIENT4, VIP4)
    const piece = pieces[1]
    assert.ok(piece)
    const last = fromClient(
      ipv4(
        { src: CLIENT4, dst: VIP4, id: 77, ttl: 1, mf: true, fragmentOffset: piece.offset },
        raw(protocol, piece.bytes),
      ),
    )
    assert.equal(it().send('c', last).verdict, 'drop_fragment_alone')
  })

  test('fragments of other protocols and of nobody are the stack’s', { skip }, async () => {
    await load(service(4, 'u', '-m', 1))
    const gre = fromClient(
      ipv4({ src: CLIENT4, dst: DIRECTOR4, mf: true }, raw(PROTOCOL.gre, TEXT.subarray(0, 48))),
    )
    assert.equal(it().send('c', gre).verdict, 'pass_fragment')
    const lone = fromClient(
      ipv4({ src: CLIENT4, dst: DIRECTOR4, fragmentOffset: 64 }, raw(PROTOCOL.udp, TEXT)),
    )
    assert.equal(it().send('c', lone).verdict, 'pass_fragment')
    const malformed = fromClient(ipv4({ src: CLIENT4, dst: VIP4, mf: true }, udp({}, 'odd')))
    assert.equal(it().send('c', malformed).verdict, 'pass_malformed')
    const beyond = fromClient(
      ipv4({ src: CLIENT4, dst: VIP4, fragmentOffset: 65528 }, raw(PROTOCOL.udp, TEXT)),
    )
    assert.equal(it().send('c', beyond).verdict, 'pass_malformed')
  })

  test('datagrams of nobody take no notes from others', { skip }, async () => {
    await load(service(4, 'u', '-m', 1))
    const { protocol, pieces } = cut(udp({ sport: 40001 }, TEXT), CLIENT4, '203.0.113.9')
    const frames = pieces.map((piece) => fromClient(packet(CLIENT4, '203.0.113.9', protocol, piece, 7)))
    for (const { action } of frames.map((frame) => it().send('c', frame))) assert.equal(action, 'pass')
    assert.ok(
      it()
        .dataplane.map('fragments')
        .bytes.every((byte) => byte === 0),
    )
  })

  test('more datagrams than there are notes take the oldest ones, and nothing else', { skip }, async () => {
    await load(service(4, 'u', '-g', 1))
    const { protocol, pieces } = cut(udp({ sport: 40001 }, TEXT), CLIENT4, VIP4)
    const [first, second] = pieces
    assert.ok(first && second)
    const frame = (piece: Piece, id: number): Uint8Array =>
      fromClient(packet(CLIENT4, VIP4, protocol, piece, id))
    for (let id = 0; id < 3 * PM_FRAGMENTS; id++)
      assert.equal(it().send('c', frame(first, id)).verdict, 'forward_dr')
    assert.equal(it().send('c', frame(second, 3 * PM_FRAGMENTS - 1)).verdict, 'forward_dr')
  })
}

describe('fragments in wasm', () => {
  questions(async () => openWasmProgram(), false, false)
})

describe('fragments in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmfr${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
    true,
  )
})
