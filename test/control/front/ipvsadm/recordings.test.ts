import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { playInProcess } from './in-process.ts'
import { playOnStage, stageObstacle } from './on-stage.ts'
import type { Result } from './play.ts'
import { loadRecording } from './scenario.ts'

const recording = loadRecording(
  fileURLToPath(new URL('../../../recordings/ipvsadm/golden.json', import.meta.url)),
)
/** Scenarios that need packets from clients are played by `packets.test.ts`. */
const PACKETS = new Set(['traffic', 'scheduling'])
const WRAPPERS = new Set(['wrappers'])

function assertPassed(results: readonly Result[], maySkip: ReadonlySet<string>): void {
  const failed = results.filter(({ outcome }) => outcome === 'failed')
  assert.equal(
    failed.length,
    0,
    failed.map(({ name, lines }) => `${name}\n  ${lines.join('\n  ')}`).join('\n'),
  )
  const skipped = results.filter(({ outcome, area }) => outcome === 'skipped' && !maySkip.has(area))
  assert.deepEqual(
    skipped.map(({ name }) => name),
    [],
  )
  assert.ok(results.some(({ outcome }) => outcome === 'passed'))
}

test('ipvsadm does what was recorded, by the rules alone', async () => {
  assertPassed(await playInProcess(recording, () => {}), new Set([...PACKETS, ...WRAPPERS]))
})

const obstacle = stageObstacle()
test('ipvsadm does what was recorded, through the client and a daemon', {
  skip: obstacle ?? false,
}, async () => {
  assertPassed(await playOnStage(recording, () => {}), PACKETS)
})
