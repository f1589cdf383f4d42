import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Hooks } from '../../../control/health/hooks.ts'
import { until } from '../../../lab/command.ts'

const repository = fileURLToPath(new URL('../../..', import.meta.url))
const hooks = fileURLToPath(new URL('../../../control/health/hooks.ts', import.meta.url))

test('a hook that cannot be run is a line in the log, whatever is wrong with it', async () => {
  const lines: string[] = []
  const { run } = new Hooks((line) => void lines.push(line))
  run({ command: ['/no/such/program'], user: null }, { POINTSMAN_SERVICE: 'a' })
  run({ command: ['/bin/true'], user: 'nobody-of-this-name' }, { POINTSMAN_SERVICE: 'b' })
  run({ command: ['/bin/true', 'a\0b'], user: null }, { POINTSMAN_SERVICE: 'c' })
  while (lines.length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  const text = lines.sort().join('\n')
  assert.match(text, /^Cannot run \/bin\/true: .*null bytes/m)
  assert.match(text, /^Cannot run \/no\/such\/program: spawn \/no\/such\/program ENOENT$/m)
  assert.match(text, /^\/bin\/true: Cannot run it as "nobody-of-this-name"/m)
})

test('a user that the daemon may not become is said, with what mends it, and ends nothing', () => {
  const script = `
    import { Hooks } from ${JSON.stringify(hooks)}
    new Hooks((line) => console.log(line)).run({ command: ['/bin/true'], user: 'nobody' }, {})
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

test('few run at a time; about one service only the last that waits is run, after the one before', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-hooks-'))
  const go = join(folder, 'go')
  const written = (): string[] => {
    try {
      return readFileSync(join(folder, 'log'), 'utf8').trim().split('\n')
    } catch {
      return []
    }
  }
  const script = `echo "begins $1" >>log; n=0; while [ ! -e go ] && [ $n -lt 1500 ]; do n=$((n+1)); sleep 0.02; done; echo "ends $1" >>log`
  const command = (word: string) => ['/bin/sh', '-c', `cd ${folder}; ${script}`, 'hook', word]
  const lines: string[] = []
  const hooks = new Hooks((line) => void lines.push(line))
  const tell = (service: string, word: string) =>
    hooks.run({ command: command(word), user: null }, { POINTSMAN_SERVICE: service })
  try {
    tell('flapping', 'down 1')
    for (let n = 2; n < 500; n++) tell('flapping', n % 2 === 0 ? `up ${n}` : `down ${n}`)
    for (let n = 0; n < 40; n++) tell(`service ${n}`, 'down')
    await until('some to have begun', 30_000, () => (written().length >= 16 ? true : undefined))
    assert.equal(written().length, 16)
    writeFileSync(go, '')
    await until('all to have ended', 30_000, () => (written().length >= 84 ? true : undefined))
    const about = written().filter((line) => /\d$/.test(line))
    assert.deepEqual(about, ['begins down 1', 'ends down 1', 'begins down 499', 'ends down 499'])
    assert.deepEqual(lines, ['Hooks take longer than what they are told of: changes in between are skipped'])
    rmSync(go)
    tell('flapping', 'up 1')
    tell('flapping', 'down 2')
    hooks.hurry()
    await until('the last one to have begun', 30_000, () =>
      written().includes('begins down 2') ? true : undefined,
    )
    writeFileSync(go, '')
    await until('both to have ended', 30_000, () => (written().length >= 88 ? true : undefined))
  } finally {
    writeFileSync(go, '')
    rmSync(folder, { recursive: true })
  }
})
