/** Rules come in force in the end: near capacity, behind somebody else's trouble, after a stray write. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { namesFrom } from '../../../control/front/ipvsadm/names.ts'
import { runIpvsadm } from '../../../control/front/ipvsadm/run.ts'
import type { Director } from '../../../control/model/director.ts'
import { serverKey, serviceKey } from '../../../control/model/identity.ts'
import { CapacityError } from '../../../control/plan/plan.ts'
import { type Dataplane, DataplaneError } from '../../../dataplane/dataplane.ts'
import { LiveRecord, type ScheduleRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { activeSchedule, checkReadable, lookUp, membersOf, realsOf } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { answer, HandClock, server, service, testHost } from '../support.ts'

const SIXTEEN = { ...SMALL_SIZES, reals: 16, members: 256 }
const web = service('tcp 10.0.0.1:80', { scheduler: 'rr' })
const other = service('tcp 10.0.0.2:80', { scheduler: 'rr' })
const ten = (net: number): string[] => Array.from({ length: 10 }, (_, i) => `10.1.${net}.${i + 1}:80`)

function open(dataplane: Dataplane = new MemoryDataplane(SIXTEEN), clock = new HandClock()) {
  return { dataplane, clock, ...openDirector({ dataplane, host: testHost(), clock }) }
}

async function ipvsadm(director: Director, argv: readonly string[], stdin = '') {
  const result = await runIpvsadm({ argv, stdin, director, names: () => namesFrom('', '') })
  assert.ok(typeof result !== 'string')
  return { status: result.status, stderr: result.stderr.toString() }
}

const restore = (director: Director, lines: readonly string[]) =>
  ipvsadm(director, ['ipvsadm', '-R'], `${lines.join('\n')}\n`)

const lines = (servers: readonly string[]): string[] => [
  '-A -t 10.0.0.1:80 -s rr',
  ...servers.map((text) => `-a -t 10.0.0.1:80 -r ${text} -m`),
]

/** Advances the clock until a promise is settled. */
async function through<T>(clock: HandClock, promise: Promise<T>): Promise<T> {
  let over = false
  const done = promise.finally(() => {
    over = true
  })
  done.catch(() => {})
  while (!over) {
    await new Promise((resolve) => setImmediate(resolve))
    clock.advance(10)
  }
  return await done
}

const setConnections = (dataplane: Dataplane, reals: readonly number[], count: number): void => {
  for (const real of reals) LiveRecord.setActive(dataplane.map('live').view, real * LiveRecord.size, count)
}

function assertInForce(dataplane: Dataplane, director: Director): void {
  for (const { service: rule, servers } of director.rules()) {
    assert.deepEqual(
      membersOf(dataplane, rule),
      servers.map(({ id }) => serverKey(id)),
    )
  }
}

const seats = (dataplane: Dataplane): number[] =>
  realsOf(dataplane, web).map((real) =>
    LiveRecord.getSeat(dataplane.map('live').view, real * LiveRecord.size),
  )

const scheduleOf = (dataplane: Dataplane, of: typeof web): ScheduleRecord =>
  activeSchedule(dataplane, lookUp(dataplane, of)).schedule

describe('near capacity', () => {
  test('ten of sixteen real servers are replaced by ten others', async () => {
    const { dataplane, clock, director } = open()
    for (let round = 0; round < 20; round++) {
      const done = await through(clock, restore(director, ['-C', ...lines(ten(round))]))
      assert.deepEqual(done, { status: 0, stderr: '' })
      assertInForce(dataplane, director)
      assert.deepEqual(director.states(), new Map())
      checkReadable(dataplane)
    }
  })

  test('all sixteen are replaced one service after the other', async () => {
    const { dataplane, clock, director } = open()
    for (let round = 0; round < 6; round++) {
      const id = round % 2 === 0 ? '10.0.0.1:80' : '10.0.0.2:80'
      const servers = Array.from({ length: 16 }, (_, i) => `-a -t ${id} -r 10.2.${round}.${i + 1}:80 -m`)
      const done = await through(clock, restore(director, ['-C', `-A -t ${id} -s wrr`, ...servers]))
      assert.deepEqual(done, { status: 0, stderr: '' })
      assertInForce(dataplane, director)
    }
  })

  test('real servers with connections keep their places, and what does not fit is refused at once', async () => {
    const { dataplane, director } = open()
    assert.equal((await restore(director, lines(ten(0)))).status, 0)
    setConnections(dataplane, realsOf(dataplane, web), 1)
    const { status, stderr } = await restore(director, ['-C', ...lines(ten(1))])
    assert.equal(status, 255)
    assert.equal(stderr, 'Memory allocation problem\n'.repeat(4))
    assert.equal(membersOf(dataplane, web).length, 6)
    assert.deepEqual(director.states(), new Map())
    // Those that are back need no other place.
    assert.equal((await restore(director, ['-C', ...lines(ten(0))])).status, 0)
    assertInForce(dataplane, director)
  })

  test('what waits is said to wait, is nobody else’s failure, and comes by itself', async () => {
    const { dataplane, clock, director } = open()
    await restore(director, lines(ten(0)))
    const old = realsOf(dataplane, web)
    director.flush()
    director.addService(web)
    for (const text of ten(1)) assert.equal(answer(director.addServer(web.id, server(text))), 'ok')
    // Connections that nobody could know of when the rules were accepted.
    setConnections(dataplane, old, 1)
    await assert.rejects(through(clock, director.settle([web.id])), (error) => {
      assert.ok(error instanceof CapacityError)
      assert.match(error.message, /in force with 6 of its 10 real servers: all 16 are in use/)
      return true
    })
    assert.equal(membersOf(dataplane, web).length, 6)
    const state = director.states().get(serviceKey(web.id))
    assert.equal(state?.state, 'waiting')
    const shown = director.service(web.id)
    assert.ok(shown.ok && shown.value.state.state === 'waiting')

    const set = await through(clock, ipvsadm(director, ['ipvsadm', '--set', '100', '0', '0']))
    assert.deepEqual(set, { status: 0, stderr: '' })
    assert.deepEqual(await ipvsadm(director, ['ipvsadm', '-A', '-t', '10.0.0.2:80']), {
      status: 0,
      stderr: '',
    })
    assert.notEqual(lookUp(dataplane, other), -1)
    // Failing again and again uses nothing up.
    for (let i = 0; i < 50; i++) {
      director.editServer(web.id, server(ten(1)[0]!, { weight: i }))
      await through(clock, director.settle([other.id]))
    }

    setConnections(dataplane, old, 0)
    for (let i = 0; i < 30 && director.states().size > 0; i++) {
      clock.advance(1000)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    assert.deepEqual(director.states(), new Map())
    assertInForce(dataplane, director)
    checkReadable(dataplane)
  })

  test('what can never fit is refused', async () => {
    const { director } = open(new MemoryDataplane({ ...SMALL_SIZES, members: 512 }))
    director.addService(web)
    assert.equal(answer(director.addServer(web.id, server('10.1.0.1:80'))), 'ok')
    assert.equal(answer(director.editService({ ...web, scheduler: 'mh' })), 'ENOMEM')
    await director.settle()
  })

  test('any history comes in force once connections have ended, and nothing leaks', async () => {
    const step = fc.record({
      what: fc.constantFrom(
        'service',
        'drop',
        'add',
        'add',
        'add',
        'delete',
        'flush',
        'pin',
        'settle',
        'sweep',
      ),
      name: fc.constantFrom('tcp 10.0.0.1:80', 'tcp 10.0.0.2:80', 'tcp 10.0.0.3:80'),
      server: fc.nat({ max: 9 }),
      scheduler: fc.constantFrom('rr', 'wrr', 'wlc'),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80, size: 'max' }), async (steps) => {
        const dataplane = new MemoryDataplane({ ...SMALL_SIZES, services: 2, reals: 5, members: 32 })
        const { clock, director, applier } = open(dataplane)
        const pinned = new Set<number>()
        for (const { what, name, server: index, scheduler } of steps) {
          const wanted = service(name, { scheduler: scheduler as 'rr' })
          const real = server(`10.1.0.${index + 1}:80`)
          if (what === 'service') director.addService(wanted)
          else if (what === 'drop') director.deleteService(wanted.id)
          else if (what === 'add') director.addServer(wanted.id, real)
          else if (what === 'delete') director.deleteServer(wanted.id, real.id)
          else if (what === 'flush') director.flush()
          else if (what === 'settle') await through(clock, director.settle([]))
          else if (what === 'sweep') while (!applier.sweepSlice(4096)) {}
          else {
            for (const one of realsOf(dataplane, wanted)) pinned.add(one)
            setConnections(dataplane, [...pinned], 1)
          }
          checkReadable(dataplane)
        }
        setConnections(dataplane, [...pinned], 0)
        await through(clock, director.settle([]))
        for (let i = 0; i < 30 && director.states().size > 0; i++) {
          clock.advance(1000)
          await through(clock, director.settle([]))
        }
        assert.deepEqual(director.states(), new Map())
        assertInForce(dataplane, director)
        // All that is not wanted can be had again.
        director.flush()
        await through(clock, director.settle())
        clock.advance(1000)
        director.addService(web)
        for (let i = 0; i < 5; i++) {
          assert.equal(answer(director.addServer(web.id, server(`10.9.0.${i + 1}:80`))), 'ok')
        }
        await through(clock, director.settle())
        assertInForce(dataplane, director)
      }),
      { numRuns: 150 },
    )
  })
})

describe('reconciler', () => {
  test('what the plane keeps outside of the maps is tried again until it is done', async () => {
    const dataplane = new MemoryDataplane()
    let broken = true
    const published = async (): Promise<void> => {
      if (broken) throw new DataplaneError('nft says no')
    }
    const { clock, director } = open(Object.assign(dataplane, { published }))
    director.addService(web)
    await assert.rejects(director.settle([web.id]), /nft says no/)
    assert.deepEqual(director.states().get(serviceKey(web.id)), { state: 'waiting', why: 'nft says no' })
    // A command that is about no service is in force by itself.
    director.setTimeouts({ tcp: 1, tcpFin: 1, udp: 1 })
    await director.settle([])
    broken = false
    clock.advance(1000)
    for (let turns = 0; turns < 1000 && director.states().size > 0; turns++)
      await new Promise((resolve) => setTimeout(resolve, 5))
    assert.deepEqual(director.states(), new Map())
  })

  test('tries ever more seldom, and not at all once there is nothing to try', async () => {
    const dataplane = new MemoryDataplane()
    let tries = 0
    const published = async (): Promise<void> => {
      tries++
      if (tries < 100) throw new DataplaneError('nft says no')
    }
    const { clock, director } = open(Object.assign(dataplane, { published }))
    director.addService(web)
    await director.settle([])
    const during = async (seconds: number): Promise<number> => {
      const before = tries
      for (let i = 0; i < seconds * 10; i++) {
        clock.advance(100)
        await new Promise((resolve) => setImmediate(resolve))
      }
      return tries - before
    }
    assert.ok((await during(1)) >= 2)
    await during(30)
    const seldom = await during(60)
    assert.ok(seldom >= 5 && seldom <= 7, `${seldom} tries in a minute`)
    tries = 100
    await during(20)
    assert.equal(await during(60), 0)
  })

  test('commands that come together share a pass', async () => {
    let passes = 0
    const published = async (): Promise<void> => {
      passes++
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const { dataplane, director } = open(Object.assign(new MemoryDataplane(), { published }))
    const settled = Array.from({ length: 50 }, (_, i) => {
      director.addService(service(`tcp 10.0.1.${i}:80`))
      return director.settle()
    })
    await Promise.all(settled)
    assert.equal(passes, 2)
    assert.notEqual(lookUp(dataplane, service('tcp 10.0.1.49:80')), -1)
  })

  test('any stray write to the rules in the maps is found and put right', async () => {
    const stray = fc.record({
      map: fc.constantFrom('services', 'service_index', 'schedules', 'members', 'reals'),
      at: fc.nat(),
      value: fc.oneof(fc.constant(0), fc.nat({ max: 0xffffffff }), fc.nat({ max: 3 })),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(stray, { minLength: 1, maxLength: 4 }), async (strays) => {
        const dataplane = new MemoryDataplane({
          ...SMALL_SIZES,
          services: 4,
          serviceBuckets: 4,
          reals: 8,
          members: 64,
        })
        const { clock, director, applier } = open(dataplane)
        for (const [name, scheduler, count] of [
          ['tcp 10.0.0.1:80', 'rr', 3],
          ['udp 10.0.0.2:53', 'wrr', 2],
          ['tcp [2001:db8::1]:443', 'wlc', 0],
        ] as const) {
          const wanted = service(name, { scheduler })
          director.addService(wanted)
          for (let i = 1; i <= count; i++)
            director.addServer(wanted.id, server(`10.1.0.${i}:80`, { weight: i }))
        }
        await director.settle()
        for (const { map, at, value } of strays) {
          const { u32 } = dataplane.map(map as 'services')
          const word = at % u32.length
          u32[word] = value
        }
        for (let round = 0; round < 3; round++) {
          applier.compareSlice(5000)
          clock.advance(1000)
          await through(clock, director.settle())
        }
        assertInForce(dataplane, director)
        checkReadable(dataplane)
        const before = new Map(applier.repairs)
        applier.compareSlice(5000)
        await through(clock, director.settle())
        assert.deepEqual(applier.repairs, before, 'nothing is left to be put right')
      }),
      { numRuns: 300 },
    )
  })

  test('a daemon is killed after real servers were seated anew, before their list was in force', async () => {
    const dataplane = new MemoryDataplane({ ...SMALL_SIZES, reals: 64, members: 512 })
    const { director, applier } = open(dataplane)
    const forty = Array.from({ length: 40 }, (_, i) => `10.1.0.${i + 1}:80`)
    await restore(director, ['-A -t 10.0.0.1:80 -s lc', ...lines(forty).slice(1)])
    const wanted = seats(dataplane)
    assert.deepEqual(
      wanted,
      Array.from({ length: 40 }, (_, i) => 40 - i),
    )
    const { view } = dataplane.map('live')
    const unseat = (): void => {
      for (const [i, real] of realsOf(dataplane, web).entries())
        LiveRecord.setSeat(view, real * LiveRecord.size, i + 1)
    }
    // The next daemon wants the list that is in force.
    unseat()
    await applier.stop()
    const second = open(dataplane)
    await through(second.clock, second.director.settle())
    assert.deepEqual(seats(dataplane), wanted)
    // Or one real server less; and what nobody has told it shows in the comparison.
    unseat()
    await second.applier.stop()
    const next = open(dataplane)
    await ipvsadm(next.director, ['ipvsadm', '-d', '-t', '10.0.0.1:80', '-r', forty[39]!])
    assert.deepEqual(seats(dataplane), wanted.slice(1))
    unseat()
    next.applier.compareSlice(5000)
    await through(next.clock, next.director.settle())
    assert.deepEqual(seats(dataplane), wanted.slice(1))
    assert.deepEqual([...next.applier.repairs], [['schedule', 1]])
    // Matches that somebody is said to have won who was never in them, or is nobody.
    for (const [match, won] of [
      [1, 77],
      [3, 20],
      [63, 0xffff_ffff],
    ] as const) {
      const { tableFirst } = scheduleOf(dataplane, web)
      const before = next.applier.repairs.get('schedule')!
      dataplane.map('members').u32[(tableFirst + match) * 2] = won
      next.applier.compareSlice(5000)
      await through(next.clock, next.director.settle())
      assert.equal(next.applier.repairs.get('schedule'), before + 1)
      assert.notEqual(scheduleOf(dataplane, web).tableFirst, tableFirst)
      next.clock.advance(1000)
      await through(next.clock, next.director.settle())
    }
  })

  test('a repair is counted under the name of what was wrong', async () => {
    const { dataplane, clock, director, applier } = open()
    await restore(director, lines(ten(0)))
    applier.compareSlice(5000)
    assert.equal(applier.repairs.size, 0)
    const [real] = realsOf(dataplane, web) as [number]
    dataplane.map('reals').u32[real * 16 + 4] = 77
    dataplane.map('service_index').u64.fill(0n)
    applier.compareSlice(5000)
    await through(clock, director.settle())
    applier.compareSlice(5000)
    await through(clock, director.settle())
    assert.notEqual(lookUp(dataplane, web), -1)
    assert.equal(
      [...applier.repairs.values()].reduce((sum, count) => sum + count, 0),
      1,
      'one look, one repair',
    )
    assert.ok(applier.repairs.has('index entry'))
  })
})
