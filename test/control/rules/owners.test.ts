/** Whose a service is, who may change it, and holds by hand above both. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Turns } from '../../../control/apply/turns.ts'
import { namesFrom } from '../../../control/front/ipvsadm/names.ts'
import { runIpvsadm } from '../../../control/front/ipvsadm/run.ts'
import { serverKey } from '../../../control/model/identity.ts'
import type { RealServer } from '../../../control/model/server.ts'
import type { VirtualService } from '../../../control/model/service.ts'
import { NO_DIRECTOR_SETTINGS } from '../../../control/model/site.ts'
import type { RuleDirector } from '../../../control/rules/director.ts'
import { createDirector } from '../../../control/rules/director.ts'
import type { Overlays, Statement } from '../../../control/rules/layers.ts'
import { NO_OVERLAYS } from '../../../control/rules/layers.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { choose } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { answer, memoryState, server, service, testHost } from '../support.ts'

const web = service('tcp 10.0.0.1:80', { scheduler: 'rr' })
const dns = service('udp 10.0.0.1:53', { scheduler: 'rr' })
const [one, two, three] = ['10.1.0.1:80', '10.1.0.2:80', '10.1.0.3:80'] as const
const says = (value: VirtualService, ...servers: RealServer[]): Statement => ({ service: value, servers })
const NOTHING_ELSE = { takeOver: false, filters: [], limits: [], marks: [] }
const ORIGIN = { title: 'the file /etc/pm.yaml', instead: 'change it there, then: pointsman apply' }

function state(director: RuleDirector, services: readonly Statement[], takeOver = false) {
  const restatement = { source: 'file', services, takeOver, filters: [], limits: [], marks: [] } as const
  return director.restate(restatement, NO_DIRECTOR_SETTINGS, new Turns(), { origin: ORIGIN })
}

async function type(director: RuleDirector, words: string, stdin = '') {
  const argv = ['ipvsadm', ...words.split(' ')]
  const result = await runIpvsadm({ argv, stdin, director, names: () => namesFrom('', '') })
  assert.ok(typeof result !== 'string')
  const { status, stdout, stderr } = result
  return { status, stdout: stdout.toString(), stderr: stderr.toString() }
}

/** Without what a moment's counters say. */
const said = (director: RuleDirector) =>
  director.rules().map(({ service: { id }, source, servers }) => ({
    id,
    source,
    servers: servers.map((real) => [serverKey(real.id), real.weight]),
  }))

describe('a service belongs to one source', () => {
  test('commands are refused with the owner’s name, what to do instead, and ipvsadm’s status', async () => {
    const director = createDirector({ host: testHost() })
    assert.deepEqual((await state(director, [says(web, server(one))])).refused, [])
    const before = said(director)
    for (const words of [
      '-A -t 10.0.0.1:80',
      '-E -t 10.0.0.1:80 -s wrr',
      '-D -t 10.0.0.1:80',
      '-a -t 10.0.0.1:80 -r 10.1.0.9:80',
      '-d -t 10.0.0.1:80 -r 10.1.0.1:80',
      '-e -t 10.0.0.1:80 -r 10.1.0.1:80 -i -w 1',
    ]) {
      const { status, stderr } = await type(director, words)
      assert.equal(status, 255, words)
      assert.match(
        stderr,
        /"tcp 10\.0\.0\.1:80" belongs to the file \/etc\/pm\.yaml: change it there, then: /,
      )
    }
    assert.deepEqual(said(director), before)
  })

  test('clear and restore by hand leave other sources’ services alone', async () => {
    const director = createDirector({ host: testHost() })
    await state(director, [says(web, server(one))])
    assert.equal(answer(director.addService(dns)), 'ok')
    const cleared = await type(director, '-C')
    assert.equal(cleared.status, 0)
    assert.match(cleared.stderr, /^1 services belong to other sources and stay/)
    assert.deepEqual(
      said(director).map(({ id }) => id),
      [web.id],
    )
    const restored = await type(
      director,
      '-R',
      '-A -u 10.0.0.1:53\n-A -t 10.0.0.1:80\n-D -t 10.0.0.1:80\n-A -u 10.0.0.2:53\n',
    )
    assert.equal(restored.stderr.match(/belongs to the file/g)?.length, 2)
    assert.equal(director.rules().length, 3)
  })

  test('a file that wants what commands have otherwise changes nothing at all, and takes it over if told', async () => {
    const director = createDirector({ host: testHost() })
    director.addService(web)
    director.addServer(web.id, server(one, { weight: 5 }))
    const file = [says(dns, server('10.1.0.1:53')), says(web, server(one))]
    const refused = await state(director, file)
    assert.equal(refused.refused.length, 1)
    assert.match(refused.refused[0]!.message, /belongs to commands: .*ipvsadm -D.*--take-over/)
    assert.equal(director.rules().length, 1)
    assert.deepEqual((await state(director, file, true)).refused, [])
    assert.deepEqual(
      said(director).map(({ source }) => source),
      ['file', 'file'],
    )
    assert.equal(director.rules().find(({ service: s }) => s.id === web.id)?.servers[0]?.weight, 1)
  })

  test('what commands state in the same words becomes the file’s without any change', async () => {
    const director = createDirector({ host: testHost() })
    director.addService(web)
    director.addServer(web.id, server(one))
    const { changes, refused } = await state(director, [says(web, server(one))])
    assert.deepEqual(refused, [])
    assert.deepEqual(
      changes.map(({ change }) => change),
      ['take over'],
    )
    assert.equal(answer(director.deleteService(web.id)), 'EBUSY')
    // The file drops it: it goes, and commands may have it again.
    await state(director, [])
    assert.deepEqual(said(director), [])
    assert.equal(answer(director.addService(web)), 'ok')
  })

  test('anything wrong with one service leaves all of them, and the settings, as they were', async () => {
    const director = createDirector({ host: testHost() })
    await state(director, [says(web, server(one))])
    const before = said(director)
    const { refused } = await director.restate(
      { source: 'file', services: [says(dns), says(web, server('224.0.0.1:80'))], ...NOTHING_ELSE },
      { ...NO_DIRECTOR_SETTINGS, timeouts: { tcp: 7, tcpFin: 0, udp: 0 }, sysctls: { nonsense: 1 } },
      new Turns(),
    )
    assert.equal(refused.length, 2)
    assert.deepEqual(said(director), before)
    assert.equal(director.timeouts().tcp, 900)
  })

  test('the very same words change nothing where nothing has changed, and everything back where it has', async () => {
    const director = createDirector({ host: testHost() })
    const [first, second] = [says(web, server(one), server(two)), says(dns, server('10.1.0.1:53'))]
    const changes = async (...services: Statement[]) =>
      (await state(director, services)).changes.map(({ change }) => change)
    const added = ['add service', 'add server', 'add server']
    assert.deepEqual(await changes(first, second), [...added, 'add service', 'add server'])
    assert.deepEqual(await changes(first, second), [])
    assert.deepEqual(await changes(says(web, server(two, { weight: 7 })), second), [
      ...['delete server', 'edit server'],
    ])
    assert.deepEqual(await changes(first, second), ['edit server', 'add server'].toReversed())
    assert.deepEqual(await changes(says({ ...web, scheduler: 'wlc' }, ...first.servers), second), [
      'edit service',
    ])
    assert.deepEqual(await changes(first, second), ['edit service'])
    assert.deepEqual(await changes(second), ['delete server', 'delete server', 'delete service'])
    assert.equal(answer(director.addService(web)), 'ok')
    const refused = await state(director, [first, second])
    assert.equal(refused.refused.length, 1, 'it is another service of that name')
    assert.equal(answer(director.deleteService(web.id)), 'ok')
    assert.deepEqual(await changes(first, second), added)
  })

  test('any sets one after the other come to the last one, whatever commands did between', async () => {
    const choice = fc.uniqueArray(fc.constantFrom(one, two, three), { maxLength: 3 })
    const set = fc.record({
      web: fc.option(fc.tuple(choice, fc.nat(3))),
      dns: fc.option(fc.tuple(choice, fc.nat(3))),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(set, { minLength: 1, maxLength: 5 }), async (sets) => {
        const director = createDirector({ host: testHost() })
        let last: Statement[] = []
        for (const each of sets) {
          last = [[web, each.web] as const, [dns, each.dns] as const].flatMap(([value, wanted]) =>
            wanted === null
              ? []
              : [says(value, ...wanted[0].map((text) => server(text, { weight: wanted[1] })))],
          )
          assert.deepEqual((await state(director, last)).refused, [])
          director.flush()
          director.deleteService(web.id)
        }
        const sorted = (rows: readonly (readonly [string, number])[]) => [...rows].sort()
        assert.deepEqual(
          new Map(
            director
              .rules()
              .map(({ service: { id }, servers }) => [
                id,
                sorted(servers.map((real) => [serverKey(real.id), real.weight])),
              ]),
          ),
          new Map(
            last.map(({ service: { id }, servers }) => [
              id,
              sorted(servers.map((real) => [serverKey(real.id), real.weight])),
            ]),
          ),
        )
        assert.deepEqual((await state(director, last)).changes, [], 'the same again is no change')
      }),
    )
  })
})

describe('a hold by hand', () => {
  test('is a changed weight, above source and check, and ends with undrain, its time, or its server', async () => {
    let nowMs = 1000
    const director = createDirector({ host: testHost(), wallMs: () => nowMs })
    await state(director, [says(web, server(one, { weight: 4 }), server(two))])
    const weight = (text: string) => {
      const found = director.server(web.id, server(text).id)
      return found.ok ? [found.value.weight, found.value.hold?.weight ?? null] : found.errno
    }
    // As people type it: everything but the weight is ipvsadm's default, not what the file says.
    assert.equal((await type(director, '-e -t 10.0.0.1:80 -r 10.1.0.1:80 -w 0')).status, 0)
    assert.deepEqual(weight(one), [0, 0])
    // The file changes its mind, a check has found something: the hold stays.
    await state(director, [says(web, server(one, { weight: 9 }), server(two))])
    const down: Overlays = { ...NO_OVERLAYS, weight: () => null }
    director.overlay(down)
    assert.deepEqual(weight(one), [0, 0])
    assert.equal(weight(two), 'ENOENT')
    director.overlay(NO_OVERLAYS)
    assert.deepEqual(weight(two), [1, null])
    assert.equal(answer(director.hold(web.id, server(one).id, null)), 'ok')
    assert.deepEqual(weight(one), [9, null])

    const hold = { weight: 0, sinceMs: nowMs, untilMs: 2000, by: 'pointsman drain' }
    director.hold(web.id, server(two).id, hold)
    assert.deepEqual(director.endHolds(), [])
    nowMs = 2000
    assert.equal(director.endHolds().length, 1)
    assert.deepEqual(weight(two), [1, null])

    director.hold(web.id, server(two).id, { ...hold, untilMs: null })
    await state(director, [says(web, server(one))])
    await state(director, [says(web, server(one), server(two))])
    assert.deepEqual(weight(two), [1, null], 'dropped by the source, it comes back as the source says')
    assert.equal(answer(director.hold(web.id, server(three).id, hold)), 'ENOENT')

    // A weight as the source says it holds nothing.
    await type(director, '-e -t 10.0.0.1:80 -r 10.1.0.2:80 -w 3')
    assert.deepEqual(weight(two), [3, 3])
    await type(director, '-e -t 10.0.0.1:80 -r 10.1.0.2:80 -w 1')
    assert.deepEqual(weight(two), [1, null])
  })

  test('holds and owners outlive the daemon, over the maps that it left', async () => {
    const stateFile = memoryState()
    const dataplane = new MemoryDataplane(SMALL_SIZES)
    const first = openDirector({ dataplane, host: testHost(), stateFile })
    await state(first.director, [says(web, server(one, { weight: 3 }), server(two, { weight: 3 }))])
    const hold = { weight: 0, sinceMs: 5, untilMs: null, by: 'pointsman drain' }
    first.director.hold(web.id, server(one).id, hold)
    await first.director.settle()
    first.applier.stateChanged()
    first.applier.saveState()

    const next = openDirector({ dataplane, host: testHost(), stateFile })
    await next.director.settle()
    assert.equal(answer(next.director.deleteService(web.id)), 'EBUSY')
    const held = next.director.server(web.id, server(one).id)
    assert.deepEqual(held.ok && [held.value.weight, held.value.saidWeight, held.value.hold], [0, 3, hold])
    for (let i = 0; i < 4; i++) assert.equal(choose(dataplane, web), '10.1.0.2 80')
    const again = await state(next.director, [
      says(web, server(one, { weight: 3 }), server(two, { weight: 3 })),
    ])
    assert.deepEqual(again.changes, [])
    next.director.hold(web.id, server(one).id, null)
    await next.director.settle()
    const seen = new Set([choose(dataplane, web), choose(dataplane, web)])
    assert.equal(seen.size, 2)
  })
})

describe('an overlay', () => {
  test('takes real servers out, brings them back, and puts others in that nobody stated', async () => {
    const director = createDirector({ host: testHost() })
    await state(director, [says(web, server(one), server(two))])
    const listed = () => {
      const found = director.service(web.id)
      return found.ok ? found.value.servers.map(({ id }) => id.address) : []
    }
    const sorry = server(three)
    director.overlay({ weight: () => null, extra: () => [sorry] })
    assert.deepEqual(listed(), ['10.1.0.3'])
    assert.equal(director.rules()[0]?.servers.length, 2, 'what was said is saved')
    // Said anew meanwhile.
    await state(director, [says(web, server(one, { weight: 2 }), server(two), sorry)])
    assert.deepEqual(listed(), ['10.1.0.3'])
    director.overlay(NO_OVERLAYS)
    assert.deepEqual(listed().sort(), ['10.1.0.1', '10.1.0.2', '10.1.0.3'])
    await state(director, [says(web, server(one))])
    assert.deepEqual(listed(), ['10.1.0.1'])
  })
})
