/** The manual and the completion know every option the grammar knows. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SPELLINGS } from '../../../../control/front/ipvsadm/grammar.ts'

const root = fileURLToPath(new URL('../../../..', import.meta.url))
const groff = spawnSync('groff', ['--version']).status === 0

test('the manual names every option', () => {
  const manual = readFileSync(join(root, 'man/ipvsadm.8'), 'utf8')
    .replaceAll('\\-', '-')
    .replaceAll(/ , |\n/g, ' ')
  const words = new Set(manual.split(/[\s,|]+/))
  const missing = SPELLINGS.filter(({ long, short }) => {
    const named = words.has(long) || words.has(`-${long}`) || words.has(`--${long}`)
    return !named || (short !== undefined && !words.has(short))
  })
  assert.deepEqual(missing, [])
})

test('manual pages are clean', { skip: groff ? false : 'groff is missing' }, () => {
  for (const page of readdirSync(join(root, 'man'))) {
    const { stderr, status } = spawnSync('groff', ['-mdoc', '-Tutf8', '-ww', '-z', join(root, 'man', page)])
    assert.deepEqual([String(stderr), status], ['', 0], page)
  }
})

/** What bash would offer for a line. */
function complete(file: string, name: string, words: readonly string[]): string[] {
  const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _${name}; printf '%s\\n' "\${COMPREPLY[@]}"`
  const path = join(root, 'deploy/completion', file)
  const output = execFileSync('bash', ['--norc', '-c', script, 'bash', path, ...words], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH ?? '', POINTSMAN_SOCKET: '/nonexistent' },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return output.split('\n').filter((line) => line !== '')
}

test('completion offers commands first, then what goes with them', () => {
  const commands = complete('ipvsadm.bash', 'ipvsadm', ['ipvsadm', ''])
  for (const { long, role } of SPELLINGS) {
    if (role.kind === 'command') assert.ok(commands.includes(`--${long}`), long)
  }
  assert.deepEqual(complete('ipvsadm.bash', 'ipvsadm', ['ipvsadm', '-A', '-s', 'lb']), ['lblc', 'lblcr'])
  assert.deepEqual(complete('ipvsadm.bash', 'ipvsadm', ['ipvsadm', '-a', '--tun-t']), ['--tun-type'])
  assert.deepEqual(complete('pointsman.bash', 'pointsman', ['pointsman', 'do']), ['doctor'])
  assert.deepEqual(complete('pointsman.bash', 'pointsmand', ['pointsmand', '--xdp-mode', 'n']), ['native'])
})
