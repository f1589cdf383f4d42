/** What packets share with other CPUs, whatever those do at any moment of a packet: see the programs' own words. */
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

describe('another CPU at any moment of a packet', { skip: missingTool() ?? false }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'pm-other-cpu-'))
  after(() => rmSync(folder, { recursive: true }))

  for (const [name, what] of [
    ['owners', 'nobody takes, or acts on, what has another owner by now'],
    ['brackets', 'a bracket says whom a walk would find'],
    ['ports', 'full NAT gives nobody a port that another connection has, and loses none'],
    ['limits', 'no source has more connections than it may, nor less for ever'],
  ] as const) {
    test(what, async () => {
      const program = join(folder, name)
      const source = fileURLToPath(new URL(`${name}.c`, import.meta.url))
      await run('clang', ['-O0', '-g', '-Wall', '-Wextra', '-Werror', source, '-o', program])
      const result = await run(program).catch((error: unknown) => error)
      assert.ok(!(result instanceof Error), (result as { stdout: string }).stdout.slice(0, 4000))
    })
  }
})
