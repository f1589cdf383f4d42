/** The daemon's part in the size of a connection table: smaller again, and nothing searched in vain. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { countByReal } from '../../../control/connections/list.ts'
import { placeOf } from '../../../control/connections/place.ts'
import { Sweep } from '../../../control/connections/sweep.ts'
import {
  Conn4Record,
  ConnRecord,
  ConnStatus,
  PM_NONE,
  PM_WAYS,
  SettingsRecord,
} from '../../../dataplane/layout/layout.gen.ts'
import { firstLevel, levelsWord, linesInUse, readLevels, startSmall } from '../../../dataplane/levels.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'

const LINES = 1 << 18

interface Key {
  readonly client: number
  readonly port: number
}

const keys = new Map<number, { tried: number; readonly bySet: Map<number, Key> }>()

/** A key with this set in a level of the table, and in none that is larger. */
function keyAt(set: number, level: number): Key {
  const maskOf = (one: number) => (LINES / PM_WAYS - 1) >>> one
  const known = keys.get(level) ?? { tried: 0, bySet: new Map<number, Key>() }
  keys.set(level, known)
  const addresses = new Uint32Array(2)
  const view = new DataView(addresses.buffer)
  for (;;) {
    const found = known.bySet.get(set)
    if (found !== undefined) return found
    const [client, port] = [0x0a00_0000 + (known.tried >> 12), 1 + (known.tried & 0xfff)]
    known.tried++
    view.setUint32(0, client)
    const sport = ((port & 0xff) << 8) | (port >> 8)
    const { sets } = placeOf(0, { addresses, first: 0, words: 1, sport, dport: 0, protocol: 0 })
    for (const one of sets) {
      const at = (one & maskOf(level)) >>> 0
      const inLarger = level > 0 && ((one & maskOf(level - 1)) >>> 0 === at || (one & maskOf(0)) >>> 0 === at)
      if (!inLarger) known.bySet.set(at, { client, port })
    }
  }
}

function scene() {
  const plane = new MemoryDataplane({ ...SMALL_SIZES, connections4: LINES })
  const settings = plane.map('settings').view
  plane.setTicks(1000)
  const sweep = new Sweep(plane)
  return {
    plane,
    /** And then a second goes by. */
    run: () => {
      sweep.run({ expireGone: false })
      plane.setTicks(plane.nowTicks() + 120)
    },
    sweep,
    levels: () => readLevels(SettingsRecord.getLevels4(settings, 0)),
    use: (current: number, others = 0) =>
      SettingsRecord.setLevels4(settings, 0, levelsWord({ current, others })),
    put: (line: number, level: number, left = 100_000) => {
      const { view } = plane.map('connections4')
      const base = line * Conn4Record.size
      ConnRecord.setWord(view, base, ConnStatus.Live)
      ConnRecord.setExpires(view, base, plane.nowTicks() + left)
      ConnRecord.setPeer(view, base, PM_NONE)
      const { client, port } = keyAt(Math.floor(line / PM_WAYS), level)
      ConnRecord.setSport(view, base, port)
      Conn4Record.setSaddr(view, base, client)
    },
  }
}

describe('levels of a connection table', () => {
  test('a table starts with 16,384 lines, and one that is not larger as a whole', () => {
    assert.equal(firstLevel(1 << 20), 6)
    assert.equal(firstLevel(1 << 14), 0)
    assert.equal(firstLevel(64), 0)
    const { plane, levels } = scene()
    startSmall(plane.map('settings').view, plane.sizes)
    assert.deepEqual(levels(), { current: 4, others: 0 })
    assert.equal(linesInUse(LINES, levelsWord(levels())), 1 << 14)
  })

  test('all lines in use lie in the largest level of them', () => {
    assert.equal(linesInUse(LINES, 0), LINES)
    assert.equal(linesInUse(LINES, levelsWord({ current: 4, others: 1 << 2 })), LINES / 4)
    assert.equal(linesInUse(LINES, levelsWord({ current: 0, others: 1 << 4 })), LINES)
  })

  test('a level that was left is searched until sweeps have met no line of it for ten seconds', () => {
    const { run, use, put, levels } = scene()
    use(2, 1 << 4)
    for (let line = 100; line < 100 + LINES / 4 / 32; line++) put(line, 2)
    put(5, 4)
    for (let n = 0; n < 30; n++) run()
    assert.deepEqual(levels(), { current: 2, others: 1 << 4 })
    put(5, 2)
    for (let n = 0; n < 9; n++) run()
    // Of a CPU that had looked at the levels before, and was held up.
    put(6, 4)
    run()
    put(6, 2)
    for (let n = 0; n < 10; n++) {
      run()
      assert.deepEqual(levels(), { current: 2, others: 1 << 4 })
    }
    run()
    assert.deepEqual(levels(), { current: 2, others: 0 })
  })

  test('a table that is nearly empty for ten sweeps shrinks, step by step; one that is in use does not', () => {
    const { run, use, put, levels } = scene()
    use(0)
    put(LINES - 1, 0)
    for (let n = 0; n < 10; n++) {
      assert.deepEqual(levels(), { current: 0, others: 0 })
      run()
    }
    assert.deepEqual(levels(), { current: 2, others: 1 << 0 })
    for (let line = 0; line < LINES / 16; line++) put(line, 2)
    for (let n = 0; n < 30; n++) run()
    assert.deepEqual(levels(), { current: 2, others: 1 << 0 })
  })

  test('an empty table is swept until it is small, and then not any more', () => {
    const { sweep, run, use, levels } = scene()
    use(0)
    let sweeps = 0
    for (; sweep.due(); sweeps++) run()
    assert.deepEqual(levels(), { current: 4, others: 0 })
    assert.ok(sweeps < 40, `${sweeps} sweeps`)
  })

  test('when it grows during a sweep, the sweep takes nothing back', () => {
    const { sweep, run, use, put, levels } = scene()
    use(4)
    for (let line = 100; line < 100 + LINES / 4 / 32; line++) put(line, 2)
    sweep.slice(1, { expireGone: false })
    use(2, 1 << 4)
    sweep.slice(LINES * 2, { expireGone: false })
    for (let n = 0; n < 10; n++) run()
    assert.deepEqual(levels(), { current: 2, others: 1 << 4 })
    run()
    assert.deepEqual(levels(), { current: 2, others: 0 })
  })

  test('connections are counted without a look at what is not in use: that would touch its pages', async () => {
    const { sweep, use, put } = scene()
    use(4)
    put(5, 4)
    put(LINES - 1, 0)
    const counts = await countByReal(sweep.tables, 4, { over: false, pass: async () => {} })
    assert.deepEqual([...counts], [1, 0, 0, 0])
    use(4, 1 << 0)
    const all = await countByReal(sweep.tables, 4, { over: false, pass: async () => {} })
    assert.equal(all[0], 2)
  })
})
