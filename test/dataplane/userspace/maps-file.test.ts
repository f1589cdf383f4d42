import assert from 'node:assert/strict'
import {
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { builtFile } from '../../../dataplane/assets.ts'
import { leavesOf, writeScalar } from '../../../dataplane/layout/convert.ts'
import {
  CountersRecord,
  MAP_NAMES,
  MAPS,
  type MapName,
  ServiceRecord,
  SettingsRecord,
} from '../../../dataplane/layout/layout.gen.ts'
import { parseLayout, recordOf } from '../../../dataplane/layout/version.ts'
import { EARLIER_LAYOUTS } from '../../../dataplane/layout/versions.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { mapEntries } from '../../../dataplane/sizes.ts'
import {
  catchUp,
  isOwed,
  MapsFile,
  migrate,
  olderMaps,
  sizesInFile,
  widen,
} from '../../../dataplane/userspace/maps-file.ts'
import { openWasm } from '../../../dataplane/userspace/wasm-file.ts'
import { bootId } from '../../../linux/boot.ts'

const folder = mkdtempSync(join(tmpdir(), 'pointsman-maps-'))
const path = join(folder, 'maps')
after(() => rmSync(folder, { recursive: true }))

/** Another byte in every map, at its start and at its end. */
function fill(map: (name: MapName) => { readonly bytes: Uint8Array }): void {
  for (const [i, name] of MAP_NAMES.entries()) {
    const { bytes } = map(name)
    bytes[0] = i + 1
    bytes[bytes.length - 1] = i + 101
  }
}

function assertFilled(map: (name: MapName) => { readonly bytes: Uint8Array }): void {
  for (const [i, name] of MAP_NAMES.entries()) {
    const { bytes } = map(name)
    assert.deepEqual([bytes[0], bytes.at(-1)], [i + 1, i + 101], name)
  }
}

function reopen(boot?: string): MapsFile {
  const found = MapsFile.open(path, boot)
  assert.ok(found instanceof MapsFile, JSON.stringify(found))
  return found
}

describe('maps in a file', () => {
  test('what one process writes another reads, and the next one finds', () => {
    const made = MapsFile.create(path, SMALL_SIZES)
    const other = reopen()
    fill((name) => made.map(name))
    assertFilled((name) => other.map(name))
    made.close()
    other.close()
    const later = reopen()
    assert.deepEqual(later.sizes, SMALL_SIZES)
    assertFilled((name) => later.map(name))
    later.close()
    assert.deepEqual(sizesInFile(path), SMALL_SIZES)
    assert.equal(statSync(path).mode & 0o777, 0o600)
  })

  test('the program in wasm works on the same memory', () => {
    const maps = MapsFile.create(path, SMALL_SIZES)
    const fib = () => ({ result: 'no-route' }) as const
    const wasmPath = builtFile('pointsman.wasm')
    const plane = openWasm({ sizes: SMALL_SIZES, wasmPath, fib, backing: maps })
    fill((name) => plane.map(name))
    assertFilled((name) => maps.map(name))
    for (const name of MAP_NAMES) assert.equal(plane.map(name).bytes.length, maps.map(name).bytes.length)
    maps.close()
  })

  test('all of it is reserved: a full file system cannot end a process later', () => {
    const maps = MapsFile.create(path, { ...SMALL_SIZES, connections4: 1 << 16 })
    const { blocks, size } = statSync(path)
    assert.ok(blocks * 512 >= size, `${blocks * 512} of ${size} bytes`)
    maps.close()
  })

  test('a new file has a seed of its own, and leaves an earlier one to who has it', () => {
    const first = MapsFile.create(path, SMALL_SIZES)
    fill((name) => first.map(name))
    const second = MapsFile.create(path, SMALL_SIZES)
    assertFilled((name) => first.map(name))
    assert.ok(second.map('services').bytes.every((byte) => byte === 0))
    assert.notEqual(first.inode, second.inode)
    first.close()
    second.close()
  })

  test('killed or failed while it is filled: the earlier one is still there', () => {
    const earlier = MapsFile.create(path, SMALL_SIZES)
    fill((name) => earlier.map(name))
    const full = () => {
      const found = reopen()
      assertFilled((name) => found.map(name))
      found.close()
      throw new Error('as far as this')
    }
    assert.throws(() => MapsFile.create(path, SMALL_SIZES, { fill: full }), /as far as this/)
    assert.equal(reopen().inode, earlier.inode)
    earlier.close()
    assert.deepEqual(readdirSync(folder), ['maps'])
  })

  test('more rows for CPUs: everything else stays', () => {
    const narrow = MapsFile.create(path, { ...SMALL_SIZES, cpus: 2 })
    fill((name) => narrow.map(name))
    const record = MAPS.counters.entrySize
    narrow.map('counters').bytes.fill(7, 2 * record, 4 * record)
    const lengths = new Map(MAP_NAMES.map((name) => [name, narrow.map(name).bytes.length]))
    const wide = widen(narrow, 5)
    catchUp(wide)
    assert.equal(wide.sizes.cpus, 5)
    for (const [i, name] of MAP_NAMES.entries()) {
      const { bytes } = wide.map(name)
      assert.equal(bytes[0], i + 1)
      // Rows of one CPU each stand one behind the other, but for the counters of real servers.
      if (name !== 'counters') assert.equal(bytes[lengths.get(name)! - 1], i + 101)
    }
    const row = wide.map('counters').bytes.subarray(5 * record, 10 * record)
    assert.ok(row.subarray(0, 2 * record).every((byte) => byte === 7))
    assert.ok(row.subarray(2 * record).every((byte) => byte === 0))
    wide.close()
    reopen().close()
  })

  test('what is done on the maps before is carried over when nobody works on them any more', () => {
    MapsFile.create(path, { ...SMALL_SIZES, cpus: 2 }).close()
    const forwarder = reopen()
    const wide = widen(reopen(), 5)
    assert.notEqual(wide.inode, forwarder.inode)
    fill((name) => forwarder.map(name))
    assert.ok(isOwed(wide))
    // Killed here: whoever comes next finds that it is owed.
    wide.close()
    const later = reopen()
    assert.ok(isOwed(later))
    catchUp(later)
    for (const [i, name] of MAP_NAMES.entries()) assert.equal(later.map(name).bytes[0], i + 1, name)
    assert.equal(isOwed(later), false)
    assert.deepEqual(readdirSync(folder), ['maps'])
    catchUp(later)
    later.close()
    forwarder.close()
  })

  test('maps that were only to be replaced owe nothing', () => {
    const maps = MapsFile.create(path, SMALL_SIZES)
    linkSync(path, `${path}.before`)
    assert.equal(isOwed(maps), false)
    catchUp(maps)
    assert.deepEqual(readdirSync(folder), ['maps'])
    maps.close()
  })

  for (const [what, spoil, reason] of [
    ['no file', () => rmSync(path), /there are none/],
    ['another form', () => writeFileSync(path, 'something else'), /does not begin as expected/],
    ['a shorter file', () => truncateSync(path, 10_000), /was cut/],
    [
      'another layout',
      () => {
        const bytes = readFileSync(path)
        bytes.write('"layout":"0123456789abcdef"', bytes.indexOf('"layout"'))
        writeFileSync(path, bytes)
      },
      /another layout/,
    ],
  ] as const)
    test(`${what} is refused with the reason`, () => {
      MapsFile.create(path, SMALL_SIZES).close()
      spoil()
      const found = MapsFile.open(path)
      assert.ok(!(found instanceof MapsFile))
      assert.match(found.reason, reason)
      assert.equal(found.absent, what === 'no file')
      assert.equal(found.foreign === true, what === 'another layout')
      if (found.foreign !== true) assert.equal(sizesInFile(path), null)
      else
        assert.throws(
          () => sizesInFile(path),
          /layout \d+, which this version does not know; .*pointsman detach/,
        )
    })

  test('maps of every earlier layout are carried over, field by field', () => {
    for (const text of EARLIER_LAYOUTS) {
      const layout = parseLayout(text)
      const entries: Readonly<Record<string, number>> = mapEntries(SMALL_SIZES)
      const maps: Record<string, { offset: number; entries: number }> = {}
      let length = 4096
      for (const name of layout.maps.keys()) {
        maps[name] = { offset: length, entries: entries[name] ?? 1 }
        length += Math.ceil((maps[name].entries * recordOf(layout, name).size) / 4096) * 4096
      }
      const bytes = Buffer.alloc(length)
      const put = (map: string, index: number, field: string, value: bigint) => {
        const record = recordOf(layout, map)
        const leaf = leavesOf(record, layout).find(({ path: name }) => name === field)!
        const at = maps[map]!.offset + index * record.size + leaf.offset
        writeScalar(new DataView(bytes.buffer, bytes.byteOffset), at, leaf.type, value)
      }
      put('settings', 0, 'hash_seed', 0x1234_5678n)
      put('services', 3, 'port', 8080n)
      put('counters', 5, 'conns', 77n)
      const { version, fingerprint } = text
      const boot = bootId()
      const head = { version, layout: fingerprint, boot, sizes: SMALL_SIZES, maps }
      bytes.write(`${JSON.stringify(head)}\n`)
      writeFileSync(path, bytes)
      const found = MapsFile.open(path)
      assert.ok(!(found instanceof MapsFile) && found.foreign === true)
      assert.deepEqual(sizesInFile(path), SMALL_SIZES)
      const elsewhere = openWasm({
        ...{ sizes: SMALL_SIZES, wasmPath: builtFile('pointsman.wasm') },
        fib: () => ({ result: 'no-route' }) as const,
      })
      olderMaps(path).carryInto(elsewhere, ['counters'])
      assert.equal(ServiceRecord.getPort(elsewhere.map('services').view, 3 * ServiceRecord.size), 8080)
      assert.equal(CountersRecord.getConns(elsewhere.map('counters').view, 5 * CountersRecord.size), 0n)
      const migrated = migrate(path)
      assert.equal(SettingsRecord.getHashSeed(migrated.map('settings').view, 0), 0x1234_5678)
      assert.equal(ServiceRecord.getPort(migrated.map('services').view, 3 * ServiceRecord.size), 8080)
      assert.equal(CountersRecord.getConns(migrated.map('counters').view, 5 * CountersRecord.size), 77n)
      // The older forwarder has gone on until now.
      put('counters', 5, 'conns', 78n)
      put('services', 3, 'port', 0n)
      writeFileSync(`${path}.before`, bytes)
      catchUp(migrated)
      assert.equal(CountersRecord.getConns(migrated.map('counters').view, 5 * CountersRecord.size), 78n)
      assert.equal(ServiceRecord.getPort(migrated.map('services').view, 3 * ServiceRecord.size), 0)
      migrated.close()
      reopen().close()
    }
  })

  test('maps of an earlier boot are refused: their times mean nothing', () => {
    MapsFile.create(path, SMALL_SIZES, { boot: 'boot 1' }).close()
    reopen('boot 1').close()
    const found = MapsFile.open(path, 'boot 2')
    assert.ok(!(found instanceof MapsFile) && /before the last boot/.test(found.reason))
  })
})
