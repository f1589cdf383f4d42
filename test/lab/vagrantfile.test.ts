import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type CommandResult, run } from '../../lab/command.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const installed = await run(['vagrant', '--version']).then(
  ({ status }) => status === 0,
  () => false,
)

async function validate(options: readonly string[]): Promise<CommandResult> {
  const home = mkdtempSync(join(tmpdir(), 'pointsman-vagrant.'))
  try {
    return await run(['vagrant', 'validate', ...options], {
      cwd: root,
      env: {
        ...process.env,
        VAGRANT_HOME: home,
        VAGRANT_DOTFILE_PATH: join(home, 'dotfiles'),
        VAGRANT_CHECKPOINT_DISABLE: '1', // asks nobody for a newer version
      },
    })
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

test('the Vagrantfile is valid and has nothing vagrant would warn of', {
  skip: installed ? false : 'vagrant is not installed (apt-get install vagrant)',
}, async () => {
  let result = await validate([])
  // Without VirtualBox or libvirt on the machine vagrant refuses before it looks at the file.
  if (/No usable default provider/.test(result.stderr)) result = await validate(['--ignore-provider'])
  assert.equal(result.status, 0, result.stdout + result.stderr)
  assert.match(result.stdout, /Vagrantfile validated successfully/)
  assert.doesNotMatch(result.stdout + result.stderr, /static IP|warning|deprecat/i)
})
