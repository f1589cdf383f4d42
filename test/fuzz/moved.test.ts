/** Lines that are moved while a packet looks for them, see moved.c. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { missingTool } from './harness.ts'

const run = promisify(execFile)
const source = fileURLToPath(new URL('moved.c', import.meta.url))

test('a packet finds its connection whenever another moves the line', {
  skip: missingTool() ?? false,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pm-moved-'))
  try {
    const program = join(folder, 'moved')
    await run('clang', ['-O0', '-g', '-Wall', '-Wextra', '-Werror', source, '-o', program])
    const result = await run(program).catch((error: unknown) => error)
    assert.ok(!(result instanceof Error), (result as { stdout: string }).stdout.slice(0, 4000))
  } finally {
    rmSync(folder, { recursive: true })
  }
})
