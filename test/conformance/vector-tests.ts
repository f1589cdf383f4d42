/** Tests out of recorded vectors: those that have passed once on a data plane have to pass always. */
import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type DataplaneName, passing, playAll, select } from './packets.ts'

const RECORDINGS = fileURLToPath(new URL('../recordings/packets', import.meta.url))

/** @param skip why they cannot be played here, or null */
export function vectorTests(dataplane: DataplaneName, skip: string | null): void {
  test(`packets of kernel IPVS, played on ${dataplane}`, { skip: skip ?? false }, async (t) => {
    const names = passing(dataplane)
    const vectors = select({ paths: [RECORDINGS] }).filter((vector) => names.has(vector.name))
    assert.equal(vectors.length, names.size, 'every name in packets-passing.json is that of a vector')
    const lanes = dataplane === 'wasm' ? 1 : 2 * availableParallelism()
    const results = await playAll(vectors, dataplane, lanes)
    // Vectors live by timers of a few seconds: what a busy machine has spoiled gets one more chance, alone.
    const spoiled = vectors.filter((_, index) => results[index]?.outcome !== 'passed')
    const again = spoiled.length > 0 && spoiled.length <= 5 ? await playAll(spoiled, dataplane, 1) : []
    for (const [index, vector] of vectors.entries()) {
      const first = results[index]
      const second = again[spoiled.indexOf(vector)]
      await t.test(`${vector.area}: ${vector.name}`, (t) => {
        if (second !== undefined) t.diagnostic(`passed only alone: ${first?.lines.join('\n')}`)
        const result = second ?? first
        assert.equal(result?.outcome, 'passed', result?.lines.join('\n'))
      })
    }
  })
}

/** Wires need network namespaces. */
export function missingPrivilege(): string | null {
  return process.getuid?.() === 0 ? null : 'needs root, for network namespaces'
}
