import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fixedHost } from '../../../control/rules/host.ts'
import { RealFlag, RealRecord, Setting, SettingsRecord, Slot } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { openDirector } from '../opened-director.ts'
import { server, service } from '../support.ts'

const host = fixedHost({})

/** Whether the program is told, and by which record. */
function told(plane: MemoryDataplane): { readonly on: boolean; readonly real: number } {
  const { view } = plane.map('settings')
  return {
    on: (SettingsRecord.getFlags(view, 0) & Setting.Bypass) !== 0,
    real: SettingsRecord.getBypass(view, 0),
  }
}

function records(plane: MemoryDataplane): number[] {
  const { view, entries } = plane.map('reals')
  return Array.from({ length: entries }, (_, real) => real).filter((real) => {
    const base = real * RealRecord.size
    return (
      RealRecord.getSlot(view, base) === Slot.Live &&
      (RealRecord.getFlags(view, base) & RealFlag.Bypass) !== 0
    )
  })
}

test('cache_bypass has one record, which outlives the setting and the daemon', async () => {
  const plane = new MemoryDataplane(SMALL_SIZES)
  const { director } = openDirector({ dataplane: plane, host })
  await director.settle()
  assert.deepEqual([told(plane).on, records(plane)], [false, []])
  assert.equal(director.setSysctl('cache_bypass', 1).ok, true)
  await director.settle()
  const [real] = records(plane)
  assert.ok(real !== undefined)
  assert.deepEqual(told(plane), { on: true, real })

  const after = openDirector({ dataplane: plane, host })
  assert.equal(after.director.setSysctl('cache_bypass', 1).ok, true)
  await after.director.settle()
  assert.deepEqual([told(plane), records(plane)], [{ on: true, real }, [real]])
  assert.equal(after.director.setSysctl('cache_bypass', 0).ok, true)
  await after.director.settle()
  assert.deepEqual([told(plane).on, records(plane)], [false, [real]], 'its connections go on')

  // Nobody else gets its index.
  const virtual = service('tcp 192.0.2.100:80')
  after.director.addService(virtual)
  for (let n = 0; n < SMALL_SIZES.reals - 1; n++)
    assert.equal(
      after.director.addServer(virtual.id, server(`10.0.2.${n + 1}:80`, { method: 'nat' })).ok,
      true,
    )
  await after.director.settle()
  assert.deepEqual(records(plane), [real])
})

test('cache_bypass without a free record does nothing, and it is said once', async () => {
  const warnings: string[] = []
  const plane = new MemoryDataplane({ ...SMALL_SIZES, reals: 1 })
  const { director, applier } = openDirector({ dataplane: plane, host, warn: (text) => warnings.push(text) })
  const virtual = service('tcp 192.0.2.100:80')
  director.addService(virtual)
  director.addServer(virtual.id, server('10.0.2.1:80', { method: 'nat' }))
  await director.settle()
  assert.equal(director.setSysctl('cache_bypass', 1).ok, true)
  applier.publishSettings()
  assert.equal(told(plane).on, false)
  assert.deepEqual(
    warnings.filter((text) => text.includes('cache_bypass')),
    [
      'cache_bypass does nothing: all real servers of the table are in use; start with a larger --real-servers',
    ],
  )
})
