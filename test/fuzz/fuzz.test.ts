import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { SEED } from '../property.ts'
import { CORPUS, FINDINGS, fuzz, missingTool, replay } from './harness.ts'

const skip = missingTool() ?? false
const seconds = Number(process.env.POINTSMAN_FUZZ_SECONDS ?? 10)

test('every input of the corpus, former crashes among them, leaves the packet program whole', {
  skip,
}, async () => {
  const inputs = readdirSync(CORPUS).map((name) => join(CORPUS, name))
  assert.ok(inputs.length > 50, `the corpus holds ${inputs.length} inputs`)
  let words = ''
  const good = await replay(inputs, (text) => {
    words = (words + text).slice(-4000)
  })
  assert.ok(good, words)
})

test('a short search finds nothing that breaks the packet program', { skip }, async (t) => {
  let words = ''
  const result = await fuzz({
    seconds,
    runs: 0,
    jobs: 1,
    seed: SEED,
    output: (text) => {
      words = (words + text).slice(-4000)
    },
  })
  t.diagnostic(`${result.executions} executions in ${seconds} s, seed ${SEED}`)
  assert.ok(!result.found, `seed ${SEED}, input in ${FINDINGS}:\n${words}`)
  assert.ok(result.executions > 0, words)
})
