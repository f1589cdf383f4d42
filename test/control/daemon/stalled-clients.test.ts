/** Clients that stall, and what must not wait for them. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { call } from '../../../control/front/api/client.ts'
import { withDaemon } from './process.ts'

/** Sends the text and nothing more. */
async function send(socket: string, text: string): Promise<Socket> {
  const client = connect(socket)
  client.on('error', () => {})
  await once(client, 'connect')
  client.write(text)
  // The other end has read it by then.
  await sleep(200)
  return client
}

const head = (method: string, path: string, length: number): string =>
  `${method} ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`

async function within<T>(limitMs: number, what: string, action: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${limitMs} ms`)), limitMs)
  })
  try {
    return await Promise.race([action, late])
  } finally {
    clearTimeout(timer)
  }
}

const BODY = '{"kind":"xdp"}'

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} ends the daemon although a client has sent half a request`, () =>
    withDaemon({}, async ({ socket, child, ended }) => {
      await send(socket, head('PUT', '/v1/timeouts', 100))
      await send(socket, 'GET /v1/status HTTP/1.1\r\nHo')
      child.kill(signal)
      assert.equal(await ended(4000), 0)
    }))
}

test('a broken invariant ends the daemon with a failure although a client stalls', () =>
  withDaemon(
    { first: "process.on('SIGUSR2', () => { throw new TypeError('broken on purpose') })" },
    async ({ socket, child, ended, log }) => {
      await send(socket, head('PUT', '/v1/timeouts', 100))
      child.kill('SIGUSR2')
      assert.equal(await ended(4000), 1)
      assert.match(log(), /broken on purpose/)
    },
  ))

test('two changes of the data plane, whose bodies come after their heads, are both answered', () =>
  withDaemon({}, async ({ socket }) => {
    const clients = [
      await send(socket, head('PUT', '/v1/dataplane', BODY.length)),
      await send(socket, head('PUT', '/v1/dataplane', BODY.length)),
    ]
    const answers = clients.map(async (client) => {
      client.write(BODY)
      const [data] = await within(5000, 'change of the data plane', once(client, 'data'))
      assert.match(String(data), /^HTTP\/1\.1 409 /)
    })
    await Promise.all(answers)
    await within(5000, 'status', call(socket, 'GET', '/v1/status'))
  }))

test('a client in the middle of its request holds up neither a change of the data plane nor others', () =>
  withDaemon({}, async ({ socket }) => {
    await send(socket, head('PUT', '/v1/timeouts', 100))
    await assert.rejects(
      within(5000, 'change of the data plane', call(socket, 'PUT', '/v1/dataplane', { kind: 'xdp' })),
      /this daemon only keeps rules/,
    )
    await within(5000, 'status', call(socket, 'GET', '/v1/status'))
  }))
