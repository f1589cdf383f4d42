/** What has happened and who did it: told by a daemon, and by the next one. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openJournal } from '../../../control/daemon/journal-file.ts'
import type { EventShown } from '../../../control/front/api/schema/event.ts'
import { ask } from '../front/ask.ts'
import { withDaemon } from './process.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

function ipvsadm(socket: string, words: readonly string[], stdin = ''): Promise<unknown> {
  const argv = ['ipvsadm', ...words].map((word) => `${word}\0`).join('')
  const headers = {
    'pointsman-argc': String(words.length + 1),
    'pointsman-stdin': stdin === '' ? 'unread' : 'sent',
  }
  return ask(socket, 'POST', '/v1/ipvsadm', { body: argv + stdin, headers })
}

async function kept(socket: string, query = ''): Promise<EventShown[]> {
  return JSON.parse(String((await ask(socket, 'GET', `/v1/events/kept${query}`)).body))
}

describe('events', () => {
  test('say what was changed, and by which program, process and user', () =>
    withDaemon({}, async ({ socket }) => {
      const service = 'tcp 192.0.2.10:80'
      await ask(socket, 'PUT', '/v1/services/tcp/192.0.2.10/80', { body: '{"scheduler":"rr"}' })
      await ipvsadm(socket, ['-a', '-t', '192.0.2.10:80', '-r', '10.0.0.1:80', '-m', '-w', '3'])
      await ipvsadm(socket, ['-e', '-t', '192.0.2.10:80', '-r', '10.0.0.1:80', '-m', '-w', '0'])
      // What is refused has not happened.
      await ipvsadm(socket, ['-a', '-t', '192.0.2.11:80', '-r', '10.0.0.1:80', '-m'])
      const servers = Array.from({ length: 20 }, (_, i) => `-a -u 192.0.2.10:53 -r 10.0.1.${i} -m\n`)
      await ipvsadm(socket, ['-R'], `-A -u 192.0.2.10:53 -s rr\n${servers.join('')}`)
      const who = `pid ${process.pid} of uid ${process.getuid?.()}`
      const events = await kept(socket, '?kind=rules')
      assert.deepEqual(
        events.map(({ about, service, server, words, by }) => [about, service, server, words, by]),
        [
          ['service', service, null, 'added: scheduler rr', `the API, ${who}`],
          ['server', service, '10.0.0.1:80', 'added: nat, weight 3', `ipvsadm, ${who}`],
          ['server', service, '10.0.0.1:80', 'edited: nat, weight 0 (was 3)', `ipvsadm, ${who}`],
          ['restore', null, null, 'service added: 1, server added: 20', `ipvsadm, ${who}`],
        ],
      )
      const all = await kept(socket)
      assert.match(all[0]!.words, /started, pid \d+: no data plane/)
      assert.ok(all.every(({ id }, i) => i === 0 || id > all[i - 1]!.id))
    }))

  test('are shown as they happen, also by a daemon that comes after this one', { timeout: 300_000 }, () =>
    withDaemon({}, async (daemon) => {
      const words = ['--import', 'tsx', join(root, 'control/cli/pointsman.ts'), 'events', '-f']
      const env = { ...process.env, POINTSMAN_SOCKET: daemon.socket, TZ: 'UTC' }
      const follower = spawn(process.execPath, words, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
      let told = ''
      for (const stream of [follower.stdout, follower.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => {
          told += text
        })
      const sees = async (pattern: RegExp): Promise<void> => {
        for (const stopAt = performance.now() + 60_000; !pattern.test(told); ) {
          assert.ok(performance.now() < stopAt, `${pattern} in ${told}`)
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
      }
      try {
        await sees(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}daemon {5}start .* started/m)
        await ask(daemon.socket, 'PUT', '/v1/sysctls/sloppy_tcp', { body: '{"value":1}' })
        await sees(/rules {6}settings sloppy_tcp=1 {2}\(the API, pid/)
        daemon.child.kill('SIGTERM')
        assert.equal(await daemon.ended(), 0)
        await sees(/the daemon has gone; waiting for it/)
        const next = spawn(
          process.execPath,
          [
            ...['--import', 'tsx', join(root, 'control/daemon/pointsmand.ts')],
            ...['--dataplane', 'none', '--run-dir', daemon.folder],
          ],
          { cwd: root, stdio: 'ignore' },
        )
        await sees(/the daemon is back/)
        await sees(/stopping: SIGTERM(.|\n)*started, pid/)
        assert.equal(told.match(/sloppy_tcp=1/g)?.length, 1, 'nothing is told twice')
        next.kill()
        await once(next, 'exit')
      } finally {
        follower.kill()
      }
    }),
  )
})

describe('the journal', () => {
  const folder = (): string => mkdtempSync(join(tmpdir(), 'pointsman-journal-'))

  test('goes on where the last one stopped, whatever a killed daemon has left of it', () => {
    const place = folder()
    const warn = (message: string): void => assert.fail(message)
    const first = openJournal(place, () => 1000, warn)
    first.add({ kind: 'daemon', about: 'start', words: 'one' })
    first.add({ kind: 'rules', about: 'service', words: 'two' })
    appendFileSync(join(place, 'events.jsonl'), '{"id":7,"kind":"nonsense"}\n{"id":99999999,"atM')
    // A clock that was put back.
    const second = openJournal(place, () => 500, warn)
    const added = second.add({ kind: 'daemon', about: 'start', words: 'three' })
    const all = second.since(0)
    assert.deepEqual(
      all.map(({ words }) => words),
      ['one', 'two', 'three'],
    )
    assert.ok(added.id > all[1]!.id)
    rmSync(place, { recursive: true })
  })

  test('keeps the last thousand in memory and some on disk, however much happens', () => {
    const place = folder()
    const journal = openJournal(place, Date.now, assert.fail)
    for (let i = 0; i < 6000; i++) journal.add({ kind: 'health', about: 'check', words: 'x'.repeat(2000) })
    assert.equal(journal.since(0).length, 1024)
    for (const name of ['events.jsonl', 'events.jsonl.1'])
      assert.ok(statSync(join(place, name)).size < 600_000, name)
    assert.ok(journal.since(0)[0]!.words.length <= 1001)
    rmSync(place, { recursive: true })
  })

  test('goes on in memory where the disk takes nothing, and says so once', () => {
    const place = folder()
    const said: string[] = []
    const journal = openJournal(join(place, 'gone'), Date.now, (message) => said.push(message))
    for (let i = 0; i < 3; i++) journal.add({ kind: 'health', about: 'check', words: String(i) })
    assert.equal(journal.since(0).length, 3)
    assert.equal(said.length, 1)
    assert.match(said[0]!, /Cannot keep events in .*ENOENT/)
    assert.ok(!existsSync(join(place, 'gone')))
    rmSync(place, { recursive: true })
  })
})
