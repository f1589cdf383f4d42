import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Sweep } from '../../../control/connections/sweep.ts'
import { ConnectionTable, traitsOf } from '../../../control/connections/table.ts'
import {
  Conn4Record,
  ConnFlag,
  ConnKind,
  ConnRecord,
  ConnStatus,
  LiveRecord,
  Method,
  PM_CONN_ACTIVE,
  PM_CONN_GENERATION,
  PM_CONN_STATE_SHIFT,
  PM_CONTROL_OPEN,
  PM_NONE,
  PM_VERDICT_MAX,
  RealRecord,
  Slot,
  TcpState,
  TemplateState,
  Verdict,
} from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { realsOf } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'

const NOW = 1_000_000
const KEEP = { expireGone: false }

interface Line {
  readonly kind?: number
  readonly state?: number
  readonly protocol?: number
  /** Ticks from now. */
  readonly left: number
  readonly real?: number
  readonly peer?: number
  readonly status?: number
  /** Line of its persistence template. */
  readonly template?: number
  readonly method?: number
  readonly destination?: number
}

/** Generation of the lines that `put` makes. */
const GENERATION = 5 * PM_CONN_GENERATION
const ACTIVE_STATES: readonly number[] = [
  TcpState.Established,
  TcpState.SynSent,
  TcpState.SynRecv,
  TcpState.Synack,
]

function wordOf(line: Line): number {
  const state = line.state ?? TcpState.Established
  const active = (line.protocol ?? 6) === 6 && ACTIVE_STATES.includes(state)
  return (
    GENERATION |
    (state << PM_CONN_STATE_SHIFT) |
    (active ? PM_CONN_ACTIVE : 0) |
    (line.status ?? ConnStatus.Live)
  )
}

const LINE_WORDS = Conn4Record.size / 4

function put(dataplane: MemoryDataplane, index: number, line: Line): void {
  const base = index * Conn4Record.size
  const { view } = dataplane.map('connections4')
  ConnRecord.write(view, base, {
    word: wordOf(line),
    sport: 40000 + index,
    dport: 80,
    protocol: line.protocol ?? 6,
    traits: traitsOf(
      line.kind ?? ConnKind.In,
      line.method ?? Method.Nat,
      line.template === undefined ? 0 : ConnFlag.Controlled,
    ),
    expires: (NOW + line.left) >>> 0,
    real: line.real ?? 1,
    peer: line.peer ?? PM_NONE,
    neighbour: 0,
  })
  Conn4Record.setSaddr(view, base, 0xc0000202)
  Conn4Record.setDaddr(view, base, line.destination ?? 0xc0000264)
  const controls = dataplane.map('controls4').u32
  if (line.kind === ConnKind.Template) controls[index] = (controls[index]! | PM_CONTROL_OPEN) >>> 0
  if (line.template === undefined) return
  controls[index] = line.template
  controls[line.template]!++
}

const live = (dataplane: MemoryDataplane, real = 1) =>
  LiveRecord.read(dataplane.map('live').view, real * LiveRecord.size)

function setLive(dataplane: MemoryDataplane, active: number, inactive: number, overloaded = 0): void {
  LiveRecord.write(dataplane.map('live').view, LiveRecord.size, {
    active,
    inactive,
    persistent: 0,
    overloaded,
    path: 0n,
    seat: 0,
  })
}

function plane(): MemoryDataplane {
  return new MemoryDataplane(SMALL_SIZES, NOW)
}

const isLive = (dataplane: MemoryDataplane, index: number) => new ConnectionTable(dataplane, 4).isLive(index)

/** A service with one real server, and the clock that the director goes by. */
async function withRealServer() {
  const dataplane = plane()
  const clock = { ms: 0, nowMs: () => clock.ms, after: () => () => {} }
  const { director, applier } = openDirector({ dataplane, host: testHost(), clock })
  const web = service('tcp 192.0.2.100:80', { scheduler: 'rr' })
  director.addService(web)
  director.addServer(web.id, server('10.0.0.1:8080'))
  await director.settle()
  const [real] = realsOf(dataplane, web) as [number]
  return { dataplane, clock, director, applier, web, real }
}

describe('sweep', () => {
  test('a line ends after its last tick, not with it', () => {
    const dataplane = plane()
    setLive(dataplane, 3, 0)
    put(dataplane, 0, { left: 0 })
    put(dataplane, 1, { left: -1 })
    put(dataplane, 2, { left: 100 })
    const report = new Sweep(dataplane).run(KEEP)
    assert.deepEqual(
      [0, 1, 2].map((i) => isLive(dataplane, i)),
      [true, false, true],
    )
    assert.deepEqual([report.connections4, report.expired, report.references[1]], [2, 1, 2])
    assert.equal(live(dataplane).active, 2)
  })

  test('time runs over the end of 32 bits', () => {
    const dataplane = new MemoryDataplane(SMALL_SIZES, 5)
    const { view } = dataplane.map('connections4')
    put(dataplane, 0, { left: 0 })
    put(dataplane, 1, { left: 0 })
    ConnRecord.setExpires(view, 0, 0xfffffff0)
    ConnRecord.setExpires(view, Conn4Record.size, 20)
    new Sweep(dataplane).run(KEEP)
    assert.deepEqual(
      [0, 1].map((i) => isLive(dataplane, i)),
      [false, true],
    )
  })

  test('the later direction of a NAT connection counts, and both lines go together', () => {
    const dataplane = plane()
    setLive(dataplane, 2, 0)
    put(dataplane, 0, { left: -5, peer: 7 })
    put(dataplane, 7, { left: 5, peer: 0, kind: ConnKind.Reply })
    put(dataplane, 9, { left: -5, peer: 3 })
    put(dataplane, 3, { left: -1, peer: 9, kind: ConnKind.Reply })
    const report = new Sweep(dataplane).run(KEEP)
    assert.deepEqual(
      [0, 7, 9, 3].map((i) => isLive(dataplane, i)),
      [true, true, false, false],
    )
    assert.equal(live(dataplane).active, 1)
    assert.equal(report.connections4, 1)
  })

  test('a reply line whose connection is another one by now ends without accounting', () => {
    const dataplane = plane()
    setLive(dataplane, 1, 0)
    put(dataplane, 0, { left: 50, peer: 8 })
    put(dataplane, 7, { left: -1, peer: 0, kind: ConnKind.Reply })
    new Sweep(dataplane).run(KEEP)
    assert.deepEqual(
      [0, 7].map((i) => isLive(dataplane, i)),
      [true, false],
    )
    assert.equal(live(dataplane).active, 1)
  })

  test('ports of full NAT are counted by address, and towards the real server that has the most', () => {
    const dataplane = plane()
    const reals = dataplane.map('reals').view
    // Two records of one real server, and another one; 3 is none of them.
    for (const [real, port] of [8080, 8080, 8081].entries()) {
      RealRecord.setFamily(reals, real * RealRecord.size, 4)
      RealRecord.setPort(reals, real * RealRecord.size, port)
    }
    const [one, other] = [0x0a000205, 0x0a000206]
    const lines = [
      [0, one],
      [1, one],
      [1, one],
      [2, one],
      [2, other],
      [3, other],
    ] as const
    for (const [i, [real, destination]] of lines.entries()) {
      put(dataplane, 2 * i, { left: 100, real, peer: 2 * i + 1, method: Method.FullNat })
      const line = { kind: ConnKind.Reply, method: Method.FullNat, destination, real }
      put(dataplane, 2 * i + 1, { left: i === 3 ? -100 : 100, peer: 2 * i, ...line })
    }
    put(dataplane, 20, { left: 100, peer: 21 })
    put(dataplane, 21, { left: 100, peer: 20, kind: ConnKind.Reply })
    const sweep = new Sweep(dataplane)
    assert.deepEqual(
      [...sweep.run(KEEP).portsTaken],
      [
        ['10.0.2.5', { connections: 4, most: 3 }],
        ['10.0.2.6', { connections: 2, most: 1 }],
      ],
    )
    dataplane.map('connections4').bytes.fill(0)
    assert.deepEqual([...sweep.run(KEEP).portsTaken], [], 'counted anew each time')
  })

  test('the word keeps its generation growing and says that the line was used', () => {
    const dataplane = plane()
    setLive(dataplane, 1, 0)
    put(dataplane, 0, { left: -1 })
    new Sweep(dataplane).run(KEEP)
    assert.equal(dataplane.map('connections4').u32[0], (GENERATION + PM_CONN_GENERATION) | ConnStatus.Freed)
  })

  test('a persistence template stays for another minute while it controls connections', () => {
    const dataplane = plane()
    const table = new ConnectionTable(dataplane, 4)
    setLive(dataplane, 2, 0)
    LiveRecord.setPersistent(dataplane.map('live').view, LiveRecord.size, 2)
    put(dataplane, 3, { left: -1, kind: ConnKind.Template, state: 0 })
    put(dataplane, 6, { left: 100, template: 3 })
    put(dataplane, 9, { left: -1, template: 3 })
    put(dataplane, 12, { left: -1, kind: ConnKind.Template, state: 0 })
    const sweep = new Sweep(dataplane)
    assert.equal(sweep.run(KEEP).templates, 1)
    assert.equal(table.controlled(3), 1)
    assert.ok(table.remaining(3, NOW) > 7000 && table.remaining(3, NOW) < 7200, `${table.remaining(3, NOW)}`)
    assert.equal(table.state(3), TemplateState.Prolonged)
    assert.equal(isLive(dataplane, 12), false)
    assert.deepEqual(live(dataplane), {
      active: 1,
      inactive: 0,
      persistent: 1,
      overloaded: 0,
      path: 0n,
      seat: 0,
    })

    put(dataplane, 6, { left: -1 })
    const traits = traitsOf(ConnKind.In, Method.Nat, ConnFlag.Controlled)
    ConnRecord.setTraits(dataplane.map('connections4').view, 6 * Conn4Record.size, traits)
    ConnRecord.setExpires(dataplane.map('connections4').view, 3 * Conn4Record.size, NOW - 1)
    sweep.run(KEEP)
    sweep.run(KEEP)
    assert.deepEqual(
      [table.controlled(3), isLive(dataplane, 3)],
      [0, true],
      'prolonged by the first of the two',
    )
    ConnRecord.setExpires(dataplane.map('connections4').view, 3 * Conn4Record.size, NOW - 1)
    sweep.run(KEEP)
    assert.equal(isLive(dataplane, 3), false)
    assert.deepEqual(live(dataplane), {
      active: 0,
      inactive: 0,
      persistent: 0,
      overloaded: 0,
      path: 0n,
      seat: 0,
    })
  })

  test('templates of a removed real server go with their last connection', () => {
    const dataplane = plane()
    setLive(dataplane, 1, 0)
    LiveRecord.setPersistent(dataplane.map('live').view, LiveRecord.size, 1)
    dataplane.map('reals').u32[RealRecord.size / 4] = Slot.Gone
    put(dataplane, 3, { left: 100, kind: ConnKind.Template, state: 0 })
    put(dataplane, 6, { left: 100, template: 3 })
    const sweep = new Sweep(dataplane)
    assert.equal(sweep.run({ expireGone: true }).templates, 1)
    assert.equal(sweep.run({ expireGone: true }).templates, 0)
    assert.deepEqual(live(dataplane), {
      active: 0,
      inactive: 0,
      persistent: 0,
      overloaded: 0,
      path: 0n,
      seat: 0,
    })
  })

  test('counts come out right whatever ends in whatever order', () => {
    const line = fc.record({
      state: fc.integer({ min: 0, max: 10 }),
      protocol: fc.constantFrom(6, 17),
      left: fc.integer({ min: -2, max: 2 }),
      kind: fc.constantFrom(ConnKind.In, ConnKind.In, ConnKind.Template),
    })
    fc.assert(
      fc.property(fc.array(line, { maxLength: 60 }), fc.integer({ min: 1, max: 100 }), (lines, slice) => {
        const dataplane = plane()
        const isActive = (l: (typeof lines)[number]) => l.protocol === 6 && [1, 2, 3, 10].includes(l.state)
        const count = (list: typeof lines) => ({
          active: list.filter((l) => l.kind === ConnKind.In && isActive(l)).length,
          inactive: list.filter((l) => l.kind === ConnKind.In && !isActive(l)).length,
          persistent: list.filter((l) => l.kind === ConnKind.Template).length,
          overloaded: 0,
          path: 0n,
          seat: 0,
        })
        LiveRecord.write(dataplane.map('live').view, LiveRecord.size, count(lines))
        lines.forEach((l, i) => {
          put(dataplane, i * 3, l)
        })
        const sweep = new Sweep(dataplane)
        let report = null
        while (report === null) report = sweep.slice(slice, KEEP)
        assert.deepEqual(live(dataplane), count(lines.filter(({ left }) => left >= 0)))
        assert.equal(report.references[1], lines.filter(({ left }) => left >= 0).length)
      }),
    )
  })

  test('an overloaded real server takes connections again below its lower threshold', () => {
    for (const [lower, total, want] of [
      [0, 3, 1],
      [0, 2, 0],
      [1, 1, 1],
      [1, 0, 0],
      [4, 3, 0],
    ] as const) {
      const dataplane = plane()
      const { view } = dataplane.map('reals')
      RealRecord.setUpper(view, RealRecord.size, 4)
      RealRecord.setLower(view, RealRecord.size, lower)
      setLive(dataplane, total + 1, 0, 1)
      put(dataplane, 0, { left: -1 })
      new Sweep(dataplane).run(KEEP)
      assert.equal(live(dataplane).overloaded, want, `lower ${lower}, ${total} left of 4`)
    }
  })

  test('with expire_nodest_conn, connections of removed real servers end at once', () => {
    for (const expireGone of [false, true]) {
      const dataplane = plane()
      setLive(dataplane, 1, 0)
      RealRecord.setSlot(dataplane.map('reals').view, RealRecord.size, Slot.Gone)
      put(dataplane, 0, { left: 50, peer: 1 })
      put(dataplane, 1, { left: 50, peer: 0, kind: ConnKind.Reply })
      new Sweep(dataplane).run({ expireGone })
      assert.deepEqual(
        [0, 1].map((i) => isLive(dataplane, i)),
        [!expireGone, !expireGone],
      )
      assert.equal(live(dataplane).active, expireGone ? 0 : 1)
    }
  })

  test('a line that stays claimed longer than anybody stalls is freed, one that changed hands is not', () => {
    const dataplane = plane()
    dataplane.setTicks(NOW)
    put(dataplane, 0, { left: 50, status: ConnStatus.Claimed })
    put(dataplane, 1, { left: 50, status: ConnStatus.Claimed })
    const sweep = new Sweep(dataplane)
    assert.equal(sweep.run(KEEP).abandoned, 0)
    dataplane.setTicks(NOW + 1191)
    assert.equal(sweep.run(KEEP).abandoned, 0, 'it may be a CPU that is held up')
    dataplane.setTicks(NOW + 1192)
    dataplane.map('connections4').u32[LINE_WORDS] = (GENERATION + PM_CONN_GENERATION) | ConnStatus.Claimed
    assert.equal(sweep.run(KEEP).abandoned, 1)
    const status = (line: number) => dataplane.map('connections4').u32[line * LINE_WORDS]! & 3
    assert.deepEqual([status(0), status(1)], [ConnStatus.Freed, ConnStatus.Claimed])
  })

  test('counts that lines do not bear out are put right when nothing explains them any more', () => {
    const dataplane = plane()
    dataplane.setTicks(NOW)
    setLive(dataplane, 5, 1)
    put(dataplane, 0, { left: 5000 })
    const sweep = new Sweep(dataplane)
    const repairedAfter = (ticks: number): number => {
      dataplane.setTicks(NOW + ticks)
      return sweep.run(KEEP).repaired
    }
    assert.equal(repairedAfter(0), 0)
    assert.equal(repairedAfter(1), 0, 'a packet may be held up between line and count')
    setLive(dataplane, 4, 1)
    assert.equal(repairedAfter(600), 0)
    assert.equal(repairedAfter(1700), 0, 'its counts have moved since')
    assert.equal(sweep.due(), true)
    assert.equal(repairedAfter(1792), 1)
    assert.deepEqual([live(dataplane).active, live(dataplane).inactive], [1, 0])
    assert.equal(dataplane.map('verdicts').u64[Verdict.RepairedCount], 1n)
    assert.equal(repairedAfter(4000), 0)
  })

  test('counts of persistence templates are put right the same way', () => {
    const dataplane = plane()
    dataplane.setTicks(NOW)
    const persistent = (value: number) =>
      LiveRecord.setPersistent(dataplane.map('live').view, LiveRecord.size, value)
    setLive(dataplane, 1, 0)
    put(dataplane, 3, { left: 50_000, kind: ConnKind.Template, state: 0 })
    put(dataplane, 6, { left: 50_000, template: 3 })
    const sweep = new Sweep(dataplane)
    const repairedAfter = (ticks: number): number => {
      dataplane.setTicks(NOW + ticks)
      return sweep.run(KEEP).repaired
    }
    persistent(3)
    assert.equal(repairedAfter(0), 0)
    persistent(2)
    assert.equal(repairedAfter(1300), 0, 'it has moved since')
    assert.equal(repairedAfter(2600), 1)
    assert.equal(dataplane.map('verdicts').u64[Verdict.RepairedCount], 1n)
    assert.deepEqual(live(dataplane), {
      active: 1,
      inactive: 0,
      persistent: 1,
      overloaded: 0,
      path: 0n,
      seat: 0,
    })
    assert.equal(repairedAfter(5200), 0)
  })

  for (const [what, counted, after] of [
    ['too many', 3, 2],
    ['too few', 1, 2],
    ['one, and controls none', 1, 0],
  ] as const) {
    test(`a persistence template that counts ${what} controls what there is, when nothing explains it any more`, () => {
      const dataplane = plane()
      dataplane.setTicks(NOW)
      const controls = dataplane.map('controls4').u32
      const counts = (value: number) => {
        controls[3] = (PM_CONTROL_OPEN | value) >>> 0
      }
      put(dataplane, 3, { left: 50_000, kind: ConnKind.Template, state: 0, real: 900 })
      for (let line = 6; line < 6 + after; line++)
        put(dataplane, line, { left: 50_000, template: 3, real: 900 })
      const sweep = new Sweep(dataplane)
      const repairedAfter = (ticks: number): number => {
        dataplane.setTicks(NOW + ticks)
        return sweep.run(KEEP).repaired
      }
      assert.equal(repairedAfter(0), 0)
      assert.equal(controls[3]! & ~PM_CONTROL_OPEN, after, 'what is so')
      counts(5)
      assert.equal(repairedAfter(1), 0)
      counts(counted)
      assert.equal(repairedAfter(1300), 0, 'it has moved since')
      assert.equal(repairedAfter(2000), 0, 'a packet may be held up between line and count')
      assert.equal(sweep.due(), true)
      assert.equal(repairedAfter(2600), 1)
      assert.equal(controls[3], (PM_CONTROL_OPEN | after) >>> 0)
      assert.equal(dataplane.map('verdicts').u64[Verdict.RepairedCount], 1n)
      assert.equal(repairedAfter(5200), 0)
    })
  }

  test('tables that were found empty are not walked again before a packet can have made a line', () => {
    const dataplane = plane()
    const { u64 } = dataplane.map('verdicts')
    const sweep = new Sweep(dataplane)
    assert.equal(sweep.due(), true, 'nobody has looked yet')
    setLive(dataplane, 1, 0)
    put(dataplane, 3, { left: 50 })
    sweep.run(KEEP)
    assert.equal(sweep.due(), true, 'a connection lives')
    dataplane.setTicks(NOW + 100)
    sweep.run(KEEP)
    assert.equal(sweep.due(), true, 'it has only just been freed')
    sweep.run(KEEP)
    assert.equal(sweep.due(), false)
    u64[PM_VERDICT_MAX + Verdict.PassNoService]! += 5n
    assert.equal(sweep.due(), false, 'a stranger makes no connection')
    u64[PM_VERDICT_MAX + Verdict.PassLocalNode]! += 1n
    assert.equal(sweep.due(), true)
    sweep.slice(10, KEEP)
    u64[Verdict.DropNextHopUnresolved]! += 1n
    sweep.run(KEEP)
    assert.equal(sweep.due(), true, 'the packet came while the sweep was under way')
    sweep.run(KEEP)
    assert.equal(sweep.due(), false)
  })

  test('a removed real server is freed when nothing refers to it, after two minutes', async () => {
    const { dataplane, clock, director, applier, web, real } = await withRealServer()
    dataplane.map('counters').u64[real * SMALL_SIZES.cpus * 8] = 4n
    put(dataplane, 0, { left: 10, real })
    LiveRecord.setActive(dataplane.map('live').view, real * LiveRecord.size, 1)
    director.deleteServer(web.id, server('10.0.0.1:8080').id)
    await director.settle()
    const slot = () => RealRecord.getSlot(dataplane.map('reals').view, real * RealRecord.size)
    const sweep = () => {
      while (!applier.sweepSlice(100));
    }
    clock.ms = 130_000
    sweep()
    sweep()
    assert.equal(slot(), Slot.Gone, 'a connection refers to it')
    dataplane.setTicks(NOW + 100)
    sweep()
    assert.equal(slot(), Slot.Free)
    // What it counted stays with its service.
    assert.equal(director.services()[0]!.counters.conns, 4n)
    assert.equal(director.totals().counters.conns, 4n)
    director.deleteService(web.id)
    await director.settle()
    assert.equal(director.totals().counters.conns, 4n)
  })

  test('a removed real server is not freed for a connection that a packet has moved past the sweep', async () => {
    const { dataplane, clock, director, applier, web, real } = await withRealServer()
    put(dataplane, 200, { left: 50_000, real })
    LiveRecord.setActive(dataplane.map('live').view, real * LiveRecord.size, 1)
    director.deleteServer(web.id, server('10.0.0.1:8080').id)
    await director.settle()
    while (!applier.sweepSlice(100));
    clock.ms = 130_000
    while (!applier.sweepSlice(100));
    applier.sweepSlice(100)
    put(dataplane, 200, { left: 0, status: ConnStatus.Freed })
    put(dataplane, 10, { left: 50_000, real })
    while (!applier.sweepSlice(100));
    assert.equal(RealRecord.getSlot(dataplane.map('reals').view, real * RealRecord.size), Slot.Gone)
  })

  test('counts are not put right for lines that packets move past the sweep, one in each', () => {
    const dataplane = plane()
    setLive(dataplane, 1, 3)
    for (const line of [200, 201, 202]) put(dataplane, line, { left: 50_000 })
    const sweep = new Sweep(dataplane)
    let now = NOW
    for (const [from, to] of [
      [200, 10],
      [201, 11],
      [202, 12],
    ] as const) {
      sweep.slice(100, KEEP)
      put(dataplane, from, { left: 0, status: ConnStatus.Freed })
      put(dataplane, to, { left: 50_000 })
      assert.equal(sweep.run(KEEP).repaired, 0)
      now += 1500
      dataplane.setTicks(now)
    }
    assert.equal(sweep.run(KEEP).repaired, 0)
  })

  test('a sweep is due as long as removed real servers wait for one', async () => {
    const dataplane = plane()
    const { director, applier } = openDirector({ dataplane, host: testHost() })
    const web = service('tcp 192.0.2.100:80', { scheduler: 'rr' })
    director.addService(web)
    director.addServer(web.id, server('10.0.0.1:8080'))
    await director.settle()
    const sweep = () => {
      while (!applier.sweepSlice(100));
    }
    sweep()
    assert.equal(applier.sweepIsDue(), false)
    director.deleteServer(web.id, server('10.0.0.1:8080').id)
    await director.settle()
    sweep()
    assert.equal(applier.sweepIsDue(), true, 'it is kept for two minutes')
  })

  test('connections are listed with what is left of the later direction, ended ones are not', async () => {
    const dataplane = plane()
    const { director } = openDirector({ dataplane, host: testHost() })
    const reals = dataplane.map('reals')
    reals.bytes.set([10, 0, 0, 1], RealRecord.size + RealRecord.offsets.addr)
    RealRecord.setPort(reals.view, RealRecord.size, 8080)
    put(dataplane, 0, { left: 10, peer: 1 })
    put(dataplane, 1, { left: 1000, peer: 0, kind: ConnKind.Reply })
    put(dataplane, 2, { left: -1 })
    put(dataplane, 3, { left: 300, protocol: 17, state: 0 })
    const rows = [...director.connections()]
    assert.equal(rows.length, 2)
    assert.equal(Math.round(rows[0]!.remainingMs), 8389)
    assert.deepEqual(
      { ...rows[0], remainingMs: 0 },
      {
        protocol: 'tcp',
        family: 4,
        remainingMs: 0,
        state: 'ESTABLISHED',
        client: '192.0.2.2',
        clientPort: 40000,
        virtual: '192.0.2.100',
        virtualPort: 80,
        destination: '10.0.0.1',
        destinationPort: 8080,
        template: false,
        engine: null,
      },
    )
    assert.equal(rows[1]!.state, 'UDP')
  })
})
