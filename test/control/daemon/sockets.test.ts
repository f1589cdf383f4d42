/** Who may talk to the daemon. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { groupId } from '../../../linux/group.ts'
import { withDaemon } from './process.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const skip = process.geteuid?.() === 0 ? false : 'needs root to be somebody else'

const GROUP = 'daemon'
const NOBODY = 65534
/** The rights of our own unit, and the group among those of the process. */
const UNIT = [
  'setpriv',
  ...['--bounding-set', '-all,+net_admin,+bpf,+net_raw,+perfmon', '--inh-caps', '-all'],
]

/** The HTTP status that nobody gets, as a member of a group or of none; or the error. */
function asNobody(group: number, socket: string, method: string, path: string): string {
  const script = `
    const request = require('node:http').request({ socketPath: ${JSON.stringify(socket)}, method: '${method}', path: '${path}' },
      (answer) => { console.log(answer.statusCode); process.exit() })
    request.on('error', (error) => console.log(error.code))
    request.end()`
  const { stdout } = spawnSync(
    'setpriv',
    ['--reuid', String(NOBODY), '--regid', String(group), '--clear-groups', process.execPath, '-e', script],
    { encoding: 'utf8', cwd: '/' },
  )
  return stdout.trim()
}

describe('sockets', { skip }, () => {
  const gid = skip === false ? (groupId(GROUP) ?? -1) : -1

  test('without words there is one, for root alone', () =>
    withDaemon({}, async ({ folder, socket }) => {
      chmodSync(folder, 0o755)
      assert.equal(statSync(socket).mode & 0o777, 0o600)
      assert.ok(!existsSync(join(folder, 'pointsman-read.sock')))
      assert.equal(asNobody(gid, socket, 'GET', '/v1/status'), 'EACCES')
    }))

  test('a group may be let in, and nobody else', () =>
    withDaemon(
      { options: ['--socket-group', GROUP], within: [...UNIT, '--groups', String(gid)] },
      async ({ folder, socket }) => {
        chmodSync(folder, 0o755)
        const { mode, gid: owner, uid } = statSync(socket)
        assert.deepEqual([mode & 0o777, uid, owner], [0o660, 0, gid])
        assert.equal(asNobody(gid, socket, 'GET', '/v1/status'), '200')
        assert.equal(asNobody(gid, socket, 'DELETE', '/v1/services'), '204')
        assert.equal(asNobody(NOBODY, socket, 'GET', '/v1/status'), 'EACCES')
      },
    ))

  test('everybody may be let in to look, and does not get to change anything', () =>
    withDaemon(
      { options: ['--read-only-socket'], within: UNIT },
      async ({ folder, socket, child, ended }) => {
        chmodSync(folder, 0o755)
        const readers = join(folder, 'pointsman-read.sock')
        assert.equal(statSync(readers).mode & 0o777, 0o666)
        assert.equal(statSync(socket).mode & 0o777, 0o600)
        assert.equal(asNobody(NOBODY, readers, 'GET', '/v1/status'), '200')
        assert.equal(asNobody(NOBODY, readers, 'DELETE', '/v1/services'), '403')
        // The command as it is installed, where nobody can read it: a checkout may be for its owner alone.
        const command = join(folder, 'pointsman.mjs')
        cpSync(join(root, 'dist/pointsman.js'), command)
        for (const name of ['koffi', '@koromix'])
          cpSync(join(root, 'node_modules', name), join(folder, 'node_modules', name), { recursive: true })
        const pointsman = spawnSync(
          'setpriv',
          [
            ...['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'],
            ...[process.execPath, command, 'settings'],
          ],
          { encoding: 'utf8', cwd: '/', env: { ...process.env, POINTSMAN_SOCKET: socket } },
        )
        assert.match(pointsman.stdout, /^sloppy_tcp=0$/m, pointsman.stderr)
        child.kill('SIGTERM')
        assert.equal(await ended(), 0)
        assert.ok(!existsSync(readers))
      },
    ))

  test('or a group may be let in to look', () =>
    withDaemon({ options: ['--read-only-socket', GROUP] }, async ({ folder }) => {
      chmodSync(folder, 0o755)
      const readers = join(folder, 'pointsman-read.sock')
      assert.deepEqual([statSync(readers).mode & 0o777, statSync(readers).gid], [0o660, gid])
      assert.equal(asNobody(gid, readers, 'GET', '/v1/status'), '200')
      assert.equal(asNobody(NOBODY, readers, 'GET', '/v1/status'), 'EACCES')
    }))

  test('a group that does not exist, or may not be given, ends the start with what mends it', () =>
    withDaemon({}, async ({ folder }) => {
      const start = (within: readonly string[], group: string): string => {
        const [program, ...words] = [
          ...within,
          ...[process.execPath, '--import', 'tsx', join(root, 'control/daemon/pointsmand.ts')],
          ...['--dataplane', 'none', '--run-dir', join(folder, 'other'), '--socket-group', group],
        ]
        const { status, stderr } = spawnSync(program!, words, { cwd: root, encoding: 'utf8' })
        assert.equal(status, 1, stderr)
        assert.ok(!existsSync(join(folder, 'other/pointsman.sock')))
        return stderr
      }
      assert.match(
        start([], 'no-such-group'),
        /No group \\"no-such-group\\": make it: groupadd --system no-such-group/,
      )
      assert.match(start([...UNIT, '--clear-groups'], GROUP), /SupplementaryGroups=daemon/)
    }))
})
