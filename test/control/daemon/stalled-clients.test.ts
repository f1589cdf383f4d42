/** Clients that stall, and what must not wait for them. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { call } from '../../../control/front/api/client.ts'
import { withDaemon } from './process.ts'

/** For an answer that comes at once where nothing else goes on. */
const ANSWER_MS = 30_000

async function opened(socket: string): Promise<Socket> {
  const client = connect(socket)
  client.on('error', () => {})
  await once(client, 'connect')
  return client
}

/** Sends the head of a request and nothing more; the other end has read it when this is over: it says so. */
async function begin(socket: string, method: string, path: string, length: number): Promise<Socket> {
  const client = await opened(socket)
  const fields = [
    'Host: x',
    'Content-Type: application/json',
    `Content-Length: ${length}`,
    'Expect: 100-continue',
  ]
  client.write([`${method} ${path} HTTP/1.1`, ...fields, '', ''].join('\r\n'))
  const [data] = await within(ANSWER_MS, 'leave to go on', once(client, 'data'))
  assert.match(String(data), /^HTTP\/1\.1 100 Continue\r\n\r\n$/)
  return client
}

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
      const half = await opened(socket)
      half.write('GET /v1/status HTTP/1.1\r\nHo')
      await begin(socket, 'PUT', '/v1/timeouts', 100)
      child.kill(signal)
      assert.equal(await ended(), 0)
    }))
}

test('a broken invariant ends the daemon with a failure although a client stalls', () =>
  withDaemon(
    { first: "process.on('SIGUSR2', () => { throw new TypeError('broken on purpose') })" },
    async ({ socket, child, ended, log }) => {
      await begin(socket, 'PUT', '/v1/timeouts', 100)
      child.kill('SIGUSR2')
      assert.equal(await ended(), 1)
      assert.match(log(), /broken on purpose/)
    },
  ))

test('two changes of the data plane, whose bodies come after their heads, are both answered', () =>
  withDaemon({}, async ({ socket }) => {
    const clients = [
      await begin(socket, 'PUT', '/v1/dataplane', BODY.length),
      await begin(socket, 'PUT', '/v1/dataplane', BODY.length),
    ]
    const answers = clients.map(async (client) => {
      client.write(BODY)
      const [data] = await within(ANSWER_MS, 'change of the data plane', once(client, 'data'))
      assert.match(String(data), /^HTTP\/1\.1 409 /)
    })
    await Promise.all(answers)
    await within(ANSWER_MS, 'status', call(socket, 'GET', '/v1/status'))
  }))

test('a client in the middle of its request holds up neither a change of the data plane nor others', () =>
  withDaemon({}, async ({ socket }) => {
    await begin(socket, 'PUT', '/v1/timeouts', 100)
    await assert.rejects(
      within(ANSWER_MS, 'change of the data plane', call(socket, 'PUT', '/v1/dataplane', { kind: 'xdp' })),
      /this daemon only keeps rules/,
    )
    await within(ANSWER_MS, 'status', call(socket, 'GET', '/v1/status'))
  }))
