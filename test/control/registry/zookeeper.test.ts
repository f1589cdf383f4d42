/** Pools out of a real ZooKeeper: the children of a node, and what ends with a session. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { ZkRegistrar } from '../../../control/registry/register/zookeeper.ts'
import type { ZkSession } from '../../../control/registry/zookeeper/session.ts'
import { ZkWriter } from '../../../control/registry/zookeeper/wire.ts'
import { addressOf, poolOf } from './addresses.ts'
import { freePorts } from './processes.ts'
import { Watching } from './watching.ts'
import { openSession, ZooKeeper, zookeeperMissing } from './zookeeper-process.ts'

describe('a pool in ZooKeeper', { skip: zookeeperMissing }, () => {
  let server: ZooKeeper
  let writer: ZkSession
  let count = 0
  let path = ''
  const open = (sessionMs = 20_000): Promise<ZkSession> => openSession(server.endpoint, sessionMs)
  before(async () => {
    const [port = 0] = await freePorts(1)
    server = new ZooKeeper(port)
    await server.start()
    writer = await open()
  })
  after(async () => {
    writer.leave()
    await server.remove()
  })
  const following = async (act: (watching: Watching) => Promise<void>): Promise<void> => {
    path = `/pool${count++}`
    const watching = new Watching(poolOf(addressOf('zookeeper', [server.endpoint]), path))
    try {
      await act(watching)
    } finally {
      watching.close()
    }
  }
  const create = (name: string, value: string, ephemeral = false, by = writer) =>
    by.create(name === '' ? path : `${path}/${name}`, value, ephemeral)

  test('who ends while it is being written does not go on waiting', async () => {
    await following(async (watching) => {
      const address = addressOf('zookeeper', [server.endpoint])
      const endpoint = '10.0.0.1:80'
      const registrar = new ZkRegistrar({ address, service: path, endpoint, weight: null, ttlMs: 20_000 })
      const end = new AbortController()
      await assert.rejects(
        registrar.attempt(() => end.abort(new Error('told to end')), end.signal),
        /told to end/,
      )
      await registrar.withdraw()
      await watching.until('it is gone', () => watching.size === 0)
    })
  })

  test('has the children of a node, from when there is one, as they come, change and go', async () => {
    await following(async (watching) => {
      await watching.until('there is none', () => watching.size === 0)
      await create('', '')
      await create('a', '10.0.0.1:80')
      await watching.has('10.0.0.1:80')
      await create('b', '{"address":"10.0.0.2:80","weight":5}')
      await create('10.0.0.3:80', '')
      await create('bad', 'nonsense')
      await watching.has('10.0.0.3:80 10.0.0.1:80 10.0.0.2:80*5')
      await watching.until('one is bad', () => watching.state.badCount === 1)
      await writer.set(`${path}/a`, '10.0.0.9:80')
      await watching.has('10.0.0.3:80 10.0.0.9:80 10.0.0.2:80*5')
      await writer.remove(`${path}/10.0.0.3:80`)
      await watching.has('10.0.0.9:80 10.0.0.2:80*5')
      for (const name of ['a', 'b', 'bad']) await writer.remove(`${path}/${name}`)
      await writer.remove(path)
      await watching.until('empty', () => watching.size === 0)
      await create('', '')
      await create('a', '10.0.0.1:80')
      await watching.has('10.0.0.1:80')
    })
  })

  test('loses what is ephemeral when its session ends, with a word or without', async () => {
    await following(async (watching) => {
      await create('', '')
      const [polite, dead] = [await open(), await open(4000)]
      await create('a', '10.0.0.1:80', true, polite)
      await create('b', '10.0.0.2:80', true, dead)
      await watching.has('10.0.0.1:80 10.0.0.2:80')
      polite.close()
      await watching.has('10.0.0.2:80')
      dead.leave()
      await watching.until('empty', () => watching.size === 0)
    })
  })

  test('keeps what is known while the server is killed or hangs, and then has what was missed', async () => {
    await following(async (watching) => {
      await create('', '')
      await create('a', '10.0.0.1:80')
      await watching.has('10.0.0.1:80')
      await server.kill()
      await watching.until('away', () => watching.state.away !== null)
      assert.match(watching.state.away!.why, /127\.0\.0\.1:\d+/)
      assert.equal(watching.text, '10.0.0.1:80')
      await server.start()
      writer.leave()
      writer = await open()
      await create('b', '10.0.0.2:80')
      await watching.has('10.0.0.1:80 10.0.0.2:80')
      server.signal('SIGSTOP')
      await watching.until('away', () => watching.state.away !== null)
      server.signal('SIGCONT')
      await watching.until('back', () => watching.state.away === null)
      writer.leave()
      writer = await open()
      await writer.remove(`${path}/a`)
      await watching.has('10.0.0.2:80')
    })
  })

  test('has 5,000 children, and the change of one is one change', async () => {
    await following(async (watching) => {
      await create('', '')
      const all = Array.from({ length: 5000 }, (_, n) => n)
      for (let n = 0; n < all.length; n += 500) {
        await Promise.all(
          all.slice(n, n + 500).map((one) => create(`n${one}`, `10.1.${one >> 8}.${one & 255}`)),
        )
      }
      await watching.until('all', () => watching.size === 5000)
      const sets = watching.sets.length
      await writer.set(`${path}/n77`, '10.9.9.9')
      await watching.until('the change', () => watching.text.includes('10.9.9.9'))
      assert.equal(watching.sets.length, sets + 1)
    })
  })
})

test('what is no ZooKeeper is away, and why is said', async () => {
  const { createServer } = await import('node:http')
  const web = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => web.once('listening', resolve))
  const address = web.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const watching = new Watching(poolOf(addressOf('zookeeper', [`127.0.0.1:${port}`]), '/w'))
  await watching.until('away', () => watching.state.away !== null)
  assert.match(watching.state.away!.why, /127\.0\.0\.1:\d+/)
  watching.close()
  web.closeAllConnections()
  web.close()
})

const GREETINGS = {
  'a server that greets with nothing': new ZkWriter().frame(),
  'a password that cannot be read': new ZkWriter()
    .int(0)
    .int(60_000)
    .long(5n)
    .bytes(Buffer.alloc(16))
    .frame(),
}

for (const [what, greeting] of Object.entries(GREETINGS)) {
  test(`an attempt that has failed leaves no connection behind: ${what}`, async () => {
    const sockets: Socket[] = []
    const server = createServer((socket) => {
      sockets.push(socket)
      socket.on('error', () => {})
      socket.on('data', () => {})
      socket.once('data', () => socket.write(greeting))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    const endpoint = `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
    const login = { user: 'director', passwordFile: '/nonexistent/password' }
    const watching = new Watching(poolOf(addressOf('zookeeper', [endpoint], login), '/web'))
    try {
      await watching.until('it is tried again', () => sockets.length > 2)
      await watching.until('the first ones are closed', () => sockets.slice(0, 2).every((one) => one.closed))
    } finally {
      watching.close()
      server.close()
      for (const socket of sockets) socket.destroy()
    }
  })
}
