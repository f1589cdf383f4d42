/** The daemon looks for a key where the packet program does: the same hash, written twice. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isSetOf, linesOf, placeOf, placeOfTemplate } from '../../../control/connections/place.ts'
import { PM_WAYS } from '../../../dataplane/layout/layout.gen.ts'
import { skipWithoutClang } from '../../dataplane/compile-bpf.ts'

const KEYS = 20_000

test('the packet program and the daemon look for a key in the same lines, in the same order', {
  skip: skipWithoutClang,
}, (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pm-place-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const program = join(folder, 'place')
  execFileSync('clang', ['-O1', '-w', fileURLToPath(new URL('place.c', import.meta.url)), '-o', program])
  const out = execFileSync(program, [String(KEYS), '20261129'], { maxBuffer: 64 << 20 }).toString()
  const rows = out.trimEnd().split('\n')
  assert.equal(rows.length, KEYS)
  for (const row of rows) {
    const numbers = row.split(' ').map(Number)
    const [family = 0, hashSeed = 0, level = 0, whole = 0] = numbers
    const words = family === 4 ? 1 : 4
    const [sport = 0, dport = 0, protocol = 0, tag = 0, ...found] = numbers.slice(12)
    const addresses = Uint32Array.from([...numbers.slice(4, 4 + words), ...numbers.slice(8, 8 + words)])
    const key = placeOf(hashSeed, { addresses, first: 0, words, sport, dport, protocol })
    const place = tag === 0 ? key : placeOfTemplate(key, tag)
    const mask = whole >>> level
    assert.deepEqual([...place.sets, place.way, ...linesOf(place, mask)], found, row)
    for (const line of found.slice(3)) assert.ok(isSetOf(place, Math.floor(line / PM_WAYS), mask), row)
  }
})
