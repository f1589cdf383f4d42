/** Maps of earlier layouts become maps of this one, with the old program at work until the last moment. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { CONVERSIONS, type Conversion, MERGES } from '../../dataplane/conversions.ts'
import { leavesOf, planRecord, writeScalar } from '../../dataplane/layout/convert.ts'
import {
  Conn4Record,
  ConnFlag,
  ConnKind,
  ConnRecord,
  ConnStatus,
  CountersRecord,
  LAYOUT_DESCRIPTION,
  LiveRecord,
  MAP_NAMES,
  type MapName,
  PM_CONN_ACTIVE,
  PM_CONN_CLASS_SHIFT,
  PM_CONN_GENERATION,
  PM_CONN_INPUT_ONLY,
  PM_CONN_METHOD_SHIFT,
  PM_CONN_STATE_SHIFT,
  PM_LAYOUT_VERSION,
  SettingsRecord,
} from '../../dataplane/layout/layout.gen.ts'
import { OWN_STAMP, readStamp } from '../../dataplane/layout/stamp.ts'
import { findLayout, type Layout, OWN_LAYOUT, parseLayout, recordOf } from '../../dataplane/layout/version.ts'
import { EARLIER_LAYOUTS } from '../../dataplane/layout/versions.gen.ts'
import { MemoryDataplane } from '../../dataplane/memory.ts'
import { Migration, type OldMaps, planMigration } from '../../dataplane/migrate.ts'
import { mapEntries } from '../../dataplane/sizes.ts'
import fc from '../property.ts'

/**
 * A layout in which connections are ten bytes... shaped otherwise: another order, fields that
 * are no more, other sizes. Counts stand elsewhere, too.
 */
const OLD_CONN = [
  'pm_conn 56 0:word:u32 4:expires:u32 8:protocol:u8 9:kind:u8 10:method:u8 11:flags:u8 12:sport:be16 14:dport:be16',
  '16:real:u32 20:peer:u32 24:new_port:be16 26:pad:u16 28:mtu:u16 30:hop_epoch:u16 32:dmac:u8[6] 38:smac:u8[6]',
  '44:ifindex:u32 48:gateway:u32 52:gone:u32',
].join(' ')
const OLD_CONN4 = 'pm_conn4 72 0:c:pm_conn 56:saddr:u32 60:daddr:be32 64:new_addr:be32 68:pad:u32'

function oldLayout(): Layout {
  const description = LAYOUT_DESCRIPTION.replace(/^pm_conn \d.*$/m, OLD_CONN)
    .replace(/^pm_conn4 \d.*$/m, OLD_CONN4)
    .replace(/^pm_conn6 \d.*$/m, 'pm_conn6 56 0:c:pm_conn')
    .replace(/^pm_live \d.*$/m, 'pm_live 16 0:inactive:u32 4:active:u32 8:persistent:u32 12:overloaded:u32')
  return parseLayout({ version: 1, description })
}

class Buffers implements OldMaps {
  readonly layout: Layout
  readonly #entries: Readonly<Record<string, number>>
  readonly #bytes = new Map<string, Uint8Array>()

  constructor(layout: Layout, entries: Readonly<Record<string, number>>) {
    this.layout = layout
    this.#entries = entries
    for (const name of layout.maps.keys()) {
      this.#bytes.set(name, new Uint8Array(this.entries(name) * recordOf(layout, name).size))
    }
  }

  entries(name: string): number {
    return this.#entries[name] ?? 0
  }

  bytes(name: string): Uint8Array {
    return this.#bytes.get(name)!
  }

  view(name: string): DataView {
    const bytes = this.bytes(name)
    return new DataView(bytes.buffer)
  }
}

/** Old maps, new maps of the same sizes, and the migration between them. */
function scene(conversion: Conversion = { forgets: [] }) {
  const to = new MemoryDataplane()
  const old = new Buffers(oldLayout(), mapEntries(to.sizes))
  const plan = planMigration(old, mapEntries(to.sizes), conversion)
  if ('refusal' in plan) throw new Error(plan.refusal)
  return { to, old, plan, migration: new Migration(old, to, plan) }
}

const OLD_LINE = 72
function putLine(
  old: Buffers,
  line: number,
  values: { word?: number; expires?: number; real?: number; peer?: number },
) {
  const view = old.view('connections4')
  const at = line * OLD_LINE
  if (values.word !== undefined) view.setUint32(at, values.word, true)
  if (values.expires !== undefined) view.setUint32(at + 4, values.expires, true)
  if (values.real !== undefined) view.setUint32(at + 16, values.real, true)
  if (values.peer !== undefined) view.setUint32(at + 20, values.peer, true)
  view.setUint16(at + 12, 40_000 + line)
  view.setUint32(at + 56, 0xc0000200 + line, true)
}

function line(to: MemoryDataplane, index: number) {
  return Conn4Record.read(to.map('connections4').view, index * Conn4Record.size)
}

test('migrate: what did not change is shared, what did is carried, settings always', () => {
  const { plan } = scene()
  assert.deepEqual(plan.carried, ['settings', 'live', 'connections4', 'connections6'])
  assert.deepEqual([...plan.shared, ...plan.carried].sort(), [...MAP_NAMES].sort())
})

test('migrate: fields find their places, widths and byte orders; new bytes are zero', () => {
  const { to, old, migration } = scene()
  putLine(old, 7, { word: 0x103, expires: 99, real: 65_535, peer: 1 })
  SettingsRecord.setHashSeed(old.view('settings'), 0, 0xabc)
  migration.copy()
  const { c, saddr } = line(to, 7)
  assert.equal(c.word, 0x103)
  assert.equal(c.expires, 99)
  assert.equal(c.real, 65_535)
  assert.equal(c.sport, 40_007)
  assert.equal(c.peer, 1)
  assert.equal(saddr, 0xc0000207)
  assert.equal(SettingsRecord.getHashSeed(to.map('settings').view, 0), 0xabc)
  assert.deepEqual(readStamp(to.map('settings').view), OWN_STAMP)
})

test('migrate: what the old program does between the passes arrives, also after the exchange', () => {
  const { to, old, migration } = scene()
  for (const index of [1, 2, 3]) putLine(old, index, { word: 0x103, expires: 10, real: 5, peer: 2 })
  migration.copy()
  assert.equal(migration.catchUp(), 0)
  putLine(old, 1, { peer: 1, expires: 20 })
  putLine(old, 1000, { word: 0x7, real: 1 })
  assert.equal(migration.catchUp(), 2)
  assert.equal(line(to, 1).c.peer, 1)
  assert.equal(line(to, 1000).c.word, 0x7)

  // From here on both programs work: the old one for its last packets.
  putLine(old, 1, { real: 8, expires: 30 })
  putLine(old, 2, { peer: 1, real: 6, expires: 40 })
  putLine(old, 3, { word: 0x107 })
  const map = to.map('connections4')
  ConnRecord.setReal(map.view, 2 * Conn4Record.size, 9)
  ConnRecord.setExpires(map.view, 2 * Conn4Record.size, 44)
  ConnRecord.setWord(map.view, 3 * Conn4Record.size, 0x10b)
  assert.equal(migration.finish(), 1, 'line 3 belongs to two connections')
  assert.deepEqual([line(to, 1).c.real, line(to, 1).c.expires], [8, 30])
  assert.deepEqual([line(to, 2).c.peer, line(to, 2).c.real, line(to, 2).c.expires], [1, 9, 44])
  assert.equal(line(to, 3).c.word, 0x10b)
})

test('migrate: counters of both programs add up', () => {
  const to = new MemoryDataplane()
  const description = LAYOUT_DESCRIPTION.replace(
    /^pm_counters 64 0:conns:u64/m,
    'pm_counters 64 0:conns:u64',
  ).replace(
    /^pm_counters .*$/m,
    'pm_counters 40 0:in_packets:u64 8:conns:u64 16:in_bytes:u64 24:out_packets:u64 32:out_bytes:u64',
  )
  const old = new Buffers(parseLayout({ version: 1, description }), mapEntries(to.sizes))
  const plan = planMigration(old, mapEntries(to.sizes), {})
  assert.ok(!('refusal' in plan))
  const migration = new Migration(old, to, plan)
  old.view('counters').setBigUint64(8, 100n, true)
  migration.copy()
  old.view('counters').setBigUint64(8, 103n, true)
  const { view } = to.map('counters')
  CountersRecord.setConns(view, 0, CountersRecord.getConns(view, 0) + 20n)
  migration.finish()
  assert.equal(CountersRecord.getConns(view, 0), 123n)
})

test('migrate: any history of both programs leaves each count with what both have counted', () => {
  const change = fc.record({
    who: fc.constantFrom('old', 'new' as const),
    real: fc.nat(3),
    more: fc.integer({ min: 1, max: 9 }),
  })
  fc.assert(
    fc.property(fc.array(change, { maxLength: 20 }), fc.array(change, { maxLength: 20 }), (before, after) => {
      const { to, old, migration } = scene()
      const sums = [0, 0, 0, 0]
      const count = (at: number, more: number): void => {
        sums[at] = sums[at]! + more
      }
      const own = [0, 0, 0, 0]
      const oldDoes = (at: number, more: number): void => {
        own[at] = own[at]! + more
        old.view('live').setUint32(at * 16 + 4, own[at]!, true)
      }
      for (const { real } of before) oldDoes(real, 0)
      migration.copy()
      for (const { real, more } of before) {
        oldDoes(real, more)
        count(real, more)
      }
      migration.catchUp()
      const { view } = to.map('live')
      for (const { who, real, more } of after) {
        count(real, more)
        const base = real * LiveRecord.size
        if (who === 'old') oldDoes(real, more)
        else LiveRecord.setActive(view, base, LiveRecord.getActive(view, base) + more)
      }
      migration.finish()
      for (const at of [0, 1, 2, 3]) assert.equal(LiveRecord.getActive(view, at * LiveRecord.size), sums[at])
    }),
  )
})

test('migrate: a conversion changes what a field means, and puts records elsewhere', () => {
  const { to, old, migration } = scene({
    records: {
      connections4: (record, view, base) => ConnRecord.setExpires(view, base, record.number('c.expires') * 2),
    },
    place: {
      connections6: (record, index, maps) => {
        if (record.number('c.word') === 0) return
        const { view, entries, entrySize } = maps.map('connections6')
        ConnRecord.setReal(view, (entries - 1 - index) * entrySize, record.number('c.real'))
      },
    },
  })
  putLine(old, 0, { word: 0x103, expires: 21 })
  old.view('connections6').setUint32(5 * 56, 0x103, true)
  old.view('connections6').setUint32(5 * 56 + 16, 77, true)
  migration.copy()
  assert.equal(line(to, 0).c.expires, 42)
  const six = to.map('connections6')
  assert.equal(ConnRecord.getReal(six.view, (six.entries - 6) * six.entrySize), 77)

  putLine(old, 1, { word: 0x103, expires: 30 })
  migration.catchUp()
  assert.deepEqual([line(to, 0).c.expires, line(to, 1).c.expires], [42, 60])
  putLine(old, 1, { expires: 31, peer: 5 })
  migration.finish()
  assert.deepEqual([line(to, 0).c.expires, line(to, 1).c.expires, line(to, 1).c.peer], [42, 62, 5])
})

test('migrate: state, class and counting of connections before version 7 are in the word afterwards', () => {
  for (const text of EARLIER_LAYOUTS.filter(({ version }) => version < 7)) {
    const layout = parseLayout(text)
    const to = new MemoryDataplane()
    const old = new Buffers(layout, mapEntries(to.sizes))
    const plan = planMigration(old, mapEntries(to.sizes))
    assert.ok(!('refusal' in plan), 'refusal' in plan ? plan.refusal : '')
    const leaves = leavesOf(recordOf(layout, 'connections4'), layout)
    const put = (index: number, values: Readonly<Record<string, number>>): void => {
      for (const [path, value] of Object.entries(values)) {
        const leaf = leaves.find((known) => known.path === `c.${path}`)!
        writeScalar(old.view('connections4'), index * 64 + leaf.offset, leaf.type, BigInt(value))
      }
    }
    const generation = 9
    const live = { word: (generation << 2) | 3, protocol: 6, real: 5, expires: 77, kind: 0, sport: 40_000 }
    put(0, { ...live, method: 3, state: 1, flags: 0x06 })
    put(1, { ...live, method: 0, state: 3, flags: 0x00, peer: 2 })
    put(2, { ...live, method: 0, state: 3, kind: 1, peer: 1 })
    put(3, { ...live, method: 3, protocol: 17, flags: 0x0a })
    put(4, { ...live, word: (generation << 2) | 2 })
    new Migration(old, to, plan).copy()
    const words = [0, 1, 2, 3, 4, 5].map((index) => line(to, index).c.word)
    const age = generation * PM_CONN_GENERATION
    const established = ConnStatus.Live | (1 << PM_CONN_STATE_SHIFT) | (2 << PM_CONN_CLASS_SHIFT)
    const halfOpen = ConnStatus.Live | (3 << PM_CONN_STATE_SHIFT)
    assert.deepEqual(words, [
      age | established | PM_CONN_ACTIVE | PM_CONN_INPUT_ONLY,
      age | halfOpen | PM_CONN_ACTIVE,
      age | halfOpen,
      age | ConnStatus.Live | PM_CONN_INPUT_ONLY,
      age | ConnStatus.Freed,
      0,
    ])
    const { c } = line(to, 0)
    assert.deepEqual([c.real, c.expires, c.sport, c.traits], [5, 77, 40_000, 3 << PM_CONN_METHOD_SHIFT])
    assert.equal(line(to, 2).c.traits, ConnKind.Reply)
    assert.equal(line(to, 3).c.traits, (3 << PM_CONN_METHOD_SHIFT) | ConnFlag.OnePacket)
  }
})

test('migrate: after a kill in the last pass, unused lines are taken and used ones kept', () => {
  const { to, old, migration } = scene()
  putLine(old, 1, { word: 0x103, real: 5 })
  putLine(old, 2, { word: 0x103, real: 5 })
  ConnRecord.setReal(to.map('connections4').view, 2 * Conn4Record.size, 70)
  migration.salvage()
  assert.equal(line(to, 1).c.real, 5)
  assert.equal(line(to, 2).c.real, 70)
})

test('migrate: other sizes and another placing are refused in words', () => {
  const to = new MemoryDataplane()
  const entries = mapEntries(to.sizes)
  const layout = oldLayout()
  const larger = new Buffers(layout, { ...entries, connections4: 2048 })
  assert.deepEqual(planMigration(larger, entries), {
    refusal: "its map connections4 has 2048 entries, this version's 1024",
  })
  const description = LAYOUT_DESCRIPTION.replace('PM_WAYS=4', 'PM_WAYS=8')
  const wider = new Buffers(parseLayout({ version: 1, description }), entries)
  assert.deepEqual(planMigration(wider, entries), { refusal: "its PM_WAYS is 8, this version's 4" })
  assert.ok(!('refusal' in planMigration(wider, entries, { forgets: ['PM_WAYS'] })))
})

test('migrate: no field of an earlier version is lost without being named', () => {
  for (const text of EARLIER_LAYOUTS) {
    const layout = parseLayout(text)
    const { forgets = [], place } = CONVERSIONS[text.version] ?? {}
    for (const name of MAP_NAMES) {
      if (!layout.maps.has(name) || place?.[name] !== undefined) continue
      const record = recordOf(layout, name)
      const { dropped } = planRecord(record, layout, recordOf(OWN_LAYOUT, name), OWN_LAYOUT)
      const unnamed = dropped.filter((path) => !forgets.includes(`${record.name}.${path}`))
      assert.deepEqual(unnamed, [], `fields of ${record.name} in layout ${text.version}`)
    }
    const changed = [...layout.constants].filter(([name, value]) => OWN_LAYOUT.constants.get(name) !== value)
    const unnamed = changed.filter(([name]) => !forgets.includes(name))
    assert.deepEqual(unnamed, [], `constants of layout ${text.version}, which refuse its maps`)
  }
})

test('migrate: the fields with rules for merging exist', () => {
  for (const field of Object.values(MERGES).flatMap((fields) => [...fields])) {
    const [map = '', path = ''] = field.split(' ')
    const paths = leavesOf(recordOf(OWN_LAYOUT, map as MapName), OWN_LAYOUT).map((leaf) => leaf.path)
    assert.ok(paths.includes(path), field)
  }
})

test('migrate: layouts are known by their stamp, and an unknown one is not guessed', () => {
  assert.equal(findLayout(OWN_STAMP), OWN_LAYOUT)
  assert.equal(findLayout({ version: 4, fingerprint: '0000000000000000' })?.version, 4)
  assert.equal(findLayout({ version: PM_LAYOUT_VERSION, fingerprint: '0123456789abcdef' }), null)
  assert.equal(findLayout({ version: PM_LAYOUT_VERSION + 1, fingerprint: OWN_STAMP.fingerprint }), null)
})
