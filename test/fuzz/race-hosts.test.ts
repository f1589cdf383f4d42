/** Threads over one table, in wasm on shared memory and in the kernel, with the daemon's sweep; see race.ts. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { enterPrivateNetwork, skipWithoutPrivileges } from '../dataplane/private-network.ts'
import { layNetwork, type RaceResult, raceKernel, raceWasm } from './race.ts'

const SECONDS = 2

function judge(result: RaceResult): void {
  const said = JSON.stringify(result)
  assert.equal(result.wrong, 0, said)
  assert.equal(result.repaired, 0, said)
  assert.deepEqual(result.differences, [], said)
  assert.equal(result.claimed + result.held, 0, said)
  assert.equal(result.twice, 0, said)
  assert.ok(result.expired > 0, said)
  assert.ok(result.right > 0 && result.answers > 0 && result.sweeps > 0, said)
}

describe('two threads and a sweep over one table: counts are what the lines say', () => {
  for (const lines of [16, 2048]) {
    test(`in wasm on shared memory, ${lines} lines`, async () => {
      judge(await raceWasm({ seconds: SECONDS, lines, seed: 1 }))
    })
  }
})

test('in wasm, while the table is made smaller and larger all the time', async () => {
  judge(await raceWasm({ seconds: SECONDS, lines: 2048, seed: 1, levels: 4 }))
})

describe('the kernel program on several CPUs and a sweep', { skip: skipWithoutPrivileges }, () => {
  for (const lines of [16, 2048]) {
    test(`${lines} lines`, async () => {
      if (lines === 16) {
        enterPrivateNetwork()
        layNetwork()
      }
      judge(await raceKernel({ seconds: SECONDS, lines, seed: 1 }))
    })
  }

  test('while the table is made smaller and larger all the time', async () => {
    judge(await raceKernel({ seconds: SECONDS, lines: 2048, seed: 1, levels: 4 }))
  })

  test('rows that several CPUs share lose no count', async () => {
    const result = await raceKernel({ seconds: SECONDS, lines: 128, seed: 1, rows: 1 })
    judge(result)
    assert.equal(result.judged, result.packets, JSON.stringify(result))
  })
})
