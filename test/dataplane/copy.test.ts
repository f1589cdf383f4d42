import assert from 'node:assert/strict'
import { test } from 'node:test'
import { copyMaps } from '../../dataplane/copy.ts'
import { MAP_NAMES, SettingsRecord } from '../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../dataplane/memory.ts'

test('maps are carried from plane to plane, what each finds out itself aside, and next hops are looked up again', () => {
  const from = new MemoryDataplane()
  for (const [i, name] of MAP_NAMES.entries()) {
    const { bytes } = from.map(name)
    bytes[0] = i + 1
    bytes[bytes.length - 1] = 0xff
  }
  const to = new MemoryDataplane()
  const epoch = SettingsRecord.getNextHopEpoch(from.map('settings').view, 0)
  copyMaps(from, to)
  assert.equal(Buffer.compare(from.map('connections4').bytes, to.map('connections4').bytes), 0)
  assert.equal(SettingsRecord.getNextHopEpoch(to.map('settings').view, 0), epoch + 1)
  for (const name of ['interfaces', 'egress'] as const) {
    assert.ok(
      to.map(name).bytes.every((byte) => byte === 0),
      name,
    )
  }
  assert.throws(
    () => copyMaps(from, new MemoryDataplane({ ...SMALL_SIZES, reals: 64 })),
    /Cannot carry map reals over: it has 128 entries here and 64 there/,
  )
})
