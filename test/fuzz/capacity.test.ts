/** Whom a full connection table serves, see capacity.c: minutes of traffic in seconds of work. */
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
const source = fileURLToPath(new URL('capacity.c', import.meta.url))

/** Scenario, seconds of traffic (of `load`: lines of the table), and what must be true; both methods, a table of the default size. */
const SCENARIOS = [
  ['short', 150, '20,000 short connections a second: none is refused'],
  ['lookups', 150, '10,000 name lookups a second: none is refused'],
  ['syn', 4, 'a million SYNs a second: conversations go on, and others begin'],
  ['forged', 30, '50,000 forged connections a second: conversations go on, and others begin'],
  ['datagrams', 20, '100,000 single datagrams a second: no handshake fails'],
  ['alone', 300, 'with no daemon alive, none is refused and counts stay exact'],
  ['growth', 0, 'a table grows under connections that stay, and shrinks: each is found, none gives way'],
  ['load', 65_536, 'a table grows to its ceiling under load: no connection loses a packet, none gives way'],
  ['calls', 0, 'one client has as many calls as others have connections: each stays with its real server'],
  ['thresholds', 0, 'with no daemon alive, thresholds that were reached open again'],
] as const

describe('a full connection table', { skip: missingTool() ?? false }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'pm-capacity-'))
  const program = join(folder, 'capacity')
  after(() => rmSync(folder, { recursive: true }))

  test('the program compiles', async () => {
    await run('clang', ['-O2', '-g', '-Wall', '-Wextra', '-Werror', source, '-o', program])
  })

  for (const [scenario, seconds, what] of SCENARIOS) {
    test(what, async (t) => {
      const result = await run(program, [scenario, String(seconds)]).catch((error: unknown) => error)
      const { stdout } = result as { stdout: string }
      assert.ok(!(result instanceof Error), stdout)
      for (const line of stdout.trim().split('\n')) t.diagnostic(line)
    })
  }
})
