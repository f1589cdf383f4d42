/** What stands in front of a service is that service's alone, also over a restart. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FilterBatch } from '../../../control/model/filter.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { parseAddress } from '../../../net/address.ts'
import { cut } from '../../../net/prefix.ts'
import { openDirector } from '../opened-director.ts'
import { service, testHost } from '../support.ts'

const open = (dataplane: MemoryDataplane) => openDirector({ dataplane, host: testHost() })
const nothing = { flush: null, delete: [], add: [] }
const one = service('tcp 10.0.0.1:80')
const other = service('udp 10.0.0.2:53')
const everybody: FilterBatch = {
  prefixes: [cut(parseAddress('0.0.0.0')!, 0)],
  action: 'deny',
  service: one.id,
  forMs: null,
}

test('a service that comes after a restart has nothing of one that was deleted before', async () => {
  const dataplane = new MemoryDataplane(SMALL_SIZES)
  const first = open(dataplane)
  first.director.addService(one)
  await first.director.settle()
  assert.ok(
    first.director.changeLimits({
      delete: [],
      add: [{ service: one.id, rate: 5, connections: 0, length: 24 }],
    }).ok,
  )
  assert.ok(first.director.changeFilters({ ...nothing, add: [everybody] }).ok)
  first.director.deleteService(one.id)
  await first.director.settle()
  await first.applier.stop()

  const second = open(dataplane)
  second.director.addService(other)
  await second.director.settle()
  assert.deepEqual(second.director.limits(), [])
  assert.deepEqual([...second.director.filters()], [])
  await second.applier.stop()
})

test('nor has its first list what an earlier one had, which nobody has taken away yet', async () => {
  const dataplane = new MemoryDataplane(SMALL_SIZES)
  const first = open(dataplane)
  first.director.addService(one)
  await first.director.settle()
  assert.ok(first.director.changeFilters({ ...nothing, add: [everybody] }).ok)
  first.director.deleteService(one.id)
  await first.director.settle()
  await first.applier.stop()

  const between = open(dataplane)
  between.director.addService(other)
  await between.director.settle()
  assert.ok(
    between.director.changeLimits({
      delete: [],
      add: [{ service: other.id, rate: 5, connections: 0, length: 24 }],
    }).ok,
  )
  await between.applier.stop()

  const second = open(dataplane)
  await second.director.settle()
  const allowed: FilterBatch = {
    prefixes: [cut(parseAddress('192.0.2.0')!, 24)],
    action: 'allow',
    service: other.id,
    forMs: null,
  }
  assert.ok(second.director.changeFilters({ ...nothing, add: [allowed] }).ok)
  assert.deepEqual(
    Array.from(second.director.filters(), ({ action }) => action),
    ['allow'],
  )
  await second.applier.stop()
})
