/** Connections that the daemon makes itself, for checks: nobody's, and given back without a trace. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { REAL_WORDS } from '../../../control/compile/images.ts'
import { listConnections } from '../../../control/connections/list.ts'
import { isSetOf } from '../../../control/connections/place.ts'
import { PreparedConnections, type Wish } from '../../../control/connections/prepared.ts'
import { Sweep } from '../../../control/connections/sweep.ts'
import type { ConnectionTable } from '../../../control/connections/table.ts'
import {
  ConnFlag,
  ConnKind,
  ConnRecord,
  ConnStatus,
  LiveRecord,
  Method,
  PM_CONN_STATUS,
  PM_WAYS,
  SettingsRecord,
  Slot,
} from '../../../dataplane/layout/layout.gen.ts'
import { levelsWord, readLevels } from '../../../dataplane/levels.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { ip } from '../support.ts'

const REAL = 100
const HOP = { ifindex: 7, smac: new Uint8Array(6).fill(1), dmac: new Uint8Array(6).fill(2), mtu: 1500 }

function wish(port: number, changes: Partial<Wish> = {}): Wish {
  const from = { address: ip('192.0.2.10'), port }
  const to = { address: ip('192.0.2.101'), port: 80 }
  return {
    there: { protocol: 6, from, to },
    back: { protocol: 6, from: to, to: from },
    ...{ real: REAL, method: Method.Dr, hop: HOP, ticks: 100 },
    ...changes,
  }
}

function stage(sizes = SMALL_SIZES) {
  const dataplane = new MemoryDataplane(sizes)
  dataplane.map('reals').u32[REAL * REAL_WORDS] = Slot.Live
  const sweep = new Sweep(dataplane)
  const connections = new PreparedConnections(dataplane, sweep.tables)
  const live = () => LiveRecord.read(dataplane.map('live').view, REAL * LiveRecord.size)
  const inUse = () => {
    const [table] = sweep.tables
    return Array.from({ length: table.lines }, (_, line) => table.word(line) & PM_CONN_STATUS).filter(
      (status) => status >= ConnStatus.Claimed,
    ).length
  }
  return { dataplane, sweep, connections, live, inUse }
}

describe('a prepared connection', () => {
  test('stands where packets look first, and one in a level that was left is found', () => {
    const { dataplane, connections } = stage({ ...SMALL_SIZES, connections4: 65_536 })
    const use = (current: number, others: number) =>
      SettingsRecord.setLevels4(dataplane.map('settings').view, 0, levelsWord({ current, others }))
    use(2, 0)
    const first = connections.prepare(wish(63_488))
    assert.ok(first !== null)
    const isWithin = (level: number) => (one: { table: ConnectionTable; line: number }) =>
      isSetOf(one.table.place(one.line), Math.floor(one.line / PM_WAYS), one.table.levels.mask(level))
    for (const { line } of first.lines) assert.ok(line < 65_536 / 4, `line ${line}`)
    assert.ok(first.lines.every(isWithin(2)))
    use(0, 1 << 2)
    const second = connections.prepare(wish(63_488))
    assert.ok(second !== null)
    assert.equal(connections.isThere(first), false)
    assert.ok(second.lines.every(isWithin(0)))
  })

  test('lets the table grow like a packet, where others have all lines that it could have', () => {
    const { dataplane, sweep, connections, inUse } = stage({ ...SMALL_SIZES, connections4: 1024 })
    const { view } = dataplane.map('settings')
    SettingsRecord.setLevels4(view, 0, levelsWord({ current: 4, others: 0 }))
    const [table] = sweep.tables
    const stranger = { word: ConnStatus.Live, until: 0xffff }
    for (let line = 0; line < table.lines >>> 4; line++)
      assert.ok(table.swapHead(line, { word: 0, until: 0 }, stranger))
    const prepared = connections.prepare(wish(63_488))
    assert.ok(prepared !== null)
    const { current, others } = readLevels(SettingsRecord.getLevels4(view, 0))
    assert.deepEqual(
      { current: current < 4, searched: (others & (1 << 4)) !== 0 },
      { current: true, searched: true },
    )
    assert.equal(inUse(), (table.lines >>> 4) + 2)
    connections.free(prepared)
    for (let line = 0; line < table.lines; line++) {
      const head = table.head(line)
      if ((head.word & PM_CONN_STATUS) < ConnStatus.Claimed) table.swapHead(line, head, stranger)
    }
    assert.equal(connections.prepare(wish(63_489)), null, 'all of the table is full')
    assert.equal(readLevels(SettingsRecord.getLevels4(view, 0)).current, 0)
  })

  test('is two lines that know each other; no list and no count of connections has it', () => {
    const { dataplane, sweep, connections, live, inUse } = stage()
    const prepared = connections.prepare(wish(63_488))
    assert.ok(prepared !== null)
    const [there, back] = prepared.lines
    const { table } = there
    assert.equal(table.peer(there.line), back.line)
    assert.equal(table.peer(back.line), there.line)
    assert.equal(table.kind(there.line), ConnKind.In)
    assert.deepEqual(table.addresses(back.line), {
      source: ip('192.0.2.101'),
      destination: ip('192.0.2.10'),
    })
    assert.equal(live().inactive, 1)
    assert.deepEqual(
      [...listConnections(sweep.tables, dataplane.map('reals'), () => dataplane.nowTicks())],
      [],
    )
    const report = sweep.run({ expireGone: true })
    assert.equal(report.connections4, 0)
    assert.equal(report.references[REAL], 2)
    assert.ok(connections.isThere(prepared))
    connections.free(prepared)
    assert.equal(connections.isThere(prepared), false)
    assert.deepEqual([inUse(), live().inactive, live().active], [0, 0, 0])
    assert.equal(sweep.run({ expireGone: false }).repaired + sweep.run({ expireGone: false }).repaired, 0)
  })

  test('ends by itself when nobody comes back for it', () => {
    const { dataplane, sweep, connections, live, inUse } = stage()
    const prepared = connections.prepare(wish(63_488))
    assert.ok(prepared !== null)
    dataplane.setTicks(dataplane.nowTicks() + 101)
    sweep.run({ expireGone: false })
    assert.equal(connections.isThere(prepared), false)
    connections.free(prepared)
    assert.deepEqual([inUse(), live().inactive], [0, 0])
  })

  test('takes over what a dead daemon left for the same, and leaves a client’s alone', () => {
    const { sweep, connections, live, inUse } = stage()
    const left = connections.prepare(wish(63_488))
    const again = connections.prepare(wish(63_488))
    assert.ok(left !== null && again !== null)
    assert.equal(connections.isThere(left), false)
    assert.deepEqual([inUse(), live().inactive], [2, 1])
    // As if a packet had made it.
    const [table] = sweep.tables
    const kind = again.lines[0].line * table.stride + ConnRecord.offsets.protocol / 4
    assert.equal(table.flags(again.lines[0].line), ConnFlag.Check)
    table.u32[kind] = table.u32[kind]! & ~(ConnFlag.Check << 8)
    assert.equal(table.flags(again.lines[0].line), 0)
    assert.equal(connections.prepare(wish(63_488)), null)
    assert.ok(connections.isThere(again))
    assert.equal(inUse(), 2)
  })

  test('finds no room where all lines are in use, and leaves everything as it was', () => {
    const { connections, inUse } = stage({ ...SMALL_SIZES, connections4: 64 })
    let made = 0
    for (let port = 40_000; port < 40_200; port++) if (connections.prepare(wish(port)) !== null) made++
    assert.ok(made > 0 && made <= 32, `${made} made, ${inUse()} in use`)
    assert.equal(inUse(), 2 * made)
  })
})
