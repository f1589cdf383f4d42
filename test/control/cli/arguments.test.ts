import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('../../../control/cli/pointsman.ts', import.meta.url))

function pointsman(...words: readonly string[]): { readonly status: number | null; readonly said: string } {
  const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', program, ...words], {
    encoding: 'utf8',
    env: { ...process.env, POINTSMAN_SOCKET: '/no/such/socket' },
  })
  return { status, said: stderr }
}

test('a word too many is refused, not passed over: drain SERVICE REAL 10m has no end', () => {
  for (const words of [
    ['drain', 'tcp/192.0.2.10:80', '10.0.0.1:80', '10m'],
    ['status', 'tcp/192.0.2.10:80'],
    ['apply', 'a.yaml', 'b.yaml'],
  ]) {
    const { status, said } = pointsman(...words)
    assert.equal(status, 2, said)
    assert.match(said, /too many arguments/)
  }
})
