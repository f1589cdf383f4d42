/** The daemon as a process, without a data plane: its folder, its socket, its end. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { CommanderError } from 'commander'
import { stateFile } from '../../../control/apply/state-file.ts'
import { parseDaemonOptions } from '../../../control/daemon/options.ts'
import { answers } from '../../../control/daemon/run-directory.ts'
import { ClientError, call, NoDaemonError } from '../../../control/front/api/client.ts'
import { notify } from '../../../linux/sd-notify.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const source = (name: string) => join(root, 'control', name)

describe('pointsmand as a process', () => {
  let folder: string
  let socket: string
  const children = new Set<ChildProcess>()

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pointsman-test-'))
    socket = join(folder, 'pointsman.sock')
  })
  afterEach(async () => {
    for (const child of children) await stop(child, 'SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  after(() => assert.equal(children.size, 0))

  const start = (...more: string[]): ChildProcess => {
    const args = [
      '--import',
      'tsx',
      source('daemon/pointsmand.ts'),
      '--dataplane',
      'none',
      '--run-dir',
      folder,
      ...more,
    ]
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] })
    children.add(child)
    return child
  }
  const stop = (child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> =>
    new Promise((resolve) => {
      const done = () => {
        children.delete(child)
        resolve(child.exitCode)
      }
      if (child.exitCode !== null || child.signalCode !== null) done()
      else {
        child.once('exit', done)
        child.kill(signal)
      }
    })
  const ready = async (): Promise<void> => {
    for (const late = performance.now() + 90_000; !(await answers(socket)) && performance.now() < late; ) {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    assert.ok(await answers(socket), 'the daemon answers')
  }
  const failing = (...more: string[]) => {
    const args = ['--import', 'tsx', source('daemon/pointsmand.ts'), ...more]
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    return { status, stderr }
  }

  test('serves its owner only, refuses a second one, and cleans up behind itself', async () => {
    const first = start()
    await ready()
    assert.equal(statSync(socket).mode & 0o777, 0o600)
    assert.equal(statSync(folder).mode & 0o077, 0o000, 'the folder itself is left as it was')
    await call(socket, 'PUT', '/v1/services/tcp/192.0.2.1/80', { scheduler: 'rr' })
    const status = (await call(socket, 'GET', '/v1/status')) as { forwarding: boolean; services: number }
    assert.deepEqual([status.forwarding, status.services], [false, 1])
    const second = failing('--dataplane', 'none', '--run-dir', folder)
    assert.equal(second.status, 1)
    assert.match(second.stderr, /Another pointsmand runs in .*stop it first/)
    const nowhere = failing('--dataplane', 'none', '--run-dir', '/proc/nothing')
    assert.equal(nowhere.status, 1)
    assert.match(nowhere.stderr, /Cannot make the run directory \/proc\/nothing/)
    assert.doesNotMatch(nowhere.stderr, /at .*\.ts:/, 'no stack trace')
    await assert.rejects(call(socket, 'GET', '/v1/services/tcp/192.0.2.9/80'), ClientError)
    assert.equal(await stop(first, 'SIGTERM'), 0)
    assert.ok(!existsSync(socket))
  })

  test('takes over the socket of one that was killed', async () => {
    const first = start()
    await ready()
    await stop(first, 'SIGKILL')
    assert.ok(existsSync(socket))
    const second = start()
    await ready()
    assert.equal(await stop(second, 'SIGINT'), 0)
  })

  test('a peer on the socket that never accepts does not hold up the start', async () => {
    const script = `require('node:net').createServer().listen({ path: ${JSON.stringify(socket)}, backlog: 1 },
      () => console.log('listening'))`
    const peer = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    children.add(peer)
    await new Promise((resolve) => peer.stdout.once('data', resolve))
    peer.kill('SIGSTOP')
    const clients = Array.from({ length: 4 }, () => connect(socket).on('error', () => {}))
    assert.equal(await answers(socket), false)
    start()
    await ready()
    for (const client of clients) client.destroy()
  })

  test('ends after a detach', async () => {
    const child = start()
    await ready()
    const ended = new Promise((resolve) => child.once('exit', resolve))
    assert.deepEqual(await call(socket, 'POST', '/v1/detach', {}), { detached: true })
    assert.equal(await ended, 0)
    children.delete(child)
  })

  test('without a daemon the client says how to start one', async () => {
    await assert.rejects(call(socket, 'GET', '/v1/status'), (error: Error) => {
      assert.ok(error instanceof NoDaemonError)
      assert.match(error.message, /pointsmand --interface/)
      return true
    })
  })

  test('pointsman: a reader that goes away early is no failure', () => {
    const command = `(sleep 0.2; exec "${process.execPath}" --import tsx "${source('cli/pointsman.ts')}" --help) | true`
    const { status, stderr } = spawnSync('bash', ['-o', 'pipefail', '-c', command], {
      cwd: root,
      encoding: 'utf8',
    })
    assert.equal(stderr, '')
    assert.equal(status, 0)
  })

  test('pointsman: wrong usage is 2, no daemon is 1, words tell what to do', async () => {
    const run = (...args: string[]) =>
      spawnSync(process.execPath, ['--import', 'tsx', source('cli/pointsman.ts'), ...args], {
        cwd: root,
        encoding: 'utf8',
        env: { ...process.env, POINTSMAN_SOCKET: socket },
      })
    assert.equal(run('bogus').status, 2)
    assert.match(run('bogus').stderr, /unknown command "bogus"/)
    assert.equal(run('--help').status, 0)
    const status = run('status')
    assert.equal(status.status, 1)
    assert.match(status.stderr, /start one: pointsmand --interface/)
    start()
    await ready()
    const set = run('set', 'sloppy_tcp=1', 'drop_packet=9')
    assert.equal(set.status, 1)
    assert.match(set.stderr, /Cannot set drop_packet to 9: expected 0 to 3/)
    assert.match(run('settings').stdout, /^sloppy_tcp=1$/m)
    const shown = run('status', '--json')
    assert.equal(shown.status, 1, 'not forwarding')
    assert.equal(JSON.parse(shown.stdout).dataplane.kind, 'none')
  })
})

describe('command line of pointsmand', () => {
  const parse = (...words: string[]) => {
    const said: string[] = []
    const complain = { out: (text: string) => said.push(text), err: (text: string) => said.push(text) }
    try {
      return { options: parseDaemonOptions(words, complain), status: null, said: '' }
    } catch (error) {
      if (!(error instanceof CommanderError)) throw error
      return { options: null, status: error.exitCode, said: said.join('') }
    }
  }

  test('says what it will do without words', () => {
    const { options } = parse()
    assert.equal(options?.dataplane, 'auto')
    assert.equal(options?.runDirectory, '/run/pointsman')
    assert.deepEqual(options?.interfaces, [])
    assert.deepEqual(parse('--interface', 'eth0', '-i', 'eth1').options?.interfaces, ['eth0', 'eth1'])
  })

  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [['--dataplane', 'ebpf'], /auto, xdp, tc, userspace, none/],
    [['--xdp-mode', 'fast'], /auto, native, generic/],
    [['--interface', 'a/b'], /name of a network interface/],
    [['--interface', 'longer-than-fifteen'], /name of a network interface/],
    [['--interface', '..'], /name of a network interface/],
    [['--connections', '1e6'], /whole number of at least 64/],
    [['--connections', '-1'], /argument/],
    [['--workers', '0'], /whole number of at least 1/],
    [['--bogus'], /unknown option/],
    [['stray'], /too many arguments/],
  ]
  for (const [words, message] of wrong) {
    test(`${words.join(' ')} is refused`, () => {
      const { status, said } = parse(...words)
      assert.equal(status, 1)
      assert.match(said, message)
    })
  }

  test('help is no failure', () => {
    const { status, said } = parse('--help')
    assert.equal(status, 0)
    assert.match(said, /--interface <name>/)
  })
})

describe('state file', () => {
  const state = {
    sysctls: { sloppy_tcp: 1 },
    daemons: [],
    counters: { reals: [], services: [], total: [] },
    lastWeights: [],
    saidWeights: [],
    owners: {},
    holds: [],
    marks: [],
  }

  const inFolder = (play: (folder: string) => void): void => {
    const folder = mkdtempSync(join(tmpdir(), 'pointsman-test-'))
    try {
      play(folder)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  test('is kept over a restart, not over a reboot, and never half', () =>
    inFolder((folder) => {
      const path = join(folder, 'state-0000002a.json')
      const warnings: string[] = []
      const open = (boot: string) => stateFile(folder, boot, (message) => warnings.push(message))
      assert.equal(open('a').load(42), null)
      open('a').save(42, state)
      assert.deepEqual(readdirSync(folder), ['state-0000002a.json'])
      assert.equal(statSync(path).mode & 0o777, 0o600)
      assert.deepEqual(open('a').load(42)?.sysctls, { sloppy_tcp: 1 })
      assert.equal(open('b').load(42), null)
      writeFileSync(path, readFileSync(path, 'utf8').slice(0, -5))
      assert.equal(open('a').load(42), null)
      writeFileSync(path, '{"version":1}')
      assert.equal(open('a').load(42), null)
      assert.equal(warnings.length, 2)
      open('a').remove(42)
      assert.ok(!existsSync(path))
    }))

  test('of other maps is neither used nor taken away', () =>
    inFolder((folder) => {
      const file = stateFile(folder, 'a')
      file.save(1, state)
      assert.equal(file.load(2), null)
      file.save(2, { ...state, sysctls: {} })
      file.remove(2)
      assert.deepEqual(file.load(1)?.sysctls, { sloppy_tcp: 1 })
      // Not even under another name.
      copyFileSync(join(folder, 'state-00000001.json'), join(folder, 'state-00000002.json'))
      assert.equal(file.load(2), null)
    }))

  test('of maps that nobody came back for does not pile up', () =>
    inFolder((folder) => {
      for (let maps = 1; maps <= 30; maps++) stateFile(folder, 'a').save(maps, state)
      assert.equal(readdirSync(folder).length, 8)
      assert.notEqual(stateFile(folder, 'a').load(30), null)
    }))

  test('is not written over anything that is no file', () =>
    inFolder((folder) => {
      mkdirSync(join(folder, 'state-00000007.json'))
      assert.throws(() => stateFile(folder, 'a').save(7, state), /state-00000007\.json.*other than a file/)
    }))
})

describe('notice to systemd', () => {
  test('says nothing without a socket, and complains about a wrong one', () => {
    notify('READY=1', undefined)
    assert.throws(() => notify('READY=1', '/nonexistent/notify'), /notify \/nonexistent\/notify/)
  })
})
