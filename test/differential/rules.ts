/**
 * Random rules, written straight into maps: no director stands between, so that states it would never
 * make (a weightless member of a wrr schedule, an overloaded real server, a lost one) are met too.
 */
import { bracketLength, bracketMatches, seat } from '../../control/compile/bracket.ts'
import { FilterTable } from '../../control/compile/filters.ts'
import { fullNatWord, writeFullNat } from '../../control/compile/full-nat.ts'
import { markUntracked } from '../../control/compile/interest.ts'
import { fillMarks, markMaps } from '../../control/compile/marks.ts'
import { bucketsOf, indexEntry, serviceHash } from '../../control/compile/service-index.ts'
import { SETTLED, settlingFields } from '../../control/compile/untracked.ts'
import type { FullNatAddress } from '../../control/model/full-nat.ts'
import { type MarkRule, matchKey } from '../../control/model/mark.ts'
import { SCHEDULERS as NAMES } from '../../control/model/scheduler.ts'
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import { listInterfaces } from '../../dataplane/interface-table.ts'
import {
  Engine,
  GateRecord,
  HopRecord,
  LiveRecord,
  MemberRecord,
  Method,
  PM_BUCKET,
  PM_LEVEL,
  PM_LEVELS_SHIFT,
  PM_LOCALS,
  PM_TIMEOUT_LBLC,
  PM_TIMEOUT_LBLCR,
  RealFlag,
  RealRecord,
  ScheduleRecord,
  Scheduler,
  ServiceFlag,
  ServiceRecord,
  Setting,
  SettingsRecord,
  Slot,
  schedulerNames,
} from '../../dataplane/layout/layout.gen.ts'
import { addressToBytes, familyOf, parseAddress } from '../../net/address.ts'
import { cut, type Prefix } from '../../net/prefix.ts'
import { ADDRESSES, MAC } from '../packets/bench.ts'
import { ipBytes, macBytes } from '../packets/bytes.ts'
import { PROTOCOL } from '../packets/frame.ts'
import type { Random } from './random.ts'
import { PORTS, type Target } from './traffic.ts'

const TABLE = 256
const SERVERS_PER_SERVICE_MAX = 5
const SCHEDULERS = [
  Scheduler.Rr,
  Scheduler.Rr,
  Scheduler.Wrr,
  Scheduler.Wrr,
  Scheduler.Lc,
  Scheduler.Wlc,
  Scheduler.Sed,
  Scheduler.Nq,
  Scheduler.Fo,
  Scheduler.Ovf,
  Scheduler.Dh,
  Scheduler.Sh,
  Scheduler.Mh,
  Scheduler.None,
  Scheduler.Lblc,
  Scheduler.Lblcr,
  Scheduler.Lblcr,
  Scheduler.Twos,
  Scheduler.Random,
  Scheduler.Wrandom,
]
/** Those that choose by a table alone. */
const BY_TABLE = [Scheduler.Sh, Scheduler.Dh, Scheduler.Mh]
/** Those that may have a bracket. */
const BRACKETED: ReadonlySet<number> = new Set([
  Scheduler.Rr,
  Scheduler.Wrr,
  Scheduler.Lc,
  Scheduler.Wlc,
  Scheduler.Sed,
  Scheduler.Nq,
  Scheduler.Fo,
  Scheduler.Ovf,
  Scheduler.Lblc,
  Scheduler.Lblcr,
])
const NETMASKS = [0xffffffff, 0xffffffff, 0xffffff00, 0xfffffffe, 0]
const PREFIXES = [128, 128, 127, 64, 48, 1]
const SERVERS4 = [
  '10.0.2.11',
  '10.0.2.12',
  '10.0.2.13',
  '10.0.2.14',
  '10.0.3.5',
  '192.0.2.50',
  '198.51.100.77',
]
const SERVERS6 = [
  '2001:db8:2::11',
  '2001:db8:2::12',
  '2001:db8:2::13',
  '2001:db8:2::14',
  '2001:db8:3::5',
  '2001:db8:d::77',
]
/** Addresses that full NAT has: one for nothing else, the director's, a virtual one, a real server's. */
const SOURCES4 = ['10.0.2.5', '10.0.2.1', '192.0.2.100', '10.0.2.12']
const SOURCES6 = ['2001:db8:2::5', '2001:db8:2::1', '2001:db8:1::100', '2001:db8:2::12']
/** No neighbour, and the director itself. */
const BAD4 = ['10.0.2.99', '10.0.2.1', '192.0.2.100', '127.0.0.1']
const BAD6 = ['2001:db8:2::99', '2001:db8:2::1', '::1']

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))
const sixteen = (address: string): Uint8Array => {
  const bytes = new Uint8Array(16)
  bytes.set(ipBytes(address))
  return bytes
}
const local = new Set([...ADDRESSES.map(({ address }) => address), '127.0.0.1', '::1'])

/** Writes rules into empty maps; returns what traffic should aim at. */
export function writeRules(plane: Dataplane, random: Random): Target[] {
  writeLocals(plane)
  const sources = writeSources(plane, random)
  const services = 2 + random.below(5)
  const used = new Set<string>()
  const targets: Target[] = []
  let real = 0
  for (let slot = 0; slot < services; slot++) {
    const family = random.once(3) ? 6 : 4
    const address =
      family === 4
        ? random.pick(['192.0.2.100', '192.0.2.101'])
        : random.pick(['2001:db8:1::100', '2001:db8:1::101'])
    const protocol = random.pick([
      PROTOCOL.tcp,
      PROTOCOL.tcp,
      PROTOCOL.tcp,
      PROTOCOL.udp,
      PROTOCOL.udp,
      PROTOCOL.sctp,
    ])
    const port = random.once(8) ? 0 : random.pick(PORTS)
    const key = `${address} ${protocol} ${port}`
    if (used.has(key)) continue
    used.add(key)
    const first = real
    real = writeService(plane, random, slot, { family, address, protocol, port }, first)
    const { view } = plane.map('reals')
    const servers = Array.from({ length: real - first }, (_, i) =>
      RealRecord.read(view, (first + i) * RealRecord.size),
    )
      .filter((server) => server.family === family)
      .map((server) => ({ address: server.addr.slice(0, family === 4 ? 4 : 16), port: server.port || port }))
    targets.push({
      ...{ family, address: ipBytes(address), protocol, port, servers },
      sources: sources
        .filter(({ address: source }) => familyOf(source) === family)
        .map(({ address: source, ports }) => ({ address: addressToBytes(source), ...ports })),
    })
  }
  indexSenders(plane, real)
  writeSettings(plane, random)
  if (random.once(3)) writeHops(plane, random, real)
  if (random.once(2)) writeLevels(plane, random)
  if (random.once(3)) writeMarks(plane, random, real)
  if (random.once(3)) writeFilters(plane, random)
  return targets
}

/** Addresses of full NAT, so few and with so few ports that they are taken, come free, and answers meet them. */
function writeSources(plane: Dataplane, random: Random): readonly FullNatAddress[] {
  const sources = [SOURCES4, SOURCES6].flatMap((all) =>
    Array.from({ length: random.below(3) }, (_, i): FullNatAddress => {
      const from = random.pick([80, 5000, 40_000])
      const address = parseAddress(all[(i + random.below(2)) % all.length]!)!
      return { address, ports: { from, to: from + random.below(6) } }
    }),
  )
  writeFullNat(plane.map('full_nat'), sources)
  SettingsRecord.setFullNat(plane.map('settings').view, 0, fullNatWord(sources))
  return sources
}

/** What a daemon keeps for real servers; now and then it is at that, or was when the address was another. */
function writeHops(plane: Dataplane, random: Random, reals: number): void {
  const links = listInterfaces(plane.map('interfaces'))
  const { view } = plane.map('hops')
  for (let real = 0; real < reals; real++) {
    if (random.once(4)) continue
    const addr = RealRecord.read(plane.map('reals').view, real * RealRecord.size).addr
    HopRecord.write(view, real * HopRecord.size, {
      version: 2 * random.below(3) + (random.once(8) ? 1 : 0),
      ifindex: random.once(8) ? 0 : random.pick(links),
      dmac: macBytes(MAC.rs1),
      smac: macBytes(MAC.r0),
      mtu: random.pick([576, 1280, 1400, 1500, 1500]),
      addr: random.once(8) ? sixteen(random.pick(SERVERS4)) : addr,
    })
  }
}

/**
 * Tables that have grown, or are about to: lines stand in levels that new ones are not placed in. Levels that were
 * in use are searched on, as long as the daemon has not found them deserted: else a key has two lines.
 */
function writeLevels(plane: Dataplane, random: Random): void {
  const { view } = plane.map('settings')
  const after = (word: number): number => {
    const inUse = (word >>> PM_LEVELS_SHIFT) | (1 << (word & PM_LEVEL))
    return (random.below(4) | ((random.below(16) | inUse) << PM_LEVELS_SHIFT)) >>> 0
  }
  SettingsRecord.setLevels4(view, 0, after(SettingsRecord.getLevels4(view, 0)))
  SettingsRecord.setLevels6(view, 0, after(SettingsRecord.getLevels6(view, 0)))
}

/** Behind those of addresses. */
const FIRST_MARK_SLOT = 7

/** Services of firewall marks, and rules about the addresses and ports that traffic has. */
function writeMarks(plane: Dataplane, random: Random, firstReal: number): void {
  let real = firstReal
  for (let mark = 1; mark <= 3; mark++) {
    const family = random.once(3) ? 6 : 4
    const where = { family, address: null, protocol: 0, port: 0, fwmark: mark }
    real = writeService(plane, random, FIRST_MARK_SLOT + mark - 1, where, real)
  }
  const rules = Array.from({ length: 1 + random.below(12) }, (): MarkRule => {
    const family = random.once(3) ? 6 : 4
    const prefix = (addresses: readonly string[]): Prefix | null =>
      random.once(3)
        ? null
        : cut(parseAddress(random.pick(addresses))!, random.below(family === 4 ? 33 : 129))
    const ports = [random.pick(PORTS), random.pick(PORTS)].sort((a, b) => a - b)
    return {
      family,
      mark: 1 + random.below(4),
      destination: prefix(family === 4 ? ['192.0.2.100', '192.0.2.101'] : ['2001:db8:1::100']),
      source: prefix(family === 4 ? ['198.51.100.7', '203.0.113.9'] : ['2001:db8:c::7']),
      protocol: random.pick([null, 'tcp', 'udp', 'sctp']),
      ports: random.once(2) ? null : { from: ports[0]!, to: ports[1]! },
      interface: random.pick([null, null, 'c0', 'r0']),
    }
  })
  const distinct = new Map(rules.map((rule) => [matchKey(rule), rule]))
  const half = random.below(2) === 0 ? 0 : 1
  const links = listInterfaces(plane.map('interfaces'))
  const ifindexOf = (name: string) => links[name === 'c0' ? 0 : 1] ?? null
  const { view } = plane.map('settings')
  SettingsRecord.setMarks(view, 0, fillMarks(markMaps(plane), half, distinct.values(), ifindexOf))
  SettingsRecord.setFlags(view, 0, SettingsRecord.getFlags(view, 0) | Setting.Marks)
}

/** One that traffic reaches, or none. */
function limit(random: Random) {
  const rate = random.pick([0, 0, 1, 3, 50])
  const connections = random.pick([0, 0, 1, 2, 20])
  return { rate, connections, length: random.pick([0, 8, 24, 32, 64, 128]), owner: 0 }
}

/** Prefixes of the clients that traffic has, for all services and for some. */
function writeFilters(plane: Dataplane, random: Random): void {
  const table = new FilterTable(plane)
  const gates = plane.map('gates')
  for (let slot = 0; slot < gates.entries; slot++) {
    // Some are those of an earlier service.
    const gate = { order: slot + random.below(2), scope: random.below(3), ...limit(random) }
    GateRecord.write(gates.view, slot * GateRecord.size, gate)
  }
  for (let i = random.below(12); i >= 0; i--) {
    const family = random.once(3) ? 6 : 4
    const address = random.pick(
      family === 4 ? ['198.51.100.7', '198.51.100.8', '203.0.113.9', '192.0.2.50'] : ['2001:db8:c::7'],
    )
    table.put({
      prefix: cut(parseAddress(address)!, random.below(family === 4 ? 33 : 129)),
      action: random.once(2) ? 'deny' : 'allow',
      owner: 'manual',
      scope: random.below(3),
      // Over, or far from it: both sides would have to agree on the time to the tick.
      expires: random.once(4) ? (plane.nowTicks() + random.pick([-1000, 2 ** 29])) >>> 0 : 0,
    })
  }
  const { view } = plane.map('settings')
  SettingsRecord.setFlags(view, 0, SettingsRecord.getFlags(view, 0) | Setting.Filters | Setting.Limits)
}

interface Where {
  readonly family: number
  /** Null where packets are found by their mark. */
  readonly address: string | null
  readonly protocol: number
  readonly port: number
  readonly fwmark?: number
}

/** Returns the next free real server. */
function writeService(
  plane: Dataplane,
  random: Random,
  slot: number,
  where: Where,
  firstReal: number,
): number {
  const services = plane.map('services')
  const untracked = random.once(5)
  const scheduler = random.pick(untracked ? BY_TABLE : SCHEDULERS)
  const active = random.below(2)
  ServiceRecord.write(services.view, slot * ServiceRecord.size, {
    slot: Slot.Live,
    family: where.family,
    protocol: where.protocol,
    port: where.port,
    addr: where.address === null ? new Uint8Array(16) : sixteen(where.address),
    fwmark: where.fwmark ?? 0,
    flags:
      (random.below(4) << 3) |
      (random.once(20) ? ServiceFlag.OnePacket : 0) |
      (untracked ? ServiceFlag.Untracked : 0) |
      (random.once(3) ? ServiceFlag.Persistent : 0),
    schedule: scheduler | (active << 8),
    timeoutS: random.pick([1, 2, 300]),
    netmask: random.pick(where.family === 4 ? NETMASKS : PREFIXES),
    pe: random.once(where.protocol === PROTOCOL.udp ? 2 : 20) ? Engine.Sip : Engine.None,
    order: slot,
  })
  const reals = Array.from({ length: random.below(SERVERS_PER_SERVICE_MAX + 1) }, (_, i) => firstReal + i)
  for (const real of reals) writeReal(plane, random, real, slot, where.family)
  writeSchedule(plane, random, slot * 2 + active, reals)
  if (untracked) writeSettling(plane, random, slot * 2 + active)
  markUntracked(plane.map('interest'), services.u32, (slot * ServiceRecord.size) / 4)
  if (BRACKETED.has(scheduler) && random.once(2))
    writeBracket(plane, random, slot * 2 + active, reals, scheduler)
  publish(plane, slot)
  return firstReal + reals.length
}

function writeReal(plane: Dataplane, random: Random, real: number, service: number, family: number): void {
  const method = random.pick([Method.Nat, Method.Nat, Method.FullNat, Method.Dr, Method.Tun])
  const outer = method === Method.Tun && random.once(3) ? 10 - family : family
  const good = outer === 4 ? SERVERS4 : SERVERS6
  const address = random.once(15) ? random.pick(outer === 4 ? BAD4 : BAD6) : random.pick(good)
  const upper = random.once(6) ? 1 + random.below(6) : 0
  RealRecord.write(plane.map('reals').view, real * RealRecord.size, {
    slot: random.once(15) ? Slot.Gone : Slot.Live,
    service,
    addr: sixteen(address),
    port: random.once(5) ? 0 : random.pick(PORTS),
    family: outer,
    method,
    tunnel: random.once(2) ? random.below(3) : 0,
    tunnelFlags: random.below(3),
    tunnelPort: 5555,
    weight: random.below(5),
    upper,
    lower: upper > 0 && random.once(2) ? random.below(upper) : 0,
    source: random.once(12) ? new Uint8Array(16) : sixteen(outer === 4 ? '10.0.2.1' : '2001:db8:2::1'),
    flags: (local.has(address) ? RealFlag.Local : 0) | (random.once(4) ? RealFlag.AnyPort : 0),
  })
  if (random.once(25)) LiveRecord.setOverloaded(plane.map('live').view, real * LiveRecord.size, 1)
}

function writeSchedule(plane: Dataplane, random: Random, schedule: number, reals: readonly number[]): void {
  const members = plane.map('members')
  const first = schedule * (TABLE + SERVERS_PER_SERVICE_MAX)
  const weights = reals.map((real) => RealRecord.getWeight(plane.map('reals').view, real * RealRecord.size))
  for (const [i, real] of reals.entries()) {
    MemberRecord.write(members.view, (first + i) * MemberRecord.size, { real, weight: weights[i] ?? 0 })
  }
  const tableFirst = first + SERVERS_PER_SERVICE_MAX
  const tableCount = reals.length > 0 && !random.once(8) ? TABLE : 0
  for (let i = 0; i < tableCount; i++) {
    const at = i % reals.length
    MemberRecord.write(members.view, (tableFirst + i) * MemberRecord.size, {
      real: reals[at] ?? 0,
      weight: weights[at] ?? 0,
    })
  }
  const usable = weights.filter((weight) => weight > 0)
  const step = usable.length > 0 ? usable.reduce(gcd) : 1
  ScheduleRecord.write(plane.map('schedules').view, schedule * ScheduleRecord.size, {
    first,
    count: reals.length,
    tableFirst,
    tableCount,
    cursor: random.once(4) ? BigInt(random.below(8)) | (BigInt(random.below(6)) << 32n) : 0n,
    weightMax: Math.max(0, ...weights) - (step - 1),
    weightStep: step,
    how: 0,
    ...settlingFields(SETTLED),
    bracket: 0,
    unplayed: 0,
    released: 0,
    nobody: 0,
  })
}

/** A change of the table that settles or has; its times are over, or far from it, as both clocks have them. */
function writeSettling(plane: Dataplane, random: Random, schedule: number): void {
  const base = schedule * ScheduleRecord.size
  const { view } = plane.map('schedules')
  const after = () => (plane.nowTicks() + random.pick([-1000, 2 ** 29])) >>> 0
  const { first, count, tableFirst } = ScheduleRecord.read(view, base)
  ScheduleRecord.setLines(view, base, random.once(4) ? 0 : after())
  ScheduleRecord.setSettles(view, base, after())
  if (random.once(3)) return
  // The same slots from another one on.
  const slots = 1 + random.below(TABLE - 1)
  ScheduleRecord.setBeforeFirst(view, base, tableFirst + TABLE - slots)
  ScheduleRecord.setBeforeCount(view, base, slots)
  ScheduleRecord.setBeforeMembers(view, base, Math.min(count, tableFirst - first))
  const how = random.pick(BY_TABLE) | (random.below(4) << 11)
  ScheduleRecord.setBeforeHow(view, base, how)
}

/** A bracket in place of the schedule's table. */
function writeBracket(
  plane: Dataplane,
  random: Random,
  schedule: number,
  reals: readonly number[],
  scheduler: number,
): void {
  const base = schedule * ScheduleRecord.size
  const { view } = plane.map('schedules')
  const order = random.pick([6, 7])
  const from = ScheduleRecord.getTableFirst(view, base) * MemberRecord.size
  plane.map('members').bytes.fill(0, from, from + bracketLength(order) * MemberRecord.size)
  ScheduleRecord.setBracket(view, base, order)
  ScheduleRecord.setUnplayed(view, base, bracketMatches(order))
  const members = Uint32Array.from(reals.flatMap((real) => [real, 0]))
  const name = NAMES.find((known) => known === schedulerNames[scheduler])
  if (name === undefined) throw new Error(`No scheduler has the number ${scheduler}`)
  seat(plane.map('live'), { members, order, seated: 0, scheduler: name })
}

function publish(plane: Dataplane, slot: number): void {
  const hash = serviceHash(plane.map('services').u32, (slot * ServiceRecord.size) / 4)
  if (!putEntry(plane.map('service_index'), hash, slot)) {
    throw new Error(`No room in the index for service ${slot}`)
  }
}

function putEntry(index: MapMemory, hash: number, slot: number): boolean {
  for (const bucket of bucketsOf(hash, index.entries - 1)) {
    for (let i = 0; i < PM_BUCKET; i++) {
      const at = bucket * PM_BUCKET + i
      if (index.u64[at] !== 0n) continue
      index.u64[at] = indexEntry(hash, slot)
      return true
    }
  }
  return false
}

/** All real servers, whatever their method and however often: the program looks at that by itself. */
function indexSenders(plane: Dataplane, reals: number): void {
  const key = new Uint8Array(ServiceRecord.size)
  const keyView = new DataView(key.buffer)
  for (let real = 0; real < reals; real++) {
    const record = RealRecord.read(plane.map('reals').view, real * RealRecord.size)
    const protocol = ServiceRecord.getProtocol(
      plane.map('services').view,
      record.service * ServiceRecord.size,
    )
    ServiceRecord.setFamily(keyView, 0, record.family)
    ServiceRecord.setProtocol(keyView, 0, protocol)
    ServiceRecord.setPort(keyView, 0, record.port)
    key.set(record.addr, ServiceRecord.offsets.addr)
    putEntry(plane.map('nat_index'), serviceHash(new Uint32Array(key.buffer), 0), real)
  }
}

function writeLocals(plane: Dataplane): void {
  const { u32 } = plane.map('locals')
  for (const { address } of ADDRESSES) {
    if (address.includes(':')) continue
    const word = Buffer.from(ipBytes(address)).readUInt32LE(0)
    const bucket = (Math.imul(word, 0x9e3779b1) >>> 16) % PM_LOCALS
    for (let i = 0; i < PM_BUCKET; i++) {
      if (u32[bucket * PM_BUCKET + i] !== 0) continue
      u32[bucket * PM_BUCKET + i] = word
      break
    }
  }
}

function writeSettings(plane: Dataplane, random: Random): void {
  const { view } = plane.map('settings')
  const optional = [
    Setting.Port0,
    Setting.SloppyTcp,
    Setting.SloppySctp,
    Setting.ExpireNodest,
    Setting.SecureTcp,
    Setting.NoPmtuDisc,
    Setting.NatIcmpSend,
    Setting.ScheduleIcmp,
    Setting.ExpireQuiescent,
    Setting.Ftp,
    Setting.Untracked,
    Setting.Engines,
  ]
  const flags = optional.reduce((all: number, flag) => (random.once(3) ? all | flag : all), Setting.Ready)
  // A filter that lets half of all addresses through, whatever the rules say.
  const interest = random.once(5) ? Setting.Interest : 0
  if (interest !== 0) plane.map('interest').bytes.fill(random.pick([0x5a, 0xa5, 0xff]))
  SettingsRecord.setFlags(
    view,
    0,
    flags | interest | (random.once(20) ? 0 : Setting.V4) | (random.once(10) ? 0 : Setting.V6),
  )
  SettingsRecord.setReuseMode(view, 0, random.below(4))
  SettingsRecord.setDropRate(view, 0, random.once(6) ? 1 + random.below(5) : 0)
  SettingsRecord.setUnprivilegedPort(view, 0, 1024)
  SettingsRecord.setIcmpPerSecond(view, 0, random.once(3) ? random.below(8) : 0)
  // Packets expire lines themselves, and ask the routes first: there is no daemon.
  if (random.once(4)) SettingsRecord.setSwept(view, 0, 0)
  const timeouts = SettingsRecord.offsets.timeouts / 4
  const settings = plane.map('settings').u32
  for (const index of [PM_TIMEOUT_LBLC, PM_TIMEOUT_LBLCR])
    settings[timeouts + index] = random.pick([0, 100, 1e7])
  SettingsRecord.setNextHopEpoch(view, 0, random.below(65_536))
}

/** Small changes under traffic: what editing, draining and removing does to the maps. */
export function disturbRules(plane: Dataplane, random: Random): void {
  const { view, entries } = plane.map('reals')
  const used = Array.from({ length: entries }, (_, i) => i).filter(
    (i) => RealRecord.getSlot(view, i * RealRecord.size) !== Slot.Free,
  )
  if (used.length === 0) return
  const at = random.pick(used) * RealRecord.size
  switch (random.below(6)) {
    case 0:
      RealRecord.setSlot(view, at, random.once(2) ? Slot.Gone : Slot.Live)
      break
    case 1:
      RealRecord.setWeight(view, at, random.below(4))
      break
    case 2:
      RealRecord.setUpper(view, at, random.below(5))
      break
    case 3:
      writeLevels(plane, random)
      break
    case 4:
      writeSources(plane, random)
      break
    default:
      SettingsRecord.setNextHopEpoch(plane.map('settings').view, 0, random.below(65_536))
  }
}
