import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { hookRunner } from '../../../control/health/hooks.ts'

const repository = fileURLToPath(new URL('../../..', import.meta.url))
const hooks = fileURLToPath(new URL('../../../control/health/hooks.ts', import.meta.url))

test('a hook that cannot be run is a line in the log, whatever is wrong with it', async () => {
  const lines: string[] = []
  const run = hookRunner((line) => void lines.push(line))
  run({ command: ['/no/such/program'], user: null }, {})
  run({ command: ['/bin/true'], user: 'nobody-of-this-name' }, {})
  run({ command: ['/bin/true', 'a\0b'], user: null }, {})
  while (lines.length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  const text = lines.sort().join('\n')
  assert.match(text, /^Cannot run \/bin\/true: .*null bytes/m)
  assert.match(text, /^Cannot run \/no\/such\/program: spawn \/no\/such\/program ENOENT$/m)
  assert.match(text, /^\/bin\/true: Cannot run it as "nobody-of-this-name"/m)
})

test('a user that the daemon may not become is said, with what mends it, and ends nothing', () => {
  const script = `
    import { hookRunner } from ${JSON.stringify(hooks)}
    hookRunner((line) => console.log(line))({ command: ['/bin/true'], user: 'nobody' }, {})
    console.log('still here')`
  const said = execFileSync(
    'setpriv',
    ['--bounding-set=-all,+net_admin', '--inh-caps=-all', process.execPath, '--import', 'tsx'].concat([
      ...['--input-type=module', '-e', script],
    ]),
    { cwd: repository, encoding: 'utf8' },
  )
  assert.match(said, /^Cannot run \/bin\/true as "nobody": spawn EPERM: .*systemctl edit pointsmand/m)
  assert.match(said, /^still here$/m)
})
