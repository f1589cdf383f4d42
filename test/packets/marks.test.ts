/** Marking rules and the services of firewall marks, in both objects, against the rules read one by one. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { ALL_PORTS, compareMatches, type MarkRule, markText, matchKey } from '../../control/model/mark.ts'
import { parseAddress } from '../../net/address.ts'
import { cut, type Prefix } from '../../net/prefix.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import fc from '../property.ts'
import { Bench } from './bench.ts'
import { ip, tcp, udp } from './frame.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import { CLIENT4, fromClient, fromServer, RS4, RS6, toServer, VIP4 } from './scenes.ts'

const MARKS = [1, 2, 3] as const
/** Real server n takes what has mark n + 1. */
const SERVICES = [
  ...MARKS.flatMap((mark) => [`ipvsadm -A -f ${mark}`, `ipvsadm -a -f ${mark} -r ${RS4[mark - 1]} -g`]),
  ...MARKS.flatMap((mark) => [
    `ipvsadm -A -f ${mark} -6`,
    `ipvsadm -a -f ${mark} -6 -r [${RS6[mark - 1]}]:0 -g`,
  ]),
]

const at = (text: string) => {
  const address = parseAddress(text)
  assert.ok(address !== null)
  return address
}
const prefix = (text: string, length: number): Prefix => cut(at(text), length)
const rule = (mark: number, more: Partial<MarkRule> = {}): MarkRule => ({
  family: 4,
  mark,
  source: null,
  destination: null,
  protocol: null,
  ports: null,
  interface: null,
  ...more,
})

interface Packet {
  readonly family: 4 | 6
  readonly source: string
  readonly destination: string
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  readonly sport: number
}

const frameOf = ({ source, destination, protocol, port, sport }: Packet): Uint8Array =>
  fromClient(
    ip(
      { src: source, dst: destination },
      protocol === 'tcp' ? tcp({ sport, dport: port, flags: 'S' }) : udp({ sport, dport: port }, 'x'),
    ),
  )

const covers = (prefix: Prefix | null, address: string): boolean =>
  prefix === null || cut(at(address), prefix.length).address === prefix.address

/** The mark by the rules as they stand, one after the other. */
function markOf(rules: readonly MarkRule[], packet: Packet): number {
  const matching = rules.filter(
    ({ family, source, destination, protocol, ports, interface: name }) =>
      family === packet.family &&
      covers(source, packet.source) &&
      covers(destination, packet.destination) &&
      (protocol === null || protocol === packet.protocol) &&
      (ports ?? ALL_PORTS).from <= packet.port &&
      packet.port <= (ports ?? ALL_PORTS).to &&
      (name === null || name === 'c0'),
  )
  return matching.sort(compareMatches)[0]?.mark ?? 0
}

const ADDRESSES = {
  4: { to: ['192.0.2.100', '192.0.2.101', '192.0.3.7', '203.0.113.9'], from: [CLIENT4, '198.51.100.200'] },
  6: { to: ['2001:db8:1::100', '2001:db8:1::1ff', '2001:db9::1'], from: ['2001:db8:c::7', '2001:db8:d::9'] },
} as const
const LENGTHS = { 4: [0, 8, 22, 24, 25, 31, 32], 6: [0, 32, 33, 64, 96, 119, 120, 128] } as const
const PORTS = [0, 1, 53, 79, 80, 81, 443, 1024, 65535] as const

const family = fc.constantFrom(4 as const, 6 as const)
const anyPrefix = (addresses: readonly string[], lengths: readonly number[]) =>
  fc.option(
    fc
      .tuple(fc.constantFrom(...addresses), fc.constantFrom(...lengths))
      .map(([address, length]) => prefix(address, length)),
  )
const anyRule = family.chain((of) =>
  fc.record({
    family: fc.constant(of),
    mark: fc.constantFrom(...MARKS),
    source: anyPrefix(ADDRESSES[of].from, LENGTHS[of]),
    destination: anyPrefix(ADDRESSES[of].to, LENGTHS[of]),
    protocol: fc.option(fc.constantFrom('tcp' as const, 'udp' as const)),
    ports: fc.option(
      fc
        .tuple(fc.constantFrom(...PORTS), fc.constantFrom(...PORTS))
        .map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) })),
    ),
    interface: fc.option(fc.constantFrom('c0', 'r0', 'absent0'), { freq: 3 }),
  }),
)
const anyPacket = family.chain((of) =>
  fc.record({
    family: fc.constant(of),
    source: fc.constantFrom(...ADDRESSES[of].from),
    destination: fc.constantFrom(...ADDRESSES[of].to),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    port: fc.constantFrom(...PORTS),
  }),
)
const distinct = (rules: readonly MarkRule[]): MarkRule[] => [
  ...new Map(rules.map((one) => [matchKey(one), one])).values(),
]

function marks(open: () => Promise<Program>, runs: number): void {
  let program: Program
  let sport = 1024
  before(async () => {
    program = await open()
  })
  after(() => program.close())

  /** The mark of the service that took it: 0 if none did. */
  const taken = (packet: Omit<Packet, 'sport'>): number => {
    sport = sport === 60000 ? 1024 : sport + 1
    const { verdict, frame } = program.send('c', frameOf({ ...packet, sport }))
    if (verdict === 'pass_no_service') return 0
    assert.equal(verdict, 'forward_dr')
    const dmac = Array.from(frame.subarray(0, 6), (byte) => byte.toString(16).padStart(2, '0')).join(':')
    return MARKS.find((mark) => toServer(mark - 1).dst === dmac) ?? -1
  }

  test('the most specific rule gives the mark', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(anyRule, { maxLength: 40 }).map(distinct),
        fc.array(anyPacket, { minLength: 1, maxLength: 60 }),
        async (rules, packets) => {
          await program.load(SERVICES)
          await program.changeMarks({ add: rules, delete: [], flush: true })
          for (const packet of packets) {
            assert.equal(taken(packet), markOf(rules, { ...packet, sport: 0 }), JSON.stringify(packet))
          }
        },
      ),
      { numRuns: runs },
    ))

  test('10,000 rules are found like one, and changed while in force', async () => {
    await program.load(SERVICES)
    const many = Array.from({ length: 10_000 }, (_, i) =>
      rule(MARKS[i % 3]!, {
        destination: prefix(`10.${i >> 8}.${i & 255}.1`, 32),
        ports: { from: 80, to: 80 + (i % 50) },
      }),
    )
    await program.changeMarks({ add: many, delete: [], flush: true })
    const to = (i: number, port: number) =>
      taken({
        family: 4,
        source: CLIENT4,
        destination: `10.${i >> 8}.${i & 255}.1`,
        protocol: 'tcp',
        port,
      })
    for (const i of [0, 1, 4711, 9999]) {
      assert.equal(to(i, 80), MARKS[i % 3])
      assert.equal(to(i, 80 + (i % 50)), MARKS[i % 3])
      assert.equal(to(i, 81 + (i % 50)), 0)
    }
    await program.changeMarks({ add: [], delete: [many[4711]!], flush: false })
    assert.equal(to(4711, 80), 0)
    assert.equal(to(4710, 80), MARKS[0])
  })

  test('a marked packet belongs to the mark, before a service of its address and port', async () => {
    await program.load([
      ...SERVICES,
      `ipvsadm -A -t ${VIP4}:80`,
      `ipvsadm -a -t ${VIP4}:80 -r ${RS4[1]}:80 -g`,
    ])
    const packet = { family: 4, source: CLIENT4, destination: VIP4, protocol: 'tcp', port: 80 } as const
    assert.equal(taken(packet), 2, 'the address service')
    await program.changeMarks({ add: [rule(1, { destination: prefix(VIP4, 32) })], delete: [], flush: false })
    assert.equal(taken(packet), 1)
    // A mark that no service has is none.
    await program.run('ipvsadm -D -f 1')
    assert.equal(taken(packet), 2)
  })

  test('a rule concerns new connections only; NAT answers go back by the address and port they came to', async () => {
    await program.load(['ipvsadm -A -f 1', `ipvsadm -a -f 1 -r ${RS4[0]} -m`])
    const rules = [rule(1, { destination: prefix(VIP4, 32), ports: { from: 1000, to: 1999 } })]
    await program.changeMarks({ add: rules, delete: [], flush: false })
    const client = (flags: string) =>
      fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ sport: 5000, dport: 1234, flags })))
    assert.equal(program.send('c', client('S')).verdict, 'forward_nat')
    const answer = fromServer(
      ip({ src: RS4[0], dst: CLIENT4 }, tcp({ sport: 1234, dport: 5000, flags: 'SA' })),
    )
    assert.equal(program.send('r', answer).verdict, 'forward_nat_reply')
    await program.changeMarks({ add: [], delete: rules, flush: false })
    assert.equal(program.send('c', client('A')).verdict, 'forward_nat')
    assert.equal(program.send('r', answer).verdict, 'forward_nat_reply')
    const fresh = fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ sport: 5001, dport: 1234, flags: 'S' })))
    assert.equal(program.send('c', fresh).verdict, 'pass_no_service')
  })

  test('a rule is told as it is typed', () => {
    const one = rule(7, {
      destination: prefix('192.0.2.0', 24),
      protocol: 'tcp',
      ports: { from: 80, to: 90 },
      interface: 'c0',
    })
    assert.equal(markText(one), '7 --to 192.0.2.0/24 --protocol tcp --port 80-90 --interface c0')
  })
}

describe('firewall marks in wasm', () => marks(async () => openWasmProgram(), 60))
describe('firewall marks in the kernel', { skip: missingPrivilege() ?? false }, () =>
  marks(() => openKernelProgram(new Bench(`pmm${process.pid % 100_000}`)), 30),
)
