/**
 * Services of many real servers, whose schedulers choose by counts or turn: through a bracket, and always who a walk
 * over all of them would have chosen.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { bracketLength, bracketMatches, bracketOrder } from '../../control/compile/bracket.ts'
import { Sweep } from '../../control/connections/sweep.ts'
import {
  ConnRecord,
  ConnStatus,
  LiveRecord,
  MemberRecord,
  PM_CONN_STATUS,
  PM_SCHEDULE_ACTIVE,
  PM_SEAT_STEADY,
  RealRecord,
  ScheduleRecord,
  ServiceRecord,
} from '../../dataplane/layout/layout.gen.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Random } from '../differential/random.ts'
import { Bench } from './bench.ts'
import { ip, tcp } from './frame.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import { fromClient, RS4, VIP4 } from './scenes.ts'

const SIZES = { reals: 512, members: 16_384, connections4: 16_384 }
const AT = `-t ${VIP4}:80`

interface Member {
  readonly real: number
  readonly weight: number
}

/** The active schedule of the only service, and its members as in the list. */
function scheduled(program: Program): { readonly schedule: ScheduleRecord; readonly members: Member[] } {
  const { dataplane } = program
  const word = ServiceRecord.getSchedule(dataplane.map('services').view, 0)
  const active = (word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
  const schedule = ScheduleRecord.read(dataplane.map('schedules').view, active * ScheduleRecord.size)
  const { view } = dataplane.map('members')
  return {
    schedule,
    members: Array.from({ length: schedule.count }, (_, i) =>
      MemberRecord.read(view, (schedule.first + i) * MemberRecord.size),
    ),
  }
}

/** docs/spec/schedulers.md, sections 4 and 5: a walk over the list. */
function chosen(
  scheduler: string,
  members: readonly Member[],
  live: (real: number) => LiveRecord,
): number | null {
  let best: { real: number; load: bigint; weight: bigint } | null = null
  for (const { real, weight } of members) {
    const { active, inactive, overloaded } = live(real)
    if (weight <= 0 || overloaded !== 0) continue
    if (scheduler === 'nq' && active === 0) return real
    if (scheduler === 'ovf' && active > weight) continue
    const overhead = BigInt(257 * active + inactive)
    const load = scheduler === 'sed' || scheduler === 'nq' ? BigInt(active + 1) : overhead
    const isHeaviest = scheduler === 'fo' || scheduler === 'ovf'
    const form = {
      real,
      load: isHeaviest ? 1n : load,
      weight: BigInt(scheduler === 'lc' ? 1 : weight),
    }
    if (best === null || best.load * form.weight > form.load * best.weight) best = form
  }
  return best === null ? null : best.real
}

/** docs/spec/schedulers.md, sections 2 and 3: from where the schedule stands, step by step. */
function inTurn(
  scheduler: 'rr' | 'wrr',
  { cursor, weightMax, weightStep }: ScheduleRecord,
  members: readonly Member[],
  live: (real: number) => LiveRecord,
): number | null {
  const usable = ({ real, weight }: Member) => weight > 0 && live(real).overloaded === 0
  let at = Number(cursor & 0xffffffffn)
  if (scheduler === 'rr') {
    const order = [...members.slice(at), ...members.slice(0, at)]
    return order.find(usable)?.real ?? null
  }
  let weight = Number(BigInt.asIntN(32, cursor >> 32n))
  if (weightMax <= 0 || !members.some(usable)) return null
  for (;;) {
    for (; at < members.length; at++)
      if (weight > 0 && usable(members[at]!) && members[at]!.weight >= weight) return members[at]!.real
    at = 0
    weight -= weightStep
    if (weight <= 0) weight = weightMax
  }
}

function questions(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)
  const live = (real: number): LiveRecord =>
    LiveRecord.read(it().dataplane.map('live').view, real * LiveRecord.size)
  const total = (real: number): number => live(real).active + live(real).inactive
  let client = 0
  const packet = (number: number, flags: string): string =>
    it().send(
      'c',
      fromClient(
        ip(
          { src: `203.0.${number >> 8}.${number & 255}`, dst: VIP4, ttl: 64 },
          tcp({ sport: 1024, dport: 80, flags }),
        ),
      ),
    ).verdict

  async function many(scheduler: string, servers: number, random: Random): Promise<void> {
    client = 0
    const rules = Array.from({ length: servers }, (_, i) => {
      const upper = random.once(5) ? ` -x ${2 + random.below(6)}` : ''
      return `-a ${AT} -r ${RS4[i % 3]}:${8000 + i} -m -w ${random.below(6)}${upper}`
    })
    await it().load([`ipvsadm -A ${AT} -s ${scheduler}`])
    await it().restore(rules)
  }

  /** One more client: whoever gets it must be whom a walk would have chosen. */
  function visit(scheduler: string): void {
    const { schedule, members } = scheduled(it())
    const byTurn = scheduler === 'rr' || scheduler === 'wrr'
    const wanted = byTurn ? inTurn(scheduler, schedule, members, live) : chosen(scheduler, members, live)
    const before = members.map(({ real }) => total(real))
    const verdict = packet(client++, 'S')
    const got = members.filter(({ real }, i) => total(real) > before[i]!).map(({ real }) => real)
    assert.deepEqual(got, wanted === null ? [] : [wanted], `client ${client}, ${scheduler}: ${verdict}`)
  }

  /** The time of every n-th line is over; the sweep finds it so. */
  function expire(n: number): void {
    const map = it().dataplane.map('connections4')
    for (let index = 0; index < map.entries; index += n) {
      const base = index * map.entrySize
      if ((map.u32[base / 4]! & PM_CONN_STATUS) === ConnStatus.Live)
        ConnRecord.setExpires(map.view, base, (it().dataplane.nowTicks() - 1000) >>> 0)
    }
    new Sweep(it().dataplane).run({ expireGone: false })
  }

  for (const scheduler of ['lc', 'wlc', 'sed', 'nq', 'fo', 'ovf']) {
    test(`${scheduler}: of many real servers the one is chosen that a walk would have chosen`, {
      skip,
    }, async () => {
      const random = new Random(scheduler.length + scheduler.charCodeAt(0))
      for (const servers of [33, 64, 65, 200]) {
        await many(scheduler, servers, random)
        assert.equal(scheduled(it()).schedule.bracket, bracketOrder(scheduler as 'lc', servers))
        for (let i = 0; i < 250; i++) {
          visit(scheduler)
          if (random.once(3)) packet(random.below(client), 'F')
          if (random.once(40)) expire(1 + random.below(4))
          if (random.once(40)) {
            const at = random.below(servers)
            const edited = `-r ${RS4[at % 3]}:${8000 + at} -m`
            await it().run(`ipvsadm -e ${AT} ${edited} -w ${random.below(6)} -x ${random.below(4)}`)
          }
          if (random.once(60)) {
            const at = random.below(servers)
            const server = `${AT} -r ${RS4[at % 3]}:${8000 + at}`
            await it().run(`ipvsadm -d ${server}`)
            visit(scheduler)
            await it().run(`ipvsadm -a ${server} -m -w ${random.below(6)}`)
          }
        }
        visit(scheduler)
        assert.equal(scheduled(it()).schedule.unplayed, 0, 'it was the bracket that was asked')
        const { members } = scheduled(it())
        assert.deepEqual(
          members.map(({ real }) => live(real).seat),
          members.map((_, i) => members.length - i),
          'everybody has the seat of his place',
        )
      }
    })
  }

  for (const scheduler of ['rr', 'wrr'] as const) {
    test(`${scheduler}: of many real servers, most of them of no use, it is whose turn a walk would have found`, {
      skip,
    }, async () => {
      const random = new Random(scheduler.length)
      for (const servers of [33, 65, 200]) {
        client = 0
        const rule = (i: number, weight: number) =>
          `${AT} -r ${RS4[i % 3]}:${8000 + i} -m -w ${weight} -x ${1 + (i % 3)} -y 1`
        const weight = () => (random.once(3) ? 1 + random.below(6) : 0)
        await it().load([`ipvsadm -A ${AT} -s ${scheduler}`])
        await it().restore(Array.from({ length: servers }, (_, i) => `-a ${rule(i, weight())}`))
        assert.equal(scheduled(it()).schedule.bracket, bracketOrder(scheduler, servers))
        let refused = 0
        for (let i = 0; i < 250; i++) {
          refused +=
            inTurn(scheduler, scheduled(it()).schedule, scheduled(it()).members, live) === null ? 1 : 0
          visit(scheduler)
          if (random.once(4)) packet(random.below(client), 'R')
          if (random.once(30)) expire(1 + random.below(4))
          if (random.once(50)) await it().run(`ipvsadm -e ${rule(random.below(servers), weight())}`)
        }
        expire(1)
        visit(scheduler)
        assert.equal(scheduled(it()).schedule.unplayed, 0, 'it was the bracket that was asked')
        if (servers === 33) assert.ok(refused > 0, 'there was nobody at times')
      }
    })
  }

  test('another scheduler, and back; so few that there is no bracket; and nobody who can be chosen', {
    skip,
  }, async () => {
    await many('wlc', 40, new Random(1))
    for (let i = 0; i < 60; i++) visit('wlc')
    await it().run(`ipvsadm -E ${AT} -s wrr`)
    for (let i = 0; i < 60; i++) visit('wrr')
    assert.equal(scheduled(it()).schedule.bracket, 6)
    const seats = scheduled(it()).members.map(({ real }) => live(real).seat)
    assert.deepEqual(
      seats,
      seats.map((_, i) => (PM_SEAT_STEADY | (40 - i)) >>> 0),
    )
    await it().run(`ipvsadm -E ${AT} -s random`)
    assert.equal(scheduled(it()).schedule.bracket, 0)
    assert.deepEqual(new Set(scheduled(it()).members.map(({ real }) => live(real).seat)), new Set([0]))
    for (let i = 0; i < 30; i++) packet(client++, 'S')
    await it().run(`ipvsadm -E ${AT} -s sed`)
    for (let i = 0; i < 60; i++) visit('sed')
    for (let i = 0; i < 10; i++) {
      await it().run(`ipvsadm -d ${AT} -r ${RS4[i % 3]}:${8000 + i}`)
      visit('sed')
    }
    assert.equal(scheduled(it()).schedule.bracket, 0)
    for (let i = 0; i < 10; i++) await it().run(`ipvsadm -a ${AT} -r ${RS4[i % 3]}:${8000 + i} -m`)
    for (let i = 0; i < 40; i++) visit('sed')
    for (let i = 0; i < 40; i++) await it().run(`ipvsadm -e ${AT} -r ${RS4[i % 3]}:${8000 + i} -m -w 0`)
    visit('sed')
    assert.equal(packet(client++, 'S'), 'answer_port_unreachable')
  })

  test('a real server that is lost, and counts that change beside the packets', { skip }, async () => {
    await many('lc', 100, new Random(2))
    for (let i = 0; i < 200; i++) visit('lc')
    // As after a crash: the sweep puts counts right, and says so to the bracket.
    for (let i = 0; i < 200; i++) packet(i, 'R')
    expire(1)
    for (let i = 0; i < 200; i++) visit('lc')
    const real = scheduled(it()).members[3]!.real
    assert.ok(RealRecord.getPort(it().dataplane.map('reals').view, real * RealRecord.size) > 0)
    assert.ok(live(real).seat > 0)
    await it().run(`ipvsadm -D ${AT}`)
    assert.equal(packet(client++, 'S') === 'forward_nat', false)
  })
}

test('how long brackets are, and who has one', () => {
  assert.equal(bracketOrder('wlc', 32), 0)
  assert.equal(bracketOrder('wlc', 33), 6)
  assert.equal(bracketOrder('wlc', 65), 7)
  assert.equal(bracketOrder('wlc', 131_072), 17)
  assert.equal(bracketOrder('wlc', 131_073), 0)
  assert.equal(bracketOrder('rr', 33), 6)
  for (const scheduler of ['mh', 'sh', 'dh', 'random'] as const) assert.equal(bracketOrder(scheduler, 100), 0)
  assert.equal(bracketLength(0), 0)
  assert.equal(bracketLength(6), 65)
  assert.equal(bracketLength(17), 131_072 + 64)
  assert.equal(bracketMatches(6), 63)
})

describe('brackets in wasm', () => {
  questions(async () => openWasmProgram(undefined, SIZES), false)

  test('of more real servers than there are challenges, several share one', async () => {
    const program = openWasmProgram(undefined, { reals: 8192, members: 65_536, connections4: 16_384 })
    const servers = 4200
    await program.load([`ipvsadm -A ${AT} -s lc`])
    const lines = Array.from({ length: servers }, (_, i) => `-a ${AT} -r ${RS4[i % 3]}:${8000 + i} -m -w 1`)
    await program.restore(lines)
    assert.equal(scheduled(program).schedule.bracket, 13)
    const { members } = scheduled(program)
    const view = program.dataplane.map('live').view
    const live = (real: number): LiveRecord => LiveRecord.read(view, real * LiveRecord.size)
    const random = new Random(5)
    for (let i = 0; i < 4500; i++) {
      const ended = i > 100 && random.once(3) ? random.below(i) : null
      for (const [number, flags] of [[i, 'S'], ...(ended === null ? [] : [[ended, 'F']])] as [
        number,
        string,
      ][]) {
        const wanted = flags === 'S' && i % 50 === 0 ? chosen('lc', members, live) : null
        const before = wanted === null ? 0 : live(wanted).active + live(wanted).inactive
        program.send(
          'c',
          fromClient(
            ip(
              { src: `203.0.${number >> 8}.${number & 255}`, dst: VIP4, ttl: 64 },
              tcp({ sport: 1024, dport: 80, flags }),
            ),
          ),
        )
        if (wanted !== null)
          assert.equal(live(wanted).active + live(wanted).inactive, before + 1, `client ${i}`)
      }
    }
    assert.equal(scheduled(program).schedule.unplayed, 0)
    await program.close()
  })
})

describe('brackets in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmbr${process.pid % 100_000}`), SIZES),
    missingPrivilege() ?? false,
  )
})
