import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { Method, RealRecord, ServiceRecord, Slot } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { EarlyDrop, removeStaleEarlyDrops } from '../../../dataplane/userspace/claims/early-drop.ts'
import { ClaimFilter } from '../../../dataplane/userspace/claims/filter.ts'
import {
  changeScript,
  deleteScript,
  leaseScript,
  runNft,
  tableScript,
} from '../../../dataplane/userspace/claims/nftables.ts'
import type { SpanClaim } from '../../../dataplane/userspace/claims/spans.ts'
import {
  type Claim,
  ClaimTracker,
  claimKey,
  type EndClaim,
} from '../../../dataplane/userspace/claims/tracker.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { addressToBytes, parseAddress } from '../../../net/address.ts'
import { parsePrefix } from '../../../net/prefix.ts'
import {
  ethernet,
  fragmentHeader,
  ipv4,
  ipv6,
  PROTOCOL,
  padOptions,
  raw,
  sctp,
  tcp,
  udp,
} from '../../packets/frame.ts'
import { interfaceIndex, PacketSocket } from '../../packets/libc.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, sysctl, until } from '../private-network.ts'

const address = (text: string) => {
  const bytes = new Uint8Array(16)
  bytes.set(addressToBytes(parseAddress(text)!))
  return bytes
}
const keys = (claims: readonly Claim[]) => claims.map(claimKey).sort()
/** Without the fragments, which go with each of them. */
const wholeKeys = (claims: readonly Claim[]) => keys(claims.filter((claim) => claim.of === 'packets'))

function putService(
  plane: MemoryDataplane,
  slot: number,
  addr: string,
  port: number,
  life: number = Slot.Live,
): void {
  const map = plane.map('services')
  const empty = ServiceRecord.read(map.view, slot * map.entrySize)
  ServiceRecord.write(map.view, slot * map.entrySize, {
    ...empty,
    slot: life,
    family: addr.includes(':') ? 6 : 4,
    protocol: 6,
    port,
    addr: address(addr),
  })
}

function putReal(
  plane: MemoryDataplane,
  slot: number,
  service: number,
  addr: string,
  port: number,
  { life = Slot.Live, method = Method.Nat }: { life?: number; method?: number } = {},
): void {
  const map = plane.map('reals')
  const empty = RealRecord.read(map.view, slot * map.entrySize)
  RealRecord.write(map.view, slot * map.entrySize, {
    ...empty,
    slot: life,
    service,
    addr: address(addr),
    family: addr.includes(':') ? 6 : 4,
    port,
    method,
  })
}

test('services claim their address, NAT real servers their replies, others nothing', () => {
  const plane = new MemoryDataplane()
  const tracker = new ClaimTracker(plane)
  putService(plane, 0, '192.0.2.100', 80)
  putReal(plane, 0, 0, '10.0.2.11', 8080)
  putReal(plane, 1, 0, '10.0.2.12', 80, { method: Method.Dr })
  const { added, removed } = tracker.update()
  assert.deepEqual(keys(added), [
    'from tcp 10.0.2.11 8080',
    'from tcp 10.0.2.11 fragments',
    'to tcp 192.0.2.100 80',
    'to tcp 192.0.2.100 fragments',
  ])
  assert.deepEqual(removed, [])
  assert.deepEqual(tracker.update(), { added: [], removed: [] })
})

test('a service with port 0, and one for FTP, claim all ports', () => {
  const plane = new MemoryDataplane()
  const tracker = new ClaimTracker(plane)
  putService(plane, 0, '192.0.2.100', 0)
  putService(plane, 1, '2001:db8::1', 21)
  putReal(plane, 0, 0, '10.0.2.11', 0)
  putReal(plane, 1, 1, '2001:db8:2::11', 21)
  assert.deepEqual(wholeKeys(tracker.update().added), [
    'from tcp 10.0.2.11 0',
    'from tcp 2001:db8:2::11 0',
    'to tcp 192.0.2.100 0',
    'to tcp 2001:db8::1 0',
  ])
})

test('a claim made twice ends with the second', () => {
  const plane = new MemoryDataplane()
  const tracker = new ClaimTracker(plane)
  putService(plane, 0, '192.0.2.100', 80)
  putService(plane, 1, '192.0.2.101', 80)
  putReal(plane, 0, 0, '10.0.2.11', 80)
  putReal(plane, 1, 1, '10.0.2.11', 80)
  tracker.update()
  putReal(plane, 0, 0, '10.0.2.11', 80, { life: Slot.Free })
  assert.deepEqual(tracker.update(), { added: [], removed: [] })
  putReal(plane, 1, 1, '10.0.2.11', 80, { life: Slot.Free })
  assert.deepEqual(keys(tracker.update().removed), ['from tcp 10.0.2.11 80', 'from tcp 10.0.2.11 fragments'])
})

test('fragments stay claimed while any service has their address', () => {
  const plane = new MemoryDataplane()
  const tracker = new ClaimTracker(plane)
  putService(plane, 0, '192.0.2.100', 80)
  putService(plane, 1, '192.0.2.100', 443)
  tracker.update()
  putService(plane, 0, '192.0.2.100', 80, Slot.Free)
  assert.deepEqual(keys(tracker.update().removed), ['to tcp 192.0.2.100 80'])
  putService(plane, 1, '192.0.2.100', 443, Slot.Free)
  assert.deepEqual(keys(tracker.update().removed), ['to tcp 192.0.2.100 443', 'to tcp 192.0.2.100 fragments'])
})

test('a removed service stays claimed while a removed real server still has connections', () => {
  const plane = new MemoryDataplane()
  const tracker = new ClaimTracker(plane)
  putService(plane, 0, '192.0.2.100', 80)
  putReal(plane, 0, 0, '10.0.2.11', 8080)
  tracker.update()
  putService(plane, 0, '192.0.2.100', 80, Slot.Free)
  putReal(plane, 0, 0, '10.0.2.11', 8080, { life: Slot.Gone })
  assert.deepEqual(tracker.update(), { added: [], removed: [] })
  assert.equal(tracker.lingers, true)
  putReal(plane, 0, 0, '10.0.2.11', 8080, { life: Slot.Free })
  assert.deepEqual(wholeKeys(tracker.update().removed), ['from tcp 10.0.2.11 8080', 'to tcp 192.0.2.100 80'])
  assert.equal(tracker.lingers, false)
})

test('a slot that changes to another service moves its claim', () => {
  const plane = new MemoryDataplane()
  const tracker = new ClaimTracker(plane)
  putService(plane, 0, '192.0.2.100', 80)
  tracker.update()
  putService(plane, 0, '192.0.2.101', 80)
  const { added, removed } = tracker.update()
  assert.deepEqual(wholeKeys(added), ['to tcp 192.0.2.101 80'])
  assert.deepEqual(wholeKeys(removed), ['to tcp 192.0.2.100 80'])
})

test('a service that comes and goes twice in one slot is released once its connections are over', () => {
  const plane = new MemoryDataplane()
  const tracker = new ClaimTracker(plane)
  const step = (slot: number, life: number) => {
    putService(plane, slot, `192.0.2.10${slot}`, 80, life)
    tracker.update()
  }
  for (const slot of [0, 1]) {
    putReal(plane, slot, slot, `10.0.2.1${slot}`, 80, { life: Slot.Gone })
    step(slot, Slot.Live)
  }
  step(1, Slot.Free)
  step(0, Slot.Free)
  // The other slot's claims are released between the two times.
  putReal(plane, 1, 1, '10.0.2.11', 80, { life: Slot.Free })
  step(0, Slot.Live)
  step(0, Slot.Free)
  assert.deepEqual(wholeKeys(tracker.all()), ['to tcp 192.0.2.100 80'])
  putReal(plane, 0, 0, '10.0.2.10', 80, { life: Slot.Free })
  tracker.update()
  assert.deepEqual(tracker.all(), [])
})

const MAC = '02:00:00:00:01:01'
const VIP = '192.0.2.100'
const VIP6 = '2001:db8:1::100'
const claim = (
  side: EndClaim['side'],
  protocol: EndClaim['protocol'],
  text: string,
  port: number,
): EndClaim => ({
  side,
  protocol,
  family: text.includes(':') ? 6 : 4,
  address: parseAddress(text)!,
  port,
  of: 'packets',
})
const pieces = (side: EndClaim['side'], protocol: EndClaim['protocol'], text: string): EndClaim => ({
  ...claim(side, protocol, text, 0),
  of: 'fragments',
})
const marked = (protocol: SpanClaim['protocol'], text: string, ports: SpanClaim['ports']): SpanClaim => {
  const prefix = parsePrefix(text)
  assert.ok(typeof prefix !== 'string')
  return { of: 'spans', family: prefix.family, protocol, prefix, ports }
}
const claims: readonly Claim[] = [
  claim('to', 'tcp', VIP, 80),
  claim('to', 'udp', '192.0.2.101', 0),
  claim('from', 'tcp', '10.0.2.11', 8080),
  claim('to', 'tcp', VIP6, 80),
  claim('from', 'udp', '2001:db8:2::11', 0),
  pieces('to', 'tcp', VIP),
  pieces('from', 'tcp', '10.0.2.11'),
  pieces('to', 'tcp', VIP6),
  pieces('from', 'udp', '2001:db8:2::11'),
  marked('tcp', '203.0.113.0/24', { from: 80, to: 90 }),
  marked('tcp', '203.0.113.0/24', null),
  marked('udp', '203.0.113.64/26', { from: 0, to: 65_535 }),
  marked('sctp', '203.0.113.0/24', { from: 36_412, to: 36_422 }),
  marked('tcp', '2001:db8:9::/48', { from: 80, to: 80 }),
  marked('tcp', '2001:db8:9::/48', null),
  marked('udp', '::/0', { from: 5300, to: 5301 }),
]
const to4 = (
  segment = tcp({ sport: 1, dport: 80, flags: 'S' }),
  fields: Partial<Parameters<typeof ipv4>[0]> = {},
) => ipv4({ src: '198.51.100.7', dst: VIP, ...fields }, segment)
const to6 = (
  segment = tcp({ sport: 1, dport: 80, flags: 'S' }),
  fields: Partial<Parameters<typeof ipv6>[0]> = {},
) => ipv6({ src: '2001:db8:c::7', dst: VIP6, ...fields }, segment)

/** An error that quotes a packet which went the other way. */
const error4 = (
  src: string,
  sport: number,
  { dst = '198.51.100.7', dport = 1, udp: isUdp = false, type = 3 } = {},
) => {
  const transport = isUdp ? udp({ sport, dport }) : tcp({ sport, dport, flags: 'A' })
  const quoted = ipv4({ src, dst }, transport).bytes
  return to4(raw(PROTOCOL.icmp, Buffer.concat([Uint8Array.of(type, 1, 0, 0, 0, 0, 0, 0), quoted])))
}
const error6 = (src: string, sport: number) => {
  const quoted = ipv6({ src, dst: '2001:db8:c::7' }, tcp({ sport, dport: 1, flags: 'A' })).bytes
  return to6(raw(PROTOCOL.icmpv6, Buffer.concat([Uint8Array.of(1, 4, 0, 0, 0, 0, 0, 0), quoted])))
}

const MARKED = '203.0.113.77'
const MARKED6 = '2001:db8:9:1::77'
const toPort = (dport: number, isUdp = false) =>
  isUdp ? udp({ sport: 1, dport }) : tcp({ sport: 1, dport, flags: 'S' })
const MARKED_CASES = [
  ['marked', to4(toPort(85), { dst: MARKED }), true],
  ['marked, the first port', to4(toPort(80), { dst: MARKED }), true],
  ['marked, the last port', to4(toPort(90), { dst: MARKED }), true],
  ['a port behind those that are marked', to4(toPort(91), { dst: MARKED }), false],
  ['an address behind those that are marked', to4(toPort(85), { dst: '203.0.114.0' }), false],
  ['marked at every port', to4(toPort(9, true), { dst: MARKED }), true],
  ['SCTP marked', to4(sctp({ dport: 36_422 }, []), { dst: MARKED }), true],
  ['SCTP at a port behind those that are marked', to4(sctp({ dport: 36_423 }, []), { dst: MARKED }), false],
  ['of another protocol than is marked', to4(toPort(85, true), { dst: '203.0.113.1' }), false],
  ['first fragment to a marked address', to4(toPort(4), { dst: MARKED, mf: true }), true],
  ['later fragment to a marked address', to4(toPort(4), { dst: MARKED, fragmentOffset: 8 }), true],
  ['fragment of another protocol', to4(toPort(4, true), { dst: MARKED, mf: true }), false],
  ['error about an answer from a marked address', error4(MARKED, 85), true],
  ['error about an answer from another port of it', error4(MARKED, 91), false],
  ['IPv6 marked', to6(toPort(80), { dst: MARKED6 }), true],
  ['IPv6 another port', to6(toPort(81), { dst: MARKED6 }), false],
  ['IPv6 marked wherever it goes', to6(toPort(5301, true), { dst: '2001:db9::1' }), true],
  ['IPv6 error about an answer from a marked address', error6(MARKED6, 80), true],
  [
    'IPv6 later fragment to a marked address',
    to6(raw(PROTOCOL.tcp, new Uint8Array(8)), { dst: MARKED6, extensions: [fragmentHeader(1, 8, false)] }),
    true,
  ],
].map(([name, packet, want]) => ({ name, packet, want, unusual: true }) as (typeof cases)[number])

const cases: readonly {
  readonly name: string
  readonly packet: Parameters<typeof ethernet>[1]
  readonly want: boolean
  readonly dst?: string
  /** Too unusual for the program at the ingress. */
  readonly unusual?: true
}[] = [
  { name: 'service', packet: to4(), want: true },
  { name: 'another port', packet: to4(tcp({ sport: 80, dport: 81, flags: 'S' })), want: false },
  { name: 'another protocol', packet: to4(udp({ sport: 1, dport: 80 })), want: false },
  { name: 'any port', packet: to4(udp({ sport: 1, dport: 9 }), { dst: '192.0.2.101' }), want: true },
  {
    name: 'reply',
    packet: ipv4({ src: '10.0.2.11', dst: '198.51.100.7' }, tcp({ sport: 8080, dport: 1, flags: 'A' })),
    want: true,
  },
  {
    name: 'reply from another port',
    packet: ipv4({ src: '10.0.2.11', dst: '198.51.100.7' }, tcp({ sport: 8081, dport: 1, flags: 'A' })),
    want: false,
  },
  {
    name: 'IP options',
    packet: to4(undefined, { options: new Uint8Array([1, 1, 1, 0]) }),
    want: true,
    unusual: true,
  },
  { name: 'first fragment', packet: to4(undefined, { mf: true }), want: true, unusual: true },
  {
    name: 'first fragment to another port of the address, since later ones tell no port',
    packet: to4(tcp({ sport: 1, dport: 81, flags: 'S' }), { mf: true }),
    want: true,
    unusual: true,
  },
  {
    name: 'later fragment of an answer',
    packet: ipv4(
      { src: '10.0.2.11', dst: '198.51.100.7', fragmentOffset: 8 },
      raw(PROTOCOL.tcp, new Uint8Array(8)),
    ),
    want: true,
    unusual: true,
  },
  {
    name: 'fragment of another protocol',
    packet: to4(udp({ sport: 1, dport: 80 }), { mf: true }),
    want: false,
  },
  {
    name: 'fragment to another address',
    packet: to4(undefined, { mf: true, dst: '192.0.2.103' }),
    want: false,
  },
  {
    name: 'fragment of ICMP',
    packet: to4(raw(PROTOCOL.icmp, Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0)), { mf: true }),
    want: false,
  },
  {
    name: 'fragment with a total length beyond the frame',
    packet: to4(undefined, { mf: true, totalLength: 1400 }),
    want: false,
  },
  { name: 'total length beyond the frame', packet: to4(undefined, { totalLength: 1400 }), want: false },
  { name: 'total length below the header', packet: to4(undefined, { totalLength: 10 }), want: false },
  { name: 'later fragment', packet: to4(undefined, { fragmentOffset: 64 }), want: true, unusual: true },
  { name: 'version 5', packet: to4(undefined, { version: 5 }), want: false },
  { name: 'IHL below 5', packet: to4(undefined, { headerLength: 4 }), want: false },
  {
    name: 'ICMP echo',
    packet: to4(raw(PROTOCOL.icmp, Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0))),
    want: false,
  },
  { name: 'ICMP error about an answer of a service', packet: error4(VIP, 80), want: true, unusual: true },
  {
    name: 'ICMP error about a packet to a real server',
    packet: error4('198.51.100.7', 1, { dst: '10.0.2.11', dport: 8080 }),
    want: true,
    unusual: true,
  },
  {
    name: 'ICMP error about any port',
    packet: error4('192.0.2.101', 9, { udp: true }),
    want: true,
    unusual: true,
  },
  { name: 'ICMP error about another port', packet: error4(VIP, 81), want: false },
  { name: 'ICMP error about another protocol', packet: error4(VIP, 80, { udp: true }), want: false },
  {
    name: 'ICMP error about a packet to the service',
    packet: error4('10.9.9.9', 1, { dst: VIP }),
    want: false,
  },
  { name: 'ICMP error of another kind', packet: error4(VIP, 80, { type: 5 }), want: false },
  {
    name: 'ICMP error that quotes nothing',
    packet: to4(raw(PROTOCOL.icmp, Uint8Array.of(3, 1, 0, 0, 0, 0, 0, 0))),
    want: false,
  },
  {
    name: 'ICMPv6 echo',
    packet: to6(raw(PROTOCOL.icmpv6, Uint8Array.of(128, 0, 0, 0, 0, 0, 0, 0))),
    want: false,
  },
  { name: 'ICMPv6 error about an answer of a service', packet: error6(VIP6, 80), want: true, unusual: true },
  ...MARKED_CASES,
  { name: 'ICMPv6 error about another port', packet: error6(VIP6, 81), want: false },
  { name: 'SCTP', packet: to4(raw(PROTOCOL.sctp, new Uint8Array([0, 1, 0, 80, 0, 0, 0, 0]))), want: false },
  { name: 'for another host', packet: to4(), want: false, dst: '02:00:00:00:01:99' },
  { name: 'IPv6 service', packet: to6(), want: true },
  { name: 'IPv6 another port', packet: to6(tcp({ sport: 80, dport: 81, flags: 'S' })), want: false },
  {
    name: 'IPv6 reply from any port',
    packet: ipv6({ src: '2001:db8:2::11', dst: '2001:db8:c::7' }, udp({ sport: 77, dport: 1 })),
    want: true,
  },
  {
    name: 'IPv6 destination options',
    packet: to6(undefined, { extensions: [padOptions(PROTOCOL.destination)] }),
    want: true,
    unusual: true,
  },
  {
    name: 'IPv6 hop-by-hop and routing',
    packet: to6(undefined, {
      extensions: [padOptions(PROTOCOL.hopByHop), padOptions(PROTOCOL.destination)],
    }),
    want: true,
    unusual: true,
  },
  {
    name: 'IPv6 first fragment',
    packet: to6(undefined, { extensions: [fragmentHeader(1, 0, true)] }),
    want: true,
    unusual: true,
  },
  {
    name: 'IPv6 later fragment, of which no port is known',
    packet: to6(raw(PROTOCOL.tcp, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)), {
      extensions: [fragmentHeader(1, 8, false)],
    }),
    want: true,
    unusual: true,
  },
  {
    name: 'IPv6 fragment behind other headers, with more of them',
    packet: to6(undefined, {
      extensions: [
        padOptions(PROTOCOL.hopByHop),
        fragmentHeader(1, 0, true),
        padOptions(PROTOCOL.destination),
      ],
    }),
    want: true,
    unusual: true,
  },
  {
    name: 'IPv6 fragment of an answer',
    packet: ipv6(
      { src: '2001:db8:2::11', dst: '2001:db8:c::7', extensions: [fragmentHeader(1, 8, true)] },
      raw(PROTOCOL.udp, new Uint8Array(8)),
    ),
    want: true,
    unusual: true,
  },
  {
    name: 'IPv6 later fragment that begins with a header',
    packet: to6(undefined, {
      extensions: [fragmentHeader(1, 8, false), padOptions(PROTOCOL.destination)],
    }),
    want: false,
  },
  {
    name: 'IPv6 fragment of another protocol',
    packet: to6(udp({ sport: 1, dport: 80 }), { extensions: [fragmentHeader(1, 0, true)] }),
    want: false,
  },
]

const survivorsHook = 'type filter hook ingress device "c0" priority 0'

/** A wire to c0, and how many of the frames sent into it did not get to the stack. */
class Wire {
  readonly #socket: PacketSocket

  static async make(): Promise<Wire> {
    enterPrivateNetwork()
    ip(`link add c0 address ${MAC} type veth peer name wire-c`)
    for (const name of ['c0', 'wire-c']) {
      sysctl(`net/ipv6/conf/${name}/disable_ipv6`, 1)
      ip(`link set ${name} up`)
    }
    // The last of its hook: what comes this far goes to the stack.
    await runNft(`table netdev stack {\nchain seen {\n${survivorsHook}\ncounter\n}\n}`, 'count survivors')
    return new Wire(new PacketSocket('wire-c'))
  }

  private constructor(socket: PacketSocket) {
    this.#socket = socket
  }

  #survived(): number {
    const listing = execFileSync('nft', ['list', 'table', 'netdev', 'stack'], { encoding: 'utf8' })
    return Number(/counter packets (\d+)/.exec(listing)![1])
  }

  dropped(...frames: readonly Uint8Array[]): number {
    const before = this.#survived()
    for (const frame of frames) this.#socket.send(frame)
    return frames.length - (this.#survived() - before)
  }

  close(): void {
    this.#socket.close()
  }
}

const toMac = (packet: Parameters<typeof ethernet>[1], dst = MAC) =>
  ethernet({ src: '02:00:00:00:01:02', dst }, packet)
const tagged = (id: number) => ethernet({ src: '02:00:00:00:01:02', dst: MAC, vlan: [{ id }] }, to4())

describe('nftables drops exactly what the filter matches', { skip: skipWithoutPrivileges }, () => {
  const filter = new ClaimFilter()
  let wire: Wire

  before(async () => {
    wire = await Wire.make()
    await runNft(tableScript([{ name: 'c0', ifindex: interfaceIndex('c0') }], claims), 'test')
    filter.apply({ added: claims, removed: [] })
  })
  after(() => wire.close())

  for (const { name, packet, want, dst } of cases) {
    test(name, () => {
      const frame = toMac(packet, dst)
      assert.equal(wire.dropped(frame), want ? 1 : 0, 'nftables')
      // Which host a frame is for the source knows from the kernel.
      if (dst === undefined) assert.equal(filter.matches(frame, 0, frame.length), want, 'filter')
    })
  }

  test('the table asks for no name of a protocol, which a minimal system has no file of', () => {
    const input = tableScript([{ name: 'c0', ifindex: interfaceIndex('c0') }], claims)
    const bare = 'mount --bind /dev/null /etc/protocols && exec nft --check -f -'
    execFileSync('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', bare], { input })
  })

  test('packets of a VLAN are not dropped', () => {
    assert.equal(wire.dropped(tagged(5)), 0)
    assert.equal(wire.dropped(tagged(0)), 1)
  })

  test('claims are exchanged, run out, and the table goes, also twice', async () => {
    const more = claim('to', 'tcp', '192.0.2.102', 443)
    await runNft(changeScript({ added: [more], removed: [claims[0]!] }), 'test')
    assert.equal(wire.dropped(toMac(to4())), 0)
    await runNft(leaseScript(3), 'test')
    const syn = to4(tcp({ sport: 1, dport: 443, flags: 'S' }), { dst: '192.0.2.102' })
    const frame = toMac(syn)
    assert.equal(wire.dropped(frame), 1)
    await until(() => wire.dropped(frame) === 0, 'the lease to run out')
    await runNft('delete table netdev stack', 'count no more survivors')
    await runNft(deleteScript(), 'test')
    await runNft(deleteScript(), 'test')
    assert.equal(execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' }), '')
  })

  test('what nft refuses is an error with its words', async () => {
    await assert.rejects(
      runNft('add rule ip nope nope accept', 'do it'),
      /Cannot do it: nft says .*No such file/,
    )
  })
})

describe('the program at the ingress drops what is usual of that', { skip: skipWithoutPrivileges }, () => {
  const log: string[] = []
  let wire: Wire
  let socket: RequestSocket
  let early: EarlyDrop
  let at: { readonly name: string; readonly ifindex: number }
  const tc = (...words: string[]) => execFileSync('tc', words, { encoding: 'utf8' })

  before(async () => {
    wire = await Wire.make()
    socket = new RequestSocket()
    early = new EarlyDrop(socket, (message) => log.push(message))
    at = { name: 'c0', ifindex: interfaceIndex('c0') }
    early.open(at)
    early.setClaims(claims)
    assert.deepEqual(log, [])
  })
  after(() => {
    socket.close()
    wire.close()
  })

  for (const { name, packet, want, dst, unusual } of cases) {
    test(name, () => {
      assert.equal(wire.dropped(toMac(packet, dst)), want && !unusual ? 1 : 0)
    })
  }

  test('packets of a VLAN are not dropped', () => {
    assert.equal(wire.dropped(tagged(5)), 0)
  })

  test('claims are exchanged', () => {
    const more = claim('to', 'tcp', '192.0.2.102', 443)
    early.setClaims([more])
    assert.equal(wire.dropped(toMac(to4())), 0)
    const syn = to4(tcp({ sport: 1, dport: 443, flags: 'S' }), { dst: '192.0.2.102' })
    assert.equal(wire.dropped(toMac(syn)), 1)
  })

  test('more claims than fit: the first ones', () => {
    const many = Array.from({ length: 20_000 }, (_, i) =>
      claim('to', 'tcp', `10.${i >> 12}.${(i >> 4) & 255}.${i & 15}`, 80 + (i % 3)),
    )
    early.setClaims([...claims, ...many])
    assert.deepEqual(log, [])
    assert.equal(wire.dropped(toMac(to4()), toMac(to6())), 2)
    assert.equal(wire.dropped(toMac(to4(undefined, { dst: '10.0.0.0' }))), 1)
    assert.equal(wire.dropped(toMac(to4(undefined, { dst: '10.4.15.15' }))), 0)
  })

  test('what a crashed process left is found and removed', () => {
    assert.equal(removeStaleEarlyDrops(socket), 1)
    assert.equal(wire.dropped(toMac(to4())), 0)
    assert.equal(tc('qdisc', 'show', 'dev', 'c0', 'clsact'), '')
    assert.equal(removeStaleEarlyDrops(socket), 0)
  })

  test('closing takes everything off, but for what others have put there', () => {
    const another = new EarlyDrop(socket, (message) => log.push(message))
    another.open(at)
    another.setClaims(claims)
    tc('filter', 'add', 'dev', 'c0', 'egress', 'bpf', 'da', 'bytecode', '1,6 0 0 4294967295')
    another.closeAll()
    assert.equal(wire.dropped(toMac(to4())), 0)
    assert.match(tc('filter', 'show', 'dev', 'c0', 'egress'), /bytecode/)
    tc('qdisc', 'del', 'dev', 'c0', 'clsact')
    another.open(at)
    another.closeAll()
    assert.equal(tc('qdisc', 'show', 'dev', 'c0', 'clsact'), '')
    assert.deepEqual(log, [])
  })

  test('an ingress that somebody else filters is left alone, and named', () => {
    tc('qdisc', 'add', 'dev', 'c0', 'clsact')
    tc('filter', 'add', 'dev', 'c0', 'ingress', 'bpf', 'da', 'bytecode', '1,6 0 0 4294967295')
    const before = tc('filter', 'show', 'dev', 'c0', 'ingress')
    const another = new EarlyDrop(socket, (message) => log.push(message))
    another.open(at)
    another.setClaims(claims)
    another.closeAll()
    assert.equal(removeStaleEarlyDrops(socket), 0)
    assert.equal(tc('filter', 'show', 'dev', 'c0', 'ingress'), before)
    assert.equal(log.length, 1)
    assert.match(log[0]!, /^c0: nftables alone .*somebody else filters at its ingress, see tc qdisc show$/)
    tc('qdisc', 'del', 'dev', 'c0', 'clsact')
  })

  test('an interface that is gone, or filters taken off by hand, do no harm', () => {
    log.length = 0
    const another = new EarlyDrop(socket, (message) => log.push(message))
    another.open(at)
    another.setClaims(claims)
    tc('qdisc', 'del', 'dev', 'c0', 'clsact')
    another.setClaims(claims)
    assert.match(log.join(), /^c0: nftables alone/)
    another.open({ name: 'gone', ifindex: 4711 })
    assert.match(log.join(), /gone: nftables alone .*ENODEV/)
    another.closeAll()
  })
})
