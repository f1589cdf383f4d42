/** Who wants what: whole sets of sources, and overlays that take weight without changing what was said. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { namesFrom } from '../../../control/front/ipvsadm/names.ts'
import { runIpvsadm } from '../../../control/front/ipvsadm/run.ts'
import { serverKey, serviceKey } from '../../../control/model/identity.ts'
import { composeOverlays, NO_OVERLAYS, type Shares } from '../../../control/rules/layers.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { choose } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { memoryState, server, service, testHost } from '../support.ts'

const web = service('tcp 10.0.0.1:80', { scheduler: 'wrr' })
const [one, two] = ['10.1.0.1:80', '10.1.0.2:80'] as const
const shares = (entries: Readonly<Record<string, number>>): Shares =>
  new Map([
    [
      serviceKey(web.id),
      new Map(Object.entries(entries).map(([text, share]) => [serverKey(server(text).id), share])),
    ],
  ])

describe('overlays', () => {
  const weight = fc.nat({ max: 2 ** 31 - 1 })
  const share = fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 0, max: 1, noNaN: true }))
  const inForce = (list: readonly number[], said: number): number =>
    composeOverlays(list.map((value) => shares({ [one]: value }))).weight(
      serviceKey(web.id),
      serverKey(server(one).id),
      said,
    )

  test('none, or none that says anything, leaves what was said', () => {
    fc.assert(
      fc.property(weight, (said) => {
        assert.equal(NO_OVERLAYS.weight('a', 'b', said), said)
        assert.equal(
          composeOverlays([new Map(), shares({ [two]: 0 })]).weight(serviceKey(web.id), 'x', said),
          said,
        )
        assert.equal(inForce([1, 1], said), said)
      }),
    )
  })

  test('no overlay gives more than was said, none undoes another, and their order does not matter', () => {
    fc.assert(
      fc.property(weight, fc.array(share, { maxLength: 4 }), share, (said, list, more) => {
        const before = inForce(list, said)
        const after = inForce([...list, more], said)
        assert.ok(after <= before && before <= said)
        assert.equal(
          inForce([more, ...list].reverse(), said),
          inForce([...list].reverse().concat(more), said),
        )
        if (more === 0) assert.equal(after, 0)
        if (said > 0 && [...list, more].every((value) => value > 1e-3))
          assert.ok(after >= 1, 'slow is not stopped')
      }),
    )
  })

  test('a listing shows what is in force, a saved file what was said, and packets follow at once', async () => {
    const stateFile = memoryState()
    const dataplane = new MemoryDataplane({ ...SMALL_SIZES, members: 4096 })
    const { director, applier, rules } = openDirector({ dataplane, host: testHost(), stateFile })
    director.addService(web)
    director.addServer(web.id, server(one, { weight: 4 }))
    director.addServer(web.id, server(two, { weight: 4 }))
    await director.settle()
    const shown = async (words: string) => {
      const argv = ['ipvsadm', ...words.split(' ')]
      const result = await runIpvsadm({ argv, stdin: '', director, names: () => namesFrom('', '') })
      assert.ok(typeof result !== 'string')
      return result.stdout.toString()
    }
    rules.overlay(composeOverlays([shares({ [one]: 0, [two]: 0.5 })]))
    await director.settle()
    assert.match(await shown('-Ln'), /10\.1\.0\.1:80 +Masq +0 /)
    assert.match(await shown('-Ln'), /10\.1\.0\.2:80 +Masq +2 /)
    assert.match(await shown('-Sn'), /-r 10\.1\.0\.1:80 -m -w 4\n/)
    assert.match(await shown('-Sn'), /-r 10\.1\.0\.2:80 -m -w 4\n/)
    for (let i = 0; i < 5; i++) assert.equal(choose(dataplane, web), '10.1.0.2 80')

    // What is said meanwhile stays under the overlay, and a restart forgets neither.
    director.editServer(web.id, server(one, { weight: 7 }))
    director.addServer(web.id, server('10.1.0.3:80', { weight: 1 }))
    await director.settle()
    applier.stateChanged()
    applier.saveState()
    const saved = await shown('-Sn')
    const listed = await shown('-Ln')
    assert.match(saved, /-r 10\.1\.0\.1:80 -m -w 7\n/)
    const next = openDirector({ dataplane, host: testHost(), stateFile })
    await next.director.settle()
    const again = async (words: string) => {
      const argv = ['ipvsadm', ...words.split(' ')]
      const result = await runIpvsadm({
        argv,
        stdin: '',
        director: next.director,
        names: () => namesFrom('', ''),
      })
      assert.ok(typeof result !== 'string')
      return result.stdout.toString()
    }
    assert.equal(await again('-Sn'), saved)
    assert.equal(await again('-Ln'), listed)

    // Nothing is held down any more: what was said is in force.
    next.rules.overlay(NO_OVERLAYS)
    await next.director.settle()
    assert.match(await again('-Ln'), /10\.1\.0\.1:80 +Masq +7 /)
    assert.equal(await again('-Sn'), saved)
  })
})
