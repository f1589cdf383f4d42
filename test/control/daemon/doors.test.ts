/** Strangers at the doors over the network, the page's and that of metrics: hostile, oversized, slow. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { call } from '../../../control/front/api/client.ts'
import { ask } from '../front/ask.ts'
import { freePorts } from '../registry/processes.ts'
import { type Daemon, withDaemon } from './process.ts'

const LIMIT_MS = 60_000
/** 100 services of 60: some 10 MB of metrics, more than sockets hold. */
const SERVICES = 100
const SERVERS = 60

/** What is said on a connection until the other end closes it, or says nothing more. */
function say(port: number, text: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let heard = ''
    const late = setTimeout(
      () => reject(new Error(`no end of the answer to ${String(text).slice(0, 80)}`)),
      LIMIT_MS,
    )
    const over = (): void => {
      clearTimeout(late)
      socket.destroy()
      resolve(heard)
    }
    socket.on('data', (part) => {
      heard += part
    })
    // Who refuses without reading may reset what is still being said.
    socket.on('error', over)
    socket.on('close', over)
    socket.write(text)
  })
}

const statusOf = (heard: string): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(heard)?.[1] ?? 0)

async function withDoors(
  act: (daemon: Daemon, web: number, metrics: number) => Promise<void>,
): Promise<void> {
  const [web = 0, metrics = 0] = await freePorts(2)
  const options = ['--web', `127.0.0.1:${web}`, '--metrics-listen', `127.0.0.1:${metrics}`]
  await withDaemon({ options }, async (daemon) => {
    await act(daemon, web, metrics)
    assert.equal(daemon.child.exitCode, null)
    assert.doesNotMatch(daemon.log(), /"level":(50|60)/)
    daemon.child.kill('SIGTERM')
    assert.equal(await daemon.ended(), 0)
  })
}

test('names that are not the director’s are refused, however they are written', () =>
  withDoors(async (_daemon, web) => {
    const get = (host: string, path = '/v1/overview'): string =>
      `GET ${path} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`
    const named = (name: string): string => get(`Host: ${name}\r\n`)
    assert.equal(statusOf(await say(web, named(`127.0.0.1:${web}`))), 200)
    assert.equal(statusOf(await say(web, named('LOCALHOST'))), 200)
    const hostile: readonly (readonly [string, number])[] = [
      [get(''), 400],
      ['GET /v1/overview HTTP/1.0\r\n\r\n', 421],
      [named(''), 421],
      [named('evil.example'), 421],
      [named('127.0.0.1.evil.example'), 421],
      [named('localhost.evil.example'), 421],
      [named('evil.example@127.0.0.1'), 421],
      [named('127.0.0.1, evil.example'), 421],
      [named('localhost:9418:evil'), 421],
      [named('[::1'), 421],
      [named('0x7f.1'), 421],
      [named('127.0.0.1/../evil'), 421],
      [named('x'.repeat(8000)), 421],
      [named('x'.repeat(100_000)), 431],
      [get('Host: 127.0.0.1\rX: evil\r\n'), 400],
      [get('Host: evil.example\r\nHost: 127.0.0.1\r\n'), 421],
      // The place in the request line says nothing of where it leads to.
      [get('Host: 127.0.0.1\r\n', 'http://evil.example/v1/overview'), 404],
    ]
    for (const [text, status] of hostile) {
      const heard = await say(web, text)
      assert.equal(statusOf(heard), status, `${text.slice(0, 100)}\n${heard.slice(0, 300)}`)
      assert.ok(heard.length < 2000, 'what was said is not all said again')
      assert.doesNotMatch(heard, /"dataplane"/)
    }
  }))

test('requests that are too long are refused by either door without being kept', () =>
  withDoors(async (daemon, web, metrics) => {
    const before = residentOf(daemon)
    for (const [port, path] of [
      [web, '/v1/overview'],
      [metrics, '/metrics'],
    ] as const) {
      const head = (more: string): string => `GET ${path}${more}\r\nHost: 127.0.0.1\r\n`
      const fields = Array.from({ length: 5000 }, (_, i) => `X-${i}: ${'y'.repeat(200)}\r\n`).join('')
      const body = Buffer.alloc(16 << 20, 'z')
      const cases: readonly (readonly [string | Buffer, number])[] = [
        [`${head(`?filter=${'q'.repeat(100_000)} HTTP/1.1`)}\r\n`, 431],
        [`${head(' HTTP/1.1')}${fields}\r\n`, 431],
        [
          Buffer.concat([Buffer.from(`${head(' HTTP/1.1')}Content-Length: ${body.length}\r\n\r\n`), body]),
          413,
        ],
        [`${head(' HTTP/1.1')}Transfer-Encoding: chunked\r\n\r\nfffff\r\n${'z'.repeat(10_000)}`, 413],
        [`${head(' HTTP/1.1')}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
        [Buffer.alloc(1 << 20, 0xff), 400],
      ]
      for (let round = 0; round < 3; round++) {
        for (const [text, status] of cases) {
          const heard = statusOf(await say(port, text))
          // Cut off while it was still talking, a client may not have heard why.
          assert.ok(heard === status || (heard === 0 && text.length > 1 << 20), `${heard}, not ${status}`)
        }
      }
    }
    assert.equal((await ask(daemon.socket, 'GET', '/v1/status')).status, 200)
    const grown = residentOf(daemon) - before
    assert.ok(grown < 64e6, `${grown} bytes more`)
  }))

test('who asks for all and reads nothing keeps neither memory nor others from the daemon', () =>
  withDoors(async (daemon, web, metrics) => {
    const { socket, child } = daemon
    for (let i = 0; i < SERVICES; i++) {
      const servers = Array.from({ length: SERVERS }, (_, k) => ({ address: `10.0.${i}.${k + 1}`, port: 80 }))
      const { status } = await ask(socket, 'PUT', `/v1/services/tcp/192.0.2.${i + 1}/80`, {
        body: JSON.stringify({ scheduler: 'rr', servers }),
      })
      assert.equal(status, 201)
    }
    // The first ones are what the heap grows for.
    for (let i = 0; i < 4; i++) {
      const whole = await fetch(`http://127.0.0.1:${metrics}/metrics`)
      assert.ok((await whole.text()).length > 5e6)
    }
    const open = (): number => readdirSync(`/proc/${child.pid}/fd`).length
    const [before, descriptors] = [residentOf(daemon), open()]
    const slow: Socket[] = []
    for (const [port, path] of [
      [metrics, '/metrics'],
      [web, '/v1/overview?limit=1000'],
      [web, '/v1/connections/page'],
    ] as const) {
      for (let i = 0; i < 10; i++) {
        const client = connect(port, '127.0.0.1')
        client.on('error', () => {})
        client.pause()
        client.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)
        slow.push(client)
      }
    }
    const many = `GET /v1/overview?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`.repeat(1000)
    const heard = await say(web, many)
    assert.ok(heard.length < 200_000, `${heard.length} bytes of answers to a thousand requests in one go`)
    for (let i = 0; i < 10; i++) {
      assert.equal((await ask(socket, 'GET', '/v1/status', { limitMs: LIMIT_MS })).status, 200)
      await sleep(50)
    }
    const scrape = await fetch(`http://127.0.0.1:${metrics}/metrics`)
    await scrape.arrayBuffer()
    // There is room for four; the fifth is told to come again.
    assert.ok([200, 503].includes(scrape.status), String(scrape.status))
    await assert.rejects(
      call(socket, 'PUT', '/v1/dataplane', { kind: 'xdp' }),
      /this daemon only keeps rules/,
    )
    const grown = residentOf(daemon) - before
    assert.ok(grown < 100e6, `${grown} bytes more for ${slow.length} slow readers`)
    for (const client of slow) client.destroy()
    for (let tries = 0; tries < 600 && open() > descriptors; tries++) await sleep(50)
    assert.ok(open() <= descriptors, `${open()} descriptors, ${descriptors} before`)
    const after = await fetch(`http://127.0.0.1:${metrics}/metrics`)
    assert.equal(after.status, 200)
    assert.ok((await after.text()).length > 5e6)
  }))

function residentOf({ child }: Daemon): number {
  return 1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1])
}
