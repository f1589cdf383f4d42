/** What the systemd unit promises, as far as systemd-analyze can tell without starting it. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { must, run } from '../../lab/command.ts'
import { repository } from './installation.ts'

const path = join(repository, 'deploy/pointsmand.service')
const text = readFileSync(path, 'utf8')
const EXPOSURE_MAX = 3.0

const analyze = await run(['systemd-analyze', '--version']).then(
  ({ status }) => status === 0,
  () => false,
)
const skip = analyze ? false : 'systemd-analyze is not installed (apt-get install systemd)'

/** The value a directive has in the end; the last line wins. */
function directive(name: string): string | undefined {
  return [...text.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].at(-1)?.[1]
}

test('exposure to attacks is small', { skip }, async () => {
  const report = await run(['systemd-analyze', 'security', '--offline=true', '--no-pager', path])
  const exposure = /Overall exposure level for .*: ([\d.]+)/.exec(report.stdout)?.[1]
  assert.ok(exposure !== undefined, report.stdout + report.stderr)
  assert.ok(Number(exposure) <= EXPOSURE_MAX, `exposure is ${exposure}`)
})

test('systemd knows every directive, save the two that came with 254', { skip }, async () => {
  const { stderr } = await run(['systemd-analyze', 'verify', '--man=no', path])
  const strange = stderr
    .split('\n')
    .filter((line) => line.includes('pointsmand.service'))
    .filter((line) => !/Unknown key(?: name)? 'Restart(Steps|MaxDelaySec)'/.test(line))
    // The command is not installed here.
    .filter((line) => !/Command pointsmand is not executable/.test(line))
  assert.deepEqual(strange, [])
})

test('capabilities are the four that are documented, and no others', async () => {
  const four = ['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_PERFMON']
  assert.deepEqual(directive('CapabilityBoundingSet')?.split(' ').sort(), four)
  assert.equal(directive('AmbientCapabilities'), '')
  for (const page of ['README.md', 'man/pointsmand.8']) {
    const words = readFileSync(join(repository, page), 'utf8')
    assert.deepEqual([...new Set(words.match(/CAP_\w+/g))].sort(), four, page)
  }
})

test('the BPF file system can be written', () => {
  // ProtectKernelTunables has it in its own list of what is read-only; ReadWritePaths does not undo that.
  assert.notEqual(directive('ProtectKernelTunables'), 'yes')
  assert.match(directive('ReadOnlyPaths') ?? '', /(^| )\/sys( |$)/)
  assert.equal(directive('ReadWritePaths'), '/sys/fs/bpf')
})

test('a late interface trips no limit, a detached director stays detached', () => {
  assert.equal(directive('StartLimitIntervalSec'), '0')
  assert.equal(directive('Restart'), 'on-failure')
  assert.match(directive('EnvironmentFile') ?? '', /^-/, 'the file may be missing')
})

test('the default file is one that systemd and a shell read alike', async () => {
  const file = join(repository, 'deploy/pointsmand.default')
  assert.equal(await must(['sh', '-c', '. "$1"; printf %s "$POINTSMAND_OPTIONS"', 'sh', file]), '')
})
