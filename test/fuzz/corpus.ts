/** First inputs for the fuzzer: the frames of recorded vectors under a few sets of rules (format: fuzz.c). */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { concat, unhex } from '../packets/bytes.ts'
import { CHUNK, ethernet, icmp, ipv4, ipv6, type Segment, sctp, tcp, udp } from '../packets/frame.ts'
import { isInject, loadVectors, type Vector } from '../packets/vectors.ts'

const RECORDINGS = fileURLToPath(new URL('../recordings/packets', import.meta.url))

const LENGTH_MAX = 0x07ff
const STEP_WIRE_R = 0x0800
const STEP_CUT = 0x1000
const STEP_TIME = 0x2000

/** Settings, modes, schedulers, four real servers, limits: see `struct rules`. */
const METHOD = { nat: 0x04, tunnel: 0x06, directRouting: 0x07 } as const

function rulesFor(vector: Vector): Uint8Array {
  const words = vector.setup.flatMap((step) => ('sysctl' in step ? [step.sysctl] : step))
  const method = words.includes('-m')
    ? METHOD.nat
    : words.includes('-i')
      ? METHOD.tunnel
      : METHOD.directRouting
  const scheduler =
    { rr: 1, wrr: 2, lc: 3, wlc: 4, dh: 7, sh: 8, sed: 9, nq: 10, fo: 11, ovf: 12 }[
      words[words.indexOf('-s') + 1] ?? 'rr'
    ] ?? 1
  return Uint8Array.of(
    0x02,
    0x01,
    scheduler | (scheduler << 4),
    method,
    method | 0x08,
    method | 0x20,
    method,
    words.includes('-p') ? 0x30 : 0,
  )
}

/** Most frames of a vector that go into one input: long sequences teach nothing that short ones do not. */
const FRAMES_MAX = 12
const AREAS = [
  'forward',
  'udp',
  'ttl-tos',
  'malformed',
  'new-connection',
  'icmp',
  'icmpv6',
  'fragment',
  'mtu',
  'reuse',
  'tcp-state',
  'local',
  'offload',
  'lifecycle',
  'persistence',
  'sctp',
]
/** Vectors of one area that become inputs. */
const PER_AREA = 12

/** The bit of READY stands for nat_icmp_send. */
const NAT_ICMP_SEND = 0x01

/**
 * Packets without a connection from real servers of the harness's rules (services 0, 1 and 3), which no
 * recording knows; the last one only in part within reach.
 */
function strays(): Uint8Array[] {
  const from4 = (src: string, segment: Segment) => ipv4({ src, dst: '198.51.100.7' }, segment)
  const from6 = (src: string, segment: Segment) => ipv6({ src, dst: '2001:db8:c::7' }, segment)
  const ack = tcp({ sport: 8000, dport: 40001, flags: 'A' })
  const packets = [
    from4('10.0.2.17', ack),
    from4('10.0.2.17', tcp({ sport: 8000, dport: 40001, flags: 'R' })),
    from4('10.0.2.17', udp({ sport: 8000, dport: 40001 }, 'late')),
    from6('a01:db8:2::13', ack),
    from4('10.0.2.17', tcp({ sport: 8000, dport: 40001, flags: 'A' }, 'x'.repeat(700))),
  ]
  const rules = Uint8Array.of(NAT_ICMP_SEND, 0x01, 0x11, ...Array<number>(4).fill(METHOD.nat), 0)
  const frames = packets.map((packet, index) => {
    const frame = ethernet({ src: '02:00:00:00:02:11', dst: '02:00:00:00:02:01' }, packet)
    const head = frame.length | STEP_WIRE_R | (index === packets.length - 1 ? STEP_CUT : 0)
    return concat(Uint8Array.of(head & 255, head >> 8), frame)
  })
  return frames.map((frame) => concat(rules, frame))
}

/** Real servers that are the director itself: by NAT, with the weight of one. */
const LOCAL_NAT = 0x25
const STEP_OWN = STEP_WIRE_R | 0x4000

/** A client's packet, and what the host's own socket says to it, or its stack. */
function own(): Uint8Array[] {
  const [client, vip, here] = ['198.51.100.7', '192.0.2.100', '10.0.2.119']
  const asks = (segment: Segment) => ipv4({ src: client, dst: vip }, segment)
  const says = (segment: Segment) => ipv4({ src: here, dst: client }, segment)
  const arrived = ipv4({ src: client, dst: here }, udp({ sport: 40001, dport: 8000 }, 'question'))
  const pairs = [
    [
      asks(tcp({ sport: 40001, dport: 80, flags: 'S' })),
      says(tcp({ sport: 8000, dport: 40001, flags: 'SA' })),
    ],
    [asks(udp({ sport: 40001, dport: 53 })), says(udp({ sport: 8000, dport: 40001 }, 'answer'))],
    [asks(udp({ sport: 40001, dport: 53 })), says(icmp({ type: 3, code: 3 }, arrived))],
    [
      asks(sctp({ sport: 40001, dport: 36412 }, [{ type: CHUNK.init }])),
      says(sctp({ sport: 8001, dport: 40001 }, [{ type: CHUNK.initAck }])),
    ],
  ] as const
  const rules = Uint8Array.of(0x02, 0x01, 0x11, ...Array<number>(4).fill(LOCAL_NAT), 0)
  return pairs.map(([came, sent]) => {
    const frames = [ethernet({ dst: '02:00:00:00:01:01' }, came), ethernet({}, sent)]
    const steps = frames.map((frame, index) => {
      const head = frame.length | (index === 1 ? STEP_OWN : 0)
      return concat(Uint8Array.of(head & 255, head >> 8), frame)
    })
    return concat(rules, ...steps, steps[1]!)
  })
}

/** The bit of NO_PMTU_DISC stands for ENGINES. */
const ENGINES = 0x20
/** All services are persistent, or so for one packet. */
const PERSISTENT = { connections: 0x30, packets: 0xb0 } as const

/** Messages that name calls, or nearly so; that of a real server is one of its own, then it answers. */
function calls(): Uint8Array[] {
  const lines = (...more: readonly string[]) => ['INVITE sip:a@b SIP/2.0', ...more, '', ''].join('\r\n')
  const messages = [
    lines('Call-ID: a@x'),
    lines(`Via: ${'x'.repeat(80)}`, 'i:', ' a@x'),
    lines('Call-ID: @x', `Call-ID\t:${'y'.repeat(255)}`),
    'INVITE\nI:a\n',
    `${'\r\n'.repeat(200)}Call-ID: a@x`,
  ]
  const ends = {
    4: { client: '198.51.100.12', vip: '192.0.2.100', server: '10.0.2.17' },
    6: { client: '2001:db8:c::c', vip: '2001:db8:1::100', server: 'a01:db8:2::13' },
  } as const
  return ([4, 6] as const).flatMap((family) =>
    Object.values(PERSISTENT).flatMap((limits) =>
      messages.map((message, index) => {
        const { client, vip, server } = ends[family]
        const rules = Uint8Array.of(ENGINES, 0x01, 0x11, ...Array<number>(4).fill(METHOD.nat), limits)
        const packet = (src: string, dst: string, segment: Segment) =>
          family === 4 ? ipv4({ src, dst }, segment) : ipv6({ src, dst }, segment)
        const asked = ethernet(
          { dst: '02:00:00:00:01:01' },
          packet(client, vip, udp({ sport: 5060, dport: 53 }, message)),
        )
        const said = ethernet(
          { dst: '02:00:00:00:02:01' },
          packet(server, client, udp({ sport: 8000, dport: 5060 }, message)),
        )
        const step = (frame: Uint8Array, bits: number) => {
          const head = frame.length | bits | (index % 2 === 1 ? STEP_CUT : 0)
          return concat(Uint8Array.of(head & 255, head >> 8), frame)
        }
        return concat(
          rules,
          ...[said, asked].map((frame) => step(frame, frame === said ? STEP_WIRE_R : 0)),
          step(asked, STEP_TIME),
          step(said, STEP_WIRE_R),
        )
      }),
    ),
  )
}

/** Writes the inputs; returns how many. */
export function writeCorpus(folder: string): number {
  mkdirSync(folder, { recursive: true })
  const vectors = loadVectors([RECORDINGS])
  const chosen = AREAS.flatMap((area) => vectors.filter((vector) => vector.area === area).slice(0, PER_AREA))
  for (const vector of chosen) {
    const steps = vector.steps.filter(isInject).slice(0, FRAMES_MAX)
    const frames = steps.map(({ inject }, index) => {
      const frame = unhex(inject.frame).subarray(0, LENGTH_MAX)
      const head = frame.length | (inject.wire === 'r' ? STEP_WIRE_R : 0) | (index % 5 === 4 ? STEP_CUT : 0)
      return concat(Uint8Array.of(head & 255, head >> 8), frame)
    })
    const input = concat(rulesFor(vector), ...frames)
    writeInput(folder, vector.area, input)
  }
  const extra = strays()
  for (const input of extra) writeInput(folder, 'stray', input)
  const local = own()
  for (const input of local) writeInput(folder, 'own', input)
  const sip = calls()
  for (const input of sip) writeInput(folder, 'sip', input)
  return chosen.length + extra.length + local.length + sip.length
}

function writeInput(folder: string, what: string, input: Uint8Array): void {
  const name = createHash('sha1').update(input).digest('hex').slice(0, 12)
  writeFileSync(join(folder, `${what}-${name}`), input)
}
