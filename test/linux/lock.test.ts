import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { CLONE_NEWNET } from '../../linux/abi.ts'
import { check, libc } from '../../linux/libc.ts'
import { lockHolder, sweepLock, tryLock } from '../../linux/lock.ts'
import { lockNetns } from '../../linux/netns-lock.ts'

const folder = mkdtempSync(join(tmpdir(), 'pointsman-lock-'))
after(() => rmSync(folder, { recursive: true }))
const holder = { pid: process.pid, program: 'a test', socket: '/run/x/pointsman.sock' }
const module = new URL('../../linux/lock.ts', import.meta.url).href

/** A process that runs `code`, in which `lock` is the module and `path` the file, and then stays. */
async function other(path: string, code: string) {
  const script = `const lock = await import(${JSON.stringify(module)}); const path = ${JSON.stringify(path)}
    ${code}; console.log('done'); setInterval(() => {}, 60_000)`
  const argv = ['--import', import.meta.resolve('tsx'), '--input-type=module', '-e', script]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout!, 'data')
  return {
    async kill() {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    },
  }
}

test('lock: one holds it, the next is told who, and it is free again after kill -9', async () => {
  const path = join(folder, 'killed')
  assert.equal(lockHolder(path), null)
  const first = await other(path, `lock.tryLock(path, { pid: process.pid, program: 'the other' })`)
  const refused = tryLock(path, holder)
  assert.equal(refused.lock, null)
  assert.equal(refused.holder?.program, 'the other')
  assert.deepEqual(lockHolder(path), refused.holder)
  await first.kill()
  assert.equal(lockHolder(path), null, 'what the file says of a dead holder counts for nothing')
  const { lock } = tryLock(path, holder)
  assert.ok(lock)
  assert.deepEqual(lockHolder(path), holder)
  assert.equal(tryLock(path, holder).lock, null, 'nor twice by one process')
  lock.release()
  assert.equal(existsSync(path), false)
})

test('lock: only who may open the file can take or disturb it', {
  skip: process.getuid?.() === 0 ? false : 'needs root to become somebody else',
}, () => {
  const path = join(folder, 'private')
  const { lock } = tryLock(path, holder)
  assert.ok(lock)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  const stranger = spawnSync('setpriv', ['--reuid=65534', '--clear-groups', 'flock', '-n', path, 'true'])
  assert.notEqual(stranger.status, 0)
  lock.release()
})

test('lock: a file that its holder removes does not lock who comes next to nothing', () => {
  const path = join(folder, 'removed')
  const first = tryLock(path, holder)
  first.lock?.release()
  const second = tryLock(path, holder)
  assert.ok(second.lock)
  sweepLock(path)
  assert.ok(existsSync(path), 'a held one is not swept')
  second.lock.release()
  writeFileSync(path, '')
  sweepLock(path)
  assert.equal(existsSync(path), false)
})

test('lock: a link in the place of the file is not followed', () => {
  const path = join(folder, 'link')
  symlinkSync('/dev/null', path)
  assert.throws(() => tryLock(path, holder), /ELOOP/)
})

test('lock: who may not take it is told what it is about, and as whom to try', {
  skip: process.getuid?.() === 0 ? false : 'needs root, to be somebody else',
}, () => {
  check(libc.unshare(CLONE_NEWNET), 'make a network namespace')
  // The folder is there, as on any machine that has had a director.
  lockNetns('control', { pid: process.pid, program: 'pointsman detach' }).release()
  process.seteuid?.(65_534)
  try {
    assert.throws(
      () => lockNetns('control', { pid: process.pid, program: 'pointsman detach' }),
      /Cannot work in this network namespace: permission denied .*; run as root: sudo pointsman detach$/,
    )
  } finally {
    process.seteuid?.(0)
  }
})
