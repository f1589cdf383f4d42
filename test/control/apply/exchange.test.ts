/** The director stays when the plane below it is exchanged. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { exchangePlane } from '../../../control/apply/open.ts'
import { copyMaps } from '../../../dataplane/copy.ts'
import { DataplaneError } from '../../../dataplane/dataplane.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { lookUp, membersOf, realsOf } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { memoryState, server, service, testHost } from '../support.ts'

const web = service('tcp 10.0.0.1:80', { scheduler: 'rr' })
const old = service('tcp 10.0.0.2:80', { scheduler: 'rr' })

async function open() {
  const dataplane = new MemoryDataplane()
  const stateFile = memoryState()
  const options = { host: testHost(), stateFile }
  const managed = openDirector({ ...options, dataplane })
  const { director } = managed
  for (const one of [web, old]) {
    director.addService(one)
    director.addServer(one.id, server('10.1.0.1:80'))
  }
  director.setSysctl('sloppy_tcp', 1)
  await director.settle()
  const [real] = realsOf(dataplane, web) as [number]
  dataplane.map('counters').u64[real * dataplane.sizes.cpus * 8] = 9n
  director.zero(web.id)
  dataplane.map('counters').u64[real * dataplane.sizes.cpus * 8] = 12n
  return { dataplane, managed, director, options }
}

describe('exchange of the plane', () => {
  test('whoever holds on to the director sees rules and counters go on, changes meanwhile included', async () => {
    const { dataplane, managed, director, options } = await open()
    const next = new MemoryDataplane()
    let moved: () => void = () => {}
    const moving = new Promise<void>((resolve) => {
      moved = resolve
    })
    const exchanged = exchangePlane(managed, options, async () => {
      copyMaps(dataplane, next)
      await moving
      return next
    })
    await new Promise((resolve) => setTimeout(resolve, 5))
    // What the new maps were copied from knows nothing of these.
    assert.ok(director.addServer(web.id, server('10.1.0.2:80')).ok)
    assert.ok(director.deleteService(old.id).ok)
    let settled = false
    const settling = director.settle().then(() => {
      settled = true
    })
    await new Promise((resolve) => setTimeout(resolve, 5))
    assert.equal(settled, false, 'in force means: in the maps that packets meet')
    const untouched = Buffer.from(dataplane.map('services').bytes)
    moved()
    const { applier, error } = await exchanged
    await settling
    assert.equal(error, null)
    assert.equal(applier.dataplane, next)
    assert.deepEqual(membersOf(next, web), ['10.1.0.2 80', '10.1.0.1 80'])
    assert.equal(lookUp(next, old), -1)
    assert.ok(untouched.equals(dataplane.map('services').bytes), 'nobody writes to maps that are given up')
    const shown = director.service(web.id)
    assert.ok(shown.ok)
    assert.equal(shown.value.counters.conns, 3n)
    assert.equal(director.sysctls().sloppy_tcp, 1)
    assert.equal(applier.repairs.size, 0)
    const again = openDirector({ ...options, dataplane: next })
    assert.deepEqual(again.director.rules(), director.rules())
    assert.equal(again.director.services()[0]!.counters.conns, 3n)
  })

  test('one that fails leaves everything as it was, on the old plane', async () => {
    const { dataplane, managed, director, options } = await open()
    const { applier, error } = await exchangePlane(managed, options, async () => {
      throw new DataplaneError('Cannot attach to c0')
    })
    assert.ok(error instanceof DataplaneError)
    assert.equal(applier.dataplane, dataplane)
    director.addServer(web.id, server('10.1.0.3:80'))
    await director.settle()
    assert.deepEqual(membersOf(dataplane, web), ['10.1.0.3 80', '10.1.0.1 80'])
    assert.deepEqual(membersOf(dataplane, old), ['10.1.0.1 80'])
  })
})
