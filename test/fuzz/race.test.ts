/** Threads of the packet program over tables that are full all the time, see race.c. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { missingTool } from './harness.ts'

const run = promisify(execFile)
const source = fileURLToPath(new URL('race.c', import.meta.url))
const SECONDS = 2

describe('several threads, whatever they meet in a line', { skip: missingTool() ?? false }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'pm-race-'))
  const program = join(folder, 'race')
  after(() => rmSync(folder, { recursive: true }))

  test('the program compiles', async () => {
    await run('clang', ['-O2', '-g', '-Wall', '-Wextra', '-Werror', '-pthread', source, '-o', program])
  })

  // Many clients keep the table full; few come again while their lines are being moved.
  for (const [lines, clients] of [
    [16, 512],
    [128, 512],
    [2048, 512],
    [2048, 8],
  ] as const) {
    test(`${lines} lines, ${clients} clients: counts are what the lines say, and every packet finds its real server`, async () => {
      const result = await run(program, [String(SECONDS), String(lines), '0', String(clients)]).catch(
        (error: unknown) => error,
      )
      const { stdout } = result as { stdout: string }
      assert.ok(!(result instanceof Error), stdout)
      assert.match(stdout, / 0 elsewhere; claimed 0, held 0; twice 0 in/)
      assert.match(stdout, / 0 times not whom a walk finds/)
    })
  }
})
