/** Debian's own ipvsadm, unmodified, on pointsman. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { playOnStage } from '../control/front/ipvsadm/on-stage.ts'
import { loadRecording } from '../control/front/ipvsadm/scenario.ts'
import { preloadObstacle } from './library.ts'

const recording = loadRecording(fileURLToPath(new URL('../recordings/ipvsadm/golden.json', import.meta.url)))
/** Those that end within the program, or need packets from clients, say nothing about the library. */
const ELSEWHERE = new Set(['help', 'getopt', 'matrix', 'errors', 'traffic', 'scheduling'])
/** Every third: each is a dozen processes, and all of them are played with our own client. */
const STEP = 3

test("Debian's ipvsadm does on pointsman what was recorded with a kernel", {
  skip: preloadObstacle('/usr/sbin/ipvsadm', 'ipvsadm') ?? false,
}, async () => {
  const told = recording.scenarios.filter(({ area }) => !ELSEWHERE.has(area))
  const some = told.filter((_scenario, i) => i % STEP === 0)
  assert.ok(some.length > 100)
  const results = await playOnStage({ ...recording, scenarios: some }, () => {}, 'debian')
  assert.deepEqual(
    results.filter(({ outcome }) => outcome !== 'passed'),
    [],
  )
})
