/** Clients that do what no client should, many at once: the daemon goes on, and gives everything back. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { call } from '../../../control/front/api/client.ts'
import fc, { SEED } from '../../property.ts'
import { ask } from '../front/ask.ts'
import { withDaemon } from './process.ts'

const service = '{"scheduler":"rr","servers":[{"address":"10.0.0.1","port":80}]}'
const put = (path: string, body: string, length = body.length): string =>
  `PUT ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n${body}`
const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`
const command = 'ipvsadm\0-L\0'

/** What is sent on a connection; whether more could follow is the client's business. */
const words = fc.oneof(
  fc.constantFrom(
    get('/v1/status'),
    get('/v1/services'),
    get('/v1/connections?limit=x'),
    get('/v1/services') + get('/v1/status') + get('/v1/nothing'),
    put('/v1/services/tcp/192.0.2.1/80', service),
    put('/v1/services/tcp/192.0.2.1/80', service, 5000),
    put('/v1/dataplane', '{"kind":"xdp"}'),
    put('/v1/dataplane', '{"kind":"xdp"}', 100),
    `POST /v1/ipvsadm HTTP/1.1\r\nHost: x\r\nPointsman-Argc: 2\r\nContent-Length: ${command.length}\r\n\r\n${command}`,
    'POST /v1/zero HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
    'POST /v1/zero HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff',
    'GET /v1/status HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n',
    'CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /v1/\r\n\r\n',
  ),
  fc.string({ maxLength: 200 }),
)
const manners = fc.record({
  words,
  /** How it goes: cut off at once, after a while, having closed its end, or not by itself. */
  leaves: fc.constantFrom('at once', 'soon', 'half', 'stays'),
  reads: fc.boolean(),
})

test('no mixture of clients ends the daemon, holds up others, or leaves anything open', () =>
  withDaemon({}, async ({ socket, child, ended, log }) => {
    const open = (): number => readdirSync(`/proc/${child.pid}/fd`).length
    await call(socket, 'GET', '/v1/status')
    const before = open()
    const clients = fc.sample(manners, { numRuns: 400, seed: SEED })
    const staying: ReturnType<typeof connect>[] = []
    for (const { words: text, leaves, reads } of clients) {
      const client = connect(socket)
      client.on('error', () => {})
      if (reads) client.resume()
      client.write(text)
      if (leaves === 'at once') client.destroy()
      else if (leaves === 'half') client.end()
      else if (leaves === 'soon') setTimeout(() => client.destroy(), 50)
      if (leaves === 'half' || leaves === 'stays') staying.push(client)
      if (staying.length % 20 === 0) {
        const { status } = await ask(socket, 'GET', '/v1/status', { limitMs: 30_000 })
        assert.equal(status, 200)
      }
    }
    assert.equal(
      (await ask(socket, 'PUT', '/v1/timeouts', { body: '{"tcp":60}', limitMs: 30_000 })).status,
      200,
    )
    for (const client of staying) client.destroy()
    for (let tries = 0; tries < 600 && open() > before; tries++) await sleep(50)
    assert.ok(open() <= before, `${open()} descriptors, ${before} before`)
    assert.equal(child.exitCode, null)
    assert.doesNotMatch(log(), /"level":(50|60)/)
    child.kill('SIGTERM')
    assert.equal(await ended(), 0)
  }))
