/** A long list with a few changes is the one in force, copied: whatever they are, it comes to the list that is wanted. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDirector } from '../../../control/apply/open.ts'
import type { SchedulerName } from '../../../control/model/scheduler.ts'
import type { Operation } from '../../../control/plan/operations.ts'
import { LiveRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { membersOf, realsOf } from '../map-reader.ts'
import { server, service, testHost } from '../support.ts'

const FIRST = 40
const MOST = 56

const changes = fc.array(
  fc.array(
    fc.record({
      what: fc.constantFrom('add', 'edit', 'delete', 'again' as const),
      which: fc.nat(MOST - 1),
      weight: fc.nat(5),
    }),
    { minLength: 1, maxLength: 5 },
  ),
  { minLength: 1, maxLength: 6 },
)

test('members, weights and seats are those of the list as it is wanted', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom<SchedulerName[]>('wlc', 'wrr', 'mh'),
      changes,
      async (scheduler, batches) => {
        const dataplane = new MemoryDataplane({ ...SMALL_SIZES, reals: 128, members: 32_768 })
        const { director, applier } = openDirector({ dataplane, host: testHost() })
        const web = service('tcp 10.0.0.1:80', { scheduler })
        const at = (which: number, weight: number) => server(`10.1.0.${which + 1}:80`, { weight })
        director.addService(web)
        for (let i = 0; i < FIRST; i++) director.addServer(web.id, at(i, 1))
        await director.settle()
        for (const batch of batches) {
          for (const { what, which, weight } of batch) {
            const { id } = at(which, weight)
            if (what === 'add') director.addServer(web.id, at(which, weight))
            if (what === 'edit') director.editServer(web.id, at(which, weight))
            if (what === 'delete' || what === 'again') director.deleteServer(web.id, id)
            if (what === 'again') director.addServer(web.id, at(which, weight))
          }
          await director.settle()
          const listed = director.service(web.id)
          assert.ok(listed.ok)
          const wanted = listed.value.servers.map(({ id }) => `${id.address} ${id.port}`)
          assert.deepEqual(membersOf(dataplane, web), wanted)
          if (scheduler !== 'mh' && wanted.length > 32) {
            const { view } = dataplane.map('live')
            const seats = realsOf(dataplane, web).map(
              (real) => LiveRecord.getSeat(view, real * LiveRecord.size) & 0xffff,
            )
            assert.deepEqual(
              seats,
              wanted.map((_, i) => wanted.length - i),
            )
          }
          applier.compareSlice(60_000)
          assert.deepEqual([...applier.repairs], [])
          assert.equal(director.states().size, 0)
        }
        await applier.stop()
      },
    ),
    { numRuns: 60 },
  )
})

test('one change writes what has changed, and copies the rest', async () => {
  const operations: Operation[] = []
  const dataplane = new MemoryDataplane({ ...SMALL_SIZES, reals: 4096, members: 32_768 })
  const trace = (operation: Operation): void => void operations.push(operation)
  const { director, applier } = openDirector({ dataplane, host: testHost(), trace })
  const web = service('tcp 10.0.0.1:80', { scheduler: 'wlc' })
  const at = (i: number, weight = 1) => server(`10.1.${i >> 8}.${i & 255}:80`, { weight })
  director.addService(web)
  for (let i = 1; i <= 3000; i++) director.addServer(web.id, at(i))
  await director.settle()
  const written = async (change: () => void): Promise<number> => {
    operations.length = 0
    change()
    await director.settle()
    return operations.reduce((sum, one) => sum + (one.op === 'fill-members' ? one.words.length / 2 : 0), 0)
  }
  assert.equal(await written(() => director.editServer(web.id, at(1500, 7))), 1)
  assert.equal(await written(() => director.deleteServer(web.id, at(1000).id)), 0)
  assert.equal(await written(() => director.addServer(web.id, at(3001))), 1)
  applier.compareSlice(60_000)
  assert.deepEqual([...applier.repairs], [])
  await applier.stop()
})
