/** What a connection weighs, with a table of such a size that half of its lines are in use. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MAPS, type MapName } from '../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../dataplane/memory.ts'
import { mapEntries } from '../../dataplane/sizes.ts'

const CONNECTIONS = 2 ** 20

/** Bytes of all maps. */
function weigh(connections4: number, connections6: number): number {
  const entries = mapEntries({ ...SMALL_SIZES, connections4, connections6 })
  return Object.entries(entries).reduce(
    (sum, [name, count]) => sum + count * MAPS[name as MapName].entrySize,
    0,
  )
}

/** Bytes for each of a million connections that have so many lines. */
function each(family: 4 | 6, linesOfOne: number): number {
  const lines = 2 * linesOfOne * CONNECTIONS
  const more = family === 4 ? weigh(lines, 4) : weigh(4, lines)
  return (more - weigh(4, 4)) / CONNECTIONS
}

test('a connection weighs 72 bytes, by NAT twice as many, with all maps that grow with the table', () => {
  assert.deepEqual([each(4, 1), each(4, 2), each(6, 1), each(6, 2)].map(Math.round), [72, 144, 136, 272])
})
