import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { copyMaps } from '../../../dataplane/copy.ts'
import { MAP_NAMES, SettingsRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { restoreMaps, saveMaps } from '../../../dataplane/userspace/maps-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'pointsman-state-'))
const path = join(folder, 'maps')
after(() => rmSync(folder, { recursive: true }))

function filled(): MemoryDataplane {
  const plane = new MemoryDataplane()
  for (const [i, name] of MAP_NAMES.entries()) {
    const { bytes } = plane.map(name)
    bytes[0] = i + 1
    bytes[bytes.length - 1] = 0xff
    bytes[bytes.length >> 1] = 7
  }
  return plane
}

const same = (a: MemoryDataplane, b: MemoryDataplane) =>
  MAP_NAMES.every((name) => Buffer.compare(a.map(name).bytes, b.map(name).bytes) === 0)

test('what was saved is restored, once', () => {
  const before = filled()
  saveMaps(before, path, 'boot 1')
  assert.ok(readFileSync(path).length < 200_000, 'pages of zeros are left out')
  const restored = new MemoryDataplane()
  assert.equal(restoreMaps(restored, path, 'boot 1'), null)
  assert.ok(same(before, restored))
  assert.ok(!existsSync(path))
  assert.equal(restoreMaps(restored, path, 'boot 1'), 'nothing was saved')
})

test('another boot, other sizes and a damaged file are refused, and the maps stay untouched', () => {
  const empty = new MemoryDataplane()
  saveMaps(filled(), path, 'boot 1')
  assert.equal(restoreMaps(empty, path, 'boot 2'), 'it was saved before the last boot')
  saveMaps(filled(), path, 'boot 1')
  const larger = new MemoryDataplane({ ...SMALL_SIZES, services: 128 })
  assert.equal(restoreMaps(larger, path, 'boot 1'), 'it was saved with other sizes')
  saveMaps(filled(), path, 'boot 1')
  const file = readFileSync(path)
  for (const damaged of [
    file.subarray(0, file.length - 100),
    Buffer.concat([file, Buffer.alloc(3)]),
    Buffer.from('{"layout":1}\n'),
    Buffer.from('{\n'),
    Buffer.alloc(0),
    file.subarray(file.indexOf(10) + 1),
  ]) {
    writeFileSync(path, damaged)
    assert.notEqual(restoreMaps(empty, path, 'boot 1'), null)
  }
  assert.ok(same(empty, new MemoryDataplane()))
})

test('maps are carried from plane to plane, interfaces aside, and next hops are looked up again', () => {
  const from = filled()
  const to = new MemoryDataplane()
  const epoch = SettingsRecord.getNextHopEpoch(from.map('settings').view, 0)
  copyMaps(from, to)
  assert.equal(Buffer.compare(from.map('connections4').bytes, to.map('connections4').bytes), 0)
  assert.equal(SettingsRecord.getNextHopEpoch(to.map('settings').view, 0), epoch + 1)
  assert.ok(to.map('interfaces').bytes.every((byte) => byte === 0))
  assert.throws(
    () => copyMaps(from, new MemoryDataplane({ ...SMALL_SIZES, reals: 64 })),
    /Cannot carry map reals over: it has 128 entries here and 64 there/,
  )
})
