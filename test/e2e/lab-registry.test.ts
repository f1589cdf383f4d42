/** `npm start -- --registry etcd`, as it is typed, but for the setting up. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { typescript } from '../../lab/client.ts'
import { run } from '../../lab/command.ts'
import { etcdMissing } from '../../lab/etcd.ts'
import { missingFor } from './scene.ts'

const MAIN = fileURLToPath(new URL('../../lab/main.ts', import.meta.url))

test('the lab shows real servers that register themselves, one whose lease ends, and its return', {
  skip: missingFor('xdp') || etcdMissing,
}, async () => {
  const words = typescript(MAIN, ['--registry', 'etcd', '--prefix', `pmr${process.pid}-`])
  const { status, stdout, stderr } = await run(words as [string, ...string[]])
  assert.equal(status, 0, stdout + stderr)
  const requests = [...stdout.matchAll(/300 requests: rs1 (\d+), rs2 (\d+), rs3 (\d+)/g)]
  assert.deepEqual(
    requests.map(([, ...counts]) => counts.map((count) => count !== '0')),
    [
      [true, true, true],
      [true, true, false],
      [true, true, true],
      [false, true, true],
    ],
    stdout,
  )
  assert.match(stdout, /gone [\d.]+ s later: its lease was one of 3 s/)
  assert.match(stdout, /pool web: etcd \/services\/web\/, 3 real servers/)
})
