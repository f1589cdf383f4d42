/** Ending while another thread is about something of libbpf's. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

test('a process ends whatever another thread has libbpf do', { timeout: 60_000 }, async () => {
  const script = fileURLToPath(new URL('leaving-process.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), script], {
    stdio: 'inherit',
  })
  // It would wait for a thread that waits for it.
  const late = setTimeout(() => child.kill('SIGKILL'), 30_000)
  const [status] = await once(child, 'exit')
  clearTimeout(late)
  assert.equal(status, 3)
})
