/** `pointsman register`: whoever serves is in the registry as long as it does, as an ordinary user. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, mkdtempSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { endWithUs } from '../../../lab/processes.ts'
import { addressOf, etcdAddress, poolOf } from './addresses.ts'
import { ConsulStandIn } from './consul-stand-in.ts'
import { answering, etcdMissing, startEtcd } from './etcd-process.ts'
import { freePorts } from './processes.ts'
import { Watching } from './watching.ts'
import { ZooKeeper, zookeeperMissing } from './zookeeper-process.ts'

const NOBODY = 65_534
/** Where an ordinary user can read it: the checkout may be nobody else's to look into. */
const folder = mkdtempSync(join(tmpdir(), 'pointsman-register-'))
const root = fileURLToPath(new URL('../../..', import.meta.url))
const program = join(folder, 'pointsman.mjs')
await build({
  entryPoints: [join(root, 'control/cli/pointsman.ts')],
  outfile: program,
  ...{ bundle: true, format: 'esm', platform: 'node', external: ['koffi'] },
  loader: { '.html': 'text', '.yaml': 'text' },
  banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
})
for (const name of ['koffi', '@koromix']) {
  cpSync(join(root, 'node_modules', name), join(folder, 'node_modules', name), { recursive: true })
}
chmodSync(folder, 0o755)
const children: ChildProcess[] = []
after(() => {
  // Of a test that has failed; the file would not end before them.
  for (const child of children) child.kill('SIGKILL')
  rmSync(folder, { recursive: true })
})

interface Registered {
  readonly child: ChildProcess
  readonly said: () => string
  readonly ended: Promise<number | null>
}

function register(...words: readonly string[]): Registered {
  const ordinary = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}
  const child = spawn(process.execPath, [program, 'register', ...words], {
    ...{ cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] },
    ...ordinary,
  })
  children.push(child)
  endWithUs(child)
  child.ref()
  let said = ''
  child.stderr?.on('data', (text) => {
    said += text
  })
  return { child, said: () => said, ended: once(child, 'exit').then(([status]) => status as number | null) }
}

// They wait for leases, most of the time.
describe('pointsman register', { concurrency: true }, () => {
  describe('in etcd', { concurrency: true, skip: etcdMissing }, () => {
    test('is there as long as its command, over a restart of etcd, and has its exit status', async () => {
      const etcd = await startEtcd()
      const watching = new Watching(poolOf(etcdAddress([etcd.url]), '/web/'))
      // A busy machine may keep a process from its next word for a second or two.
      const words = ['etcd', '--endpoint', etcd.url, '--service', '/web/', '--ttl', '4s']
      const flag = join(folder, 'flag')
      try {
        writeFileSync(flag, '')
        const wait = ['sh', '-c', `while [ -e ${flag} ]; do sleep 0.1; done; exit 7`]
        const one = register(...words, '--address', '10.0.0.1:80', '--weight', '3', '--', ...wait)
        await watching.has('10.0.0.1:80*3')
        await etcd.kill()
        await new Promise((resolve) => setTimeout(resolve, 500))
        etcd.start()
        await answering(etcd)
        // Twice its time to live: it is kept alive.
        const before = watching.sets.length
        await new Promise((resolve) => setTimeout(resolve, 8000))
        assert.equal(watching.text, '10.0.0.1:80*3', one.said())
        assert.ok(watching.sets.length - before <= 2, 'its lease went on, or it was written anew once')
        unlinkSync(flag)
        assert.equal(await one.ended, 7, one.said())
        await watching.until('it is gone', () => watching.size === 0)

        // Stopped by hand, and killed without a word.
        const two = register(...words, '--address', '10.0.0.2:80')
        const three = register(...words, '--address', '10.0.0.3:80')
        await watching.has('10.0.0.2:80 10.0.0.3:80')
        two.child.kill('SIGTERM')
        assert.equal(await two.ended, 0, two.said())
        await watching.has('10.0.0.3:80')
        three.child.kill('SIGKILL')
        await watching.until('its lease has ended', () => watching.size === 0)
      } finally {
        watching.close()
        await etcd.remove()
      }
    })

    test('is there while its own check is good', async () => {
      const etcd = await startEtcd()
      const watching = new Watching(poolOf(etcdAddress([etcd.url]), '/web/'))
      let status = 503
      const web = createServer((_request, response) => response.writeHead(status).end())
      web.listen(0, '127.0.0.1')
      await once(web, 'listening')
      const address = web.address()
      const at = `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
      try {
        const one = register(
          ...['etcd', '--endpoint', etcd.url, '--service', '/web', '--address', at, '--ttl', '1s'],
          ...['--check', 'http:/health'],
        )
        // Of why it is down the first reason is told: on a busy machine that the answer was late.
        await watching.until('it has asked', () => / is down: /.test(one.said()))
        assert.equal(watching.size, 0)
        status = 200
        await watching.has(at)
        status = 503
        await watching.until('given up', () => watching.size === 0)
        status = 200
        await watching.has(at)
        const before = one.said().length
        web.closeAllConnections()
        web.close()
        await watching.until('given up', () => watching.size === 0)
        // Given up it is also when its lease has ended, on a busy machine; and what was under way may have been late.
        await watching.until('why is told', () => / is down: (?!HTTP)/.test(one.said().slice(before)))
        one.child.kill('SIGTERM')
        assert.equal(await one.ended, 0)
      } finally {
        web.close()
        watching.close()
        await etcd.remove()
      }
    })
  })

  test('in zookeeper: is there over a restart of the server, and gone with a word or without', {
    skip: zookeeperMissing,
  }, async () => {
    const [port = 0] = await freePorts(1)
    const server = new ZooKeeper(port)
    await server.start()
    const watching = new Watching(poolOf(addressOf('zookeeper', [server.endpoint]), '/services/web'))
    const words = ['zookeeper', '--endpoint', server.endpoint, '--service', '/services/web', '--ttl', '4s']
    try {
      const one = register(...words, '--address', '10.0.0.1:80')
      const two = register(...words, '--address', '10.0.0.2:80')
      await watching.has('10.0.0.1:80 10.0.0.2:80')
      await server.kill()
      await server.start()
      await watching.until('back', () => watching.state.away === null)
      await watching.has('10.0.0.1:80 10.0.0.2:80')
      one.child.kill('SIGTERM')
      assert.equal(await one.ended, 0, one.said())
      await watching.has('10.0.0.2:80')
      two.child.kill('SIGKILL')
      await watching.until('its session has ended', () => watching.size === 0)
    } finally {
      watching.close()
      await server.remove()
    }
  })

  test('in consul: is passing while it lives (a stand-in for the agent)', async () => {
    const consul = new ConsulStandIn()
    await consul.start()
    const watching = new Watching(poolOf(addressOf('consul', [consul.url]), 'web'))
    const words = ['consul', '--endpoint', consul.url, '--service', 'web', '--ttl', '1s']
    try {
      const one = register(...words, '--address', '10.0.0.1:80', '--weight', '2')
      const two = register(...words, '--address', '10.0.0.2:80')
      await watching.has('10.0.0.1:80*2 10.0.0.2:80')
      one.child.kill('SIGTERM')
      assert.equal(await one.ended, 0, one.said())
      await watching.has('10.0.0.2:80')
      // The agent has forgotten it: it is told again.
      consul.remove('web-10.0.0.2:80')
      await watching.until('gone', () => watching.size === 0)
      await watching.has('10.0.0.2:80')
      two.child.kill('SIGKILL')
      await watching.until('its time to live is over', () => watching.size === 0)
    } finally {
      watching.close()
      await consul.stop()
    }
  })

  test('what cannot be registered is refused at once', async () => {
    for (const [words, said] of [
      [
        ['etcd', '--service', '/web/', '--address', '10.0.0.1'],
        /Cannot register "10\.0\.0\.1": expected ADDRESS:PORT/,
      ],
      [
        ['redis', '--service', '/web/', '--address', '10.0.0.1:80'],
        /Unknown registry "redis": expected one of etcd/,
      ],
      [
        ['etcd', '--service', '/web/', '--address', '10.0.0.1:80', '--weight', ''],
        /Cannot read weight "": expected 0 to \d+; without --weight it is the pool's own/,
      ],
      [
        ['etcd', '--service', '/web/', '--address', '10.0.0.1:80', '--weight', '0x10'],
        /Cannot read weight "0x10"/,
      ],
      [
        ['etcd', '--service', '/web/', '--address', '10.0.0.1:80', '--ttl', 'soon'],
        /Cannot read time "soon"/,
      ],
      [
        ['etcd', '--service', '/web/', '--address', '10.0.0.1:80', '--check', 'ping'],
        /Cannot read check "ping"/,
      ],
      [
        ['etcd', '--service', '/web/', '--address', '10.0.0.1:80', '--endpoint', 'here'],
        /Cannot use etcd at "here"/,
      ],
      [['etcd', '--address', '10.0.0.1:80'], /--service/],
    ] as const) {
      const one = register(...words)
      assert.notEqual(await one.ended, 0)
      assert.match(one.said(), said)
    }
  })
})
