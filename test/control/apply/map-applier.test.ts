import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Clock, systemClock } from '../../../control/apply/clock.ts'
import type { StateFile } from '../../../control/apply/state-file.ts'
import type { Director } from '../../../control/model/director.ts'
import { serverKey } from '../../../control/model/identity.ts'
import { describe as describeOperation, type Operation } from '../../../control/plan/operations.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { checkReadable, choose, lookUp, membersOf, realsOf } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { SchedulerModel } from '../scheduler-model.ts'
import { answer, memoryState, server, service, testHost } from '../support.ts'

/** Hash tables take 512 members each, twice while they are rewritten. */
const ROOMY = { ...SMALL_SIZES, members: 16_384 }

function open(
  dataplane = new MemoryDataplane(ROOMY),
  more: { stateFile?: StateFile; trace?: (operation: Operation) => void; clock?: Clock } = {},
) {
  return { dataplane, ...openDirector({ dataplane, host: testHost(), ...more }) }
}

const web = service('tcp 10.0.0.1:80', { scheduler: 'rr' })
const names = ['tcp 10.0.0.1:80', 'udp 10.0.0.1:80', 'tcp [2001:db8::1]:443', 'tcp 10.0.0.2:0', 'fwmark 7']
const servers = ['10.1.0.1:80', '10.1.0.2:80', '10.1.0.3:8080', '10.1.0.9:80']
const servers6 = ['[2001:db8:1::1]:80', '[2001:db8:1::2]:80']
const schedulers = ['rr', 'wrr', 'wlc', 'sh', 'dh', 'none'] as const

interface Change {
  readonly what: 'addService' | 'editService' | 'deleteService' | 'add' | 'edit' | 'delete' | 'flush'
  readonly name: string
  readonly server: number
  readonly scheduler: (typeof schedulers)[number]
  readonly weight: number
  readonly tunnel: boolean
}

/** Any change of the rules; refused ones are part of it. */
const change: fc.Arbitrary<Change> = fc.record({
  what: fc.constantFrom(
    'addService',
    'editService',
    'deleteService',
    'add',
    'add',
    'add',
    'edit',
    'delete',
    'flush',
  ),
  name: fc.constantFrom(...names),
  server: fc.nat({ max: 3 }),
  scheduler: fc.constantFrom(...schedulers),
  weight: fc.nat({ max: 3 }),
  tunnel: fc.boolean(),
})

function apply(director: Director, { what, name, server: index, scheduler, weight, tunnel }: Change): void {
  const wanted = service(name, { scheduler })
  const list = wanted.id.family === 6 ? servers6 : servers
  const real = server(list[index % list.length]!, { weight, method: tunnel ? 'tunnel' : 'nat' })
  if (what === 'addService') director.addService(wanted)
  else if (what === 'editService') director.editService(wanted)
  else if (what === 'deleteService') director.deleteService(wanted.id)
  else if (what === 'add') director.addServer(wanted.id, real)
  else if (what === 'edit') director.editServer(wanted.id, real)
  else if (what === 'delete') director.deleteServer(wanted.id, real.id)
  else director.flush()
}

/** The service has one real server; its index. */
async function oneServer<T extends ReturnType<typeof open>>(
  opened: T,
): Promise<T & { readonly real: number }> {
  const { dataplane, director } = opened
  director.addService(web)
  director.addServer(web.id, server('10.1.0.1:80'))
  await director.settle()
  return { ...opened, real: realsOf(dataplane, web)[0]! }
}

/** By the first service and its first real server, and in all. */
function connectionsCounted(director: Director): Record<'service' | 'server' | 'all', bigint> {
  const [service] = director.services()
  return {
    service: service!.counters.conns,
    server: service!.servers[0]!.counters.conns,
    all: director.totals().counters.conns,
  }
}

/** Changes, settled in groups. */
const history = fc.array(fc.array(change, { minLength: 1, maxLength: 6 }), { maxLength: 12, size: 'max' })

describe('applier over maps', () => {
  test('a service is published with its real servers newest first', async () => {
    const { dataplane, director } = open()
    director.addService(web)
    for (const text of servers) director.addServer(web.id, server(text))
    assert.equal(lookUp(dataplane, web), -1)
    await director.settle()
    assert.notEqual(lookUp(dataplane, web), -1)
    assert.deepEqual(membersOf(dataplane, web), [
      '10.1.0.9 80',
      '10.1.0.3 8080',
      '10.1.0.2 80',
      '10.1.0.1 80',
    ])
    checkReadable(dataplane)
    director.deleteService(web.id)
    await director.settle()
    assert.equal(lookUp(dataplane, web), -1)
  })

  test('after every single step of any plan the maps can be read', async () => {
    await fc.assert(
      fc.asyncProperty(history, async (groups) => {
        const dataplane = new MemoryDataplane(ROOMY)
        // The trace runs before each step, so it sees the maps after the one before.
        const { director } = open(dataplane, { trace: () => checkReadable(dataplane) })
        for (const group of groups) {
          for (const change of group) apply(director, change)
          await director.settle()
          checkReadable(dataplane)
          for (const { service, servers } of director.rules()) {
            assert.deepEqual(
              membersOf(dataplane, service),
              servers.map(({ id }) => serverKey(id)),
            )
          }
        }
      }),
      { numRuns: 150 },
    )
  })

  test('whatever happened before, a new director finds the same rules', async () => {
    await fc.assert(
      fc.asyncProperty(history, async (groups) => {
        const dataplane = new MemoryDataplane(ROOMY)
        const stateFile = memoryState()
        let current = open(dataplane, { stateFile })
        for (const group of groups) {
          for (const change of group) apply(current.director, change)
          await current.director.settle()
          const before = current.director.rules()
          current = open(dataplane, { stateFile })
          assert.deepEqual(current.director.rules(), before)
          const steps: string[] = []
          current = open(dataplane, { stateFile, trace: (step) => steps.push(describeOperation(step)) })
          await current.director.settle()
          assert.deepEqual(steps, [], 'nothing is left to do')
        }
      }),
      { numRuns: 100 },
    )
  })

  test('a director that dies between two steps leaves each service as before or as after', async () => {
    class Killed extends Error {}
    await fc.assert(
      fc.asyncProperty(history, fc.nat({ max: 40 }), async (groups, steps) => {
        const dataplane = new MemoryDataplane(ROOMY)
        let left = steps
        const { director } = open(dataplane, {
          trace: () => {
            if (left-- === 0) throw new Killed()
          },
        })
        const known = new Set<string>()
        const note = (rules: ReturnType<Director['rules']>): void => {
          for (const rule of rules) known.add(JSON.stringify(rule.servers.map(({ id }) => id)))
        }
        for (const group of groups) {
          note(director.rules())
          for (const change of group) apply(director, change)
          note(director.rules())
          try {
            await director.settle()
          } catch (error) {
            assert.ok(error instanceof Killed)
            break
          }
        }
        checkReadable(dataplane)
        const next = open(dataplane, { trace: () => checkReadable(dataplane) })
        for (const { servers } of next.director.rules()) {
          assert.ok(known.has(JSON.stringify(servers.map(({ id }) => id))))
        }
        await next.director.settle()
        const more: string[] = []
        const third = open(dataplane, { trace: (step) => more.push(describeOperation(step)) })
        assert.deepEqual(third.director.rules(), next.director.rules())
        await third.director.exchange(async () => third.applier)
        await third.director.settle()
        assert.deepEqual(more, [], 'one reconcile after a crash leaves nothing to do, wherever one looks')
        for (const change of groups.flat()) apply(third.director, change)
        await third.director.settle()
        checkReadable(dataplane)
      }),
      { numRuns: 150 },
    )
  })

  test('whichever step of an edited weight was the last, the next director brings it in force', async () => {
    class Killed extends Error {}
    for (let steps = 0, killed = true; killed; steps++) {
      const dataplane = new MemoryDataplane(ROOMY)
      let left = Number.POSITIVE_INFINITY
      const dying = () => {
        if (left-- === 0) throw new Killed()
      }
      const { director } = open(dataplane, { trace: dying })
      director.addService(web)
      director.addServer(web.id, server('10.1.0.1:80', { weight: 0 }))
      await director.settle()
      director.editServer(web.id, server('10.1.0.1:80', { weight: 1 }))
      left = steps
      killed = await director.settle().then(
        () => false,
        (error) => error instanceof Killed,
      )
      const next = open(dataplane)
      await next.director.settle()
      const [{ servers } = { servers: [] }] = next.director.rules()
      assert.equal(choose(dataplane, web), servers[0]?.weight === 0 ? null : '10.1.0.1 80', `${steps} steps`)
    }
  })

  for (const scheduler of ['rr', 'wrr'] as const) {
    test(`${scheduler} goes on where IPVS would after any change`, async () => {
      const step = fc.record({
        what: fc.constantFrom(
          'add',
          'add',
          'edit',
          'delete',
          'choose',
          'choose',
          'choose',
          'rebind',
          'restart',
        ),
        server: fc.nat({ max: 5 }),
        weight: fc.nat({ max: 6 }),
        settle: fc.boolean(),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60, size: 'max' }), async (steps) => {
          const wanted = service('tcp 10.0.0.1:80', { scheduler })
          const dataplane = new MemoryDataplane(ROOMY)
          let { director } = open(dataplane)
          const model = new SchedulerModel(scheduler)
          director.addService(wanted)
          for (const { what, server: index, weight, settle } of steps) {
            const real = server(`10.1.0.${index + 1}:80`, { weight })
            const key = serverKey(real.id)
            if (what === 'add') {
              if (director.addServer(wanted.id, real).ok) model.add(key, weight)
            } else if (what === 'edit') {
              if (director.editServer(wanted.id, real).ok) model.edit(key, weight)
            } else if (what === 'delete') {
              if (director.deleteServer(wanted.id, real.id).ok) model.delete(key)
            } else if (what === 'rebind') {
              director.editService({ ...wanted, scheduler: 'wlc' })
              director.editService(wanted)
              model.bind(scheduler)
            } else {
              await director.settle()
              if (what === 'restart') director = open(dataplane).director
              else assert.equal(choose(dataplane, wanted), model.choose())
            }
            if (settle) await director.settle()
          }
        }),
        { numRuns: 300 },
      )
    })
  }

  test('wrr begins in the phase that adding real servers one by one leaves', async () => {
    const wanted = service('tcp 10.0.0.1:80', { scheduler: 'wrr' })
    const { dataplane, director } = open()
    director.addService(wanted)
    for (const [text, weight] of [
      ['10.2.1.21:80', 1],
      ['10.2.1.22:80', 3],
      ['10.2.1.23:80', 2],
    ] as const) {
      director.addServer(wanted.id, server(text, { weight }))
    }
    await director.settle()
    const chosen = Array.from({ length: 12 }, () => choose(dataplane, wanted)!.slice(7, 9))
    assert.equal(chosen.join(','), '23,22,21,22,23,22,23,22,21,22,23,22')
  })

  test('a removed real server comes back to its index, with its counts', async () => {
    const { dataplane, director, real } = await oneServer(open())
    dataplane.map('counters').u64[real * SMALL_SIZES.cpus * 8] = 5n
    director.deleteServer(web.id, server('10.1.0.1:80').id)
    await director.settle()
    assert.equal(dataplane.map('reals').u32[real * 16], 2)
    director.addServer(web.id, server('10.1.0.2:80'))
    director.addServer(web.id, server('10.1.0.1:80', { weight: 4 }))
    await director.settle()
    const listing = director.service(web.id)
    assert.ok(listing.ok)
    assert.equal(realsOf(dataplane, web)[0], real)
    assert.equal(listing.value.servers[0]!.counters.conns, 5n)
    assert.equal(listing.value.counters.conns, 5n)
  })

  test('a service made anew counts from zero, with the real servers it revives', async () => {
    const stateFile = memoryState()
    const { dataplane, director, real } = await oneServer(open(new MemoryDataplane(), { stateFile }))
    dataplane.map('counters').u64[real * SMALL_SIZES.cpus * 8] = 7n
    director.flush()
    director.addService(web)
    director.addServer(web.id, server('10.1.0.1:80'))
    await director.settle()
    for (const current of [director, open(dataplane, { stateFile }).director])
      assert.deepEqual(connectionsCounted(current), { service: 0n, server: 0n, all: 7n })
  })

  test('zeroing survives a restart and leaves the maps alone', async () => {
    const stateFile = memoryState()
    const { dataplane, director, real } = await oneServer(open(new MemoryDataplane(), { stateFile }))
    const { u64 } = dataplane.map('counters')
    u64[real * SMALL_SIZES.cpus * 8] = 7n
    u64[real * SMALL_SIZES.cpus * 8 + 8] = 3n
    assert.equal(director.services()[0]!.counters.conns, 10n)
    assert.equal(answer(director.zero()), 'ok')
    await director.settle()
    u64[real * SMALL_SIZES.cpus * 8] = 9n
    for (const current of [director, open(dataplane, { stateFile }).director])
      assert.deepEqual(connectionsCounted(current), { service: 2n, server: 2n, all: 2n })
  })

  test('timeouts, sysctls and daemons survive a restart', async () => {
    const stateFile = memoryState()
    const { dataplane, director } = open(new MemoryDataplane(), { stateFile })
    director.setTimeouts({ tcp: 100, tcpFin: 31, udp: 2678400 })
    director.setSysctl('sloppy_tcp', 1)
    director.startDaemon({ state: 'backup', interface: 'eth0', syncId: 9 })
    await director.settle()
    const next = open(dataplane, { stateFile }).director
    assert.deepEqual(next.timeouts(), { tcp: 100, tcpFin: 31, udp: 2678400 })
    assert.equal(next.sysctls().sloppy_tcp, 1)
    assert.deepEqual(next.daemons(), director.daemons())
  })

  test('a full disk refuses nothing; the state is written as soon as there is room', async () => {
    const kept = memoryState()
    let full = true
    const warnings: string[] = []
    const stateFile: StateFile = {
      ...kept,
      save: (maps, saved) => {
        if (full) throw new Error('Cannot write state.json: no space left on device')
        kept.save(maps, saved)
      },
    }
    const dataplane = new MemoryDataplane()
    const options = { dataplane, host: testHost(), stateFile, warn: (text: string) => warnings.push(text) }
    const { director, applier } = openDirector(options)
    assert.equal(answer(director.setSysctl('sloppy_tcp', 1)), 'ok')
    await director.settle()
    applier.saveState()
    assert.equal(warnings.length, 1, 'said once')
    assert.match(warnings[0]!, /no space left/)
    full = false
    applier.saveState()
    assert.equal(open(dataplane, { stateFile }).director.sysctls().sloppy_tcp, 1)
    full = true
    director.setSysctl('sloppy_tcp', 0)
    await director.settle()
    assert.equal(warnings.length, 2, 'said again after it had worked')
  })

  test('state of other maps is never used', async () => {
    const stateFile = memoryState()
    const first = open(new MemoryDataplane(), { stateFile })
    first.director.setSysctl('sloppy_tcp', 1)
    await first.director.settle()
    const other = open(new MemoryDataplane(), { stateFile })
    assert.equal(other.director.sysctls().sloppy_tcp, 0)
    other.director.setSysctl('drop_packet', 3)
    await other.director.settle()
    assert.equal(open(first.dataplane, { stateFile }).director.sysctls().sloppy_tcp, 1)
  })

  test('a full table refuses and changes nothing', async () => {
    const dataplane = new MemoryDataplane({ ...SMALL_SIZES, services: 2, reals: 3 })
    const { director } = open(dataplane)
    for (const [name, want] of [
      ['tcp 10.0.0.1:1', 'ok'],
      ['tcp 10.0.0.1:2', 'ok'],
      ['tcp 10.0.0.1:3', 'ENOMEM'],
    ] as const) {
      assert.equal(answer(director.addService(service(name))), want)
    }
    const { id } = service('tcp 10.0.0.1:1')
    const added = [1, 2, 3, 4].map((i) => answer(director.addServer(id, server(`10.1.0.${i}:80`))))
    assert.deepEqual(added, ['ok', 'ok', 'ok', 'ENOMEM'])
    await director.settle()
    assert.equal(director.rules().length, 2)
  })

  test('the index takes as many services as it has room for', async () => {
    // 57 of 64 entries in 8 buckets: entries have to be moved out of the way.
    const dataplane = new MemoryDataplane({ ...SMALL_SIZES, services: 64, serviceBuckets: 8 })
    const { director } = open(dataplane, { trace: () => checkReadable(dataplane) })
    for (let i = 0; i < 57; i++) {
      director.addService(service(`tcp 10.0.0.${i}:80`, { scheduler: 'rr' }))
      await director.settle()
    }
    for (let i = 0; i < 57; i++) assert.notEqual(lookUp(dataplane, service(`tcp 10.0.0.${i}:80`)), -1)
  })

  test('rewriting one service over and over does not use up the members', async () => {
    let ms = 0
    const dataplane = new MemoryDataplane({ ...SMALL_SIZES, members: 16 })
    const { director } = open(dataplane, { clock: { ...systemClock, nowMs: () => (ms += 20) } })
    director.addService(web)
    for (const text of servers) director.addServer(web.id, server(text))
    for (let weight = 0; weight < 50; weight++) {
      director.editServer(web.id, server(servers[0]!, { weight }))
      await director.settle()
      checkReadable(dataplane)
    }
  })
})
