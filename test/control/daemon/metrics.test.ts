/** Metrics over the network: where they are asked for, and nothing else there. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { ask } from '../front/ask.ts'
import { freePorts } from '../registry/processes.ts'
import { withDaemon } from './process.ts'

/** Somebody who listens on a port of the loopback interface. */
async function squatter(): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

async function eventually<T>(what: string, look: () => Promise<T | null>, limitMs = 60_000): Promise<T> {
  const stopAt = performance.now() + limitMs
  for (;;) {
    const seen = await look().catch(() => null)
    if (seen !== null) return seen
    assert.ok(performance.now() < stopAt, what)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

describe('metrics', () => {
  test('are pushed to who is named, from the first minute on, with what that one wants to know', async () => {
    const bodies: string[] = []
    const server = createHttpServer((request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (part: string) => {
        body += part
      })
      request.on('end', () => {
        const isLetIn = request.headers.authorization === 'Bearer 0123456789abcdef'
        if (isLetIn) bodies.push(body)
        response.writeHead(isLetIn ? 200 : 401).end('{}')
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const folder = mkdtempSync(join(tmpdir(), 'pointsman-otlp-'))
    const headers = join(folder, 'headers')
    const to = ['--otlp', `http://127.0.0.1:${port}`]
    try {
      writeFileSync(headers, 'Authorization: Bearer 0123456789abcdef\n', { mode: 0o600 })
      await withDaemon({ options: [...to, '--otlp-headers', headers] }, async ({ socket }) => {
        const [first] = await eventually('a push', async () => (bodies.length > 0 ? bodies : null))
        assert.match(first!, /"name":"pointsman_build_info"/)
        const { body } = await ask(socket, 'GET', '/metrics')
        assert.match(String(body), /^pointsman_otlp_pushes_total\{result="failed"\} 0$/m)
      })
      await withDaemon({ options: to }, async ({ socket, log }) => {
        await eventually('a failure is counted', async () => {
          const { body } = await ask(socket, 'GET', '/metrics')
          return /^pointsman_otlp_pushes_total\{result="failed"\} 1$/m.test(String(body)) ? true : null
        })
        assert.match(log(), /Cannot push metrics to http:.*: it answered 401/)
        const { body } = await ask(socket, 'GET', '/v1/events/kept')
        assert.match(String(body), /Cannot push metrics to http:.*: it answered 401/)
      })
    } finally {
      server.close()
      rmSync(folder, { recursive: true })
    }
  })

  test('are told on the socket, and on an address to a real Prometheus that finds them whole', async () => {
    const [port = 0, ui = 0] = await freePorts(2)
    const folder = mkdtempSync(join(tmpdir(), 'pointsman-prometheus-'))
    const at = `127.0.0.1:${port}`
    writeFileSync(
      join(folder, 'prometheus.yml'),
      JSON.stringify({
        global: { scrape_interval: '1s' },
        scrape_configs: [{ job_name: 'pointsman', static_configs: [{ targets: [at] }] }],
      }),
    )
    try {
      await withDaemon({ options: ['--metrics-listen', at] }, async ({ socket }) => {
        await ask(socket, 'PUT', '/v1/services/tcp/192.0.2.10/80', { body: '{"scheduler":"rr"}' })
        const { status, headers, body } = await ask(socket, 'GET', '/metrics')
        assert.equal(status, 200)
        assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/)
        assert.match(String(body), /^pointsman_services 1$/m)
        const open = await ask(socket, 'GET', '/metrics', {
          headers: { accept: 'application/openmetrics-text;version=1.0.0,text/plain;q=0.5' },
        })
        assert.match(String(open.headers['content-type']), /^application\/openmetrics-text/)

        // Nothing else is served there: not what reads, and not what changes.
        const statusOf = async (method: string, path: string): Promise<number> =>
          (await fetch(`http://${at}${path}`, { method })).status
        assert.equal(await statusOf('GET', '/metrics'), 200)
        assert.equal(await statusOf('GET', '/v1/services'), 404)
        assert.equal(await statusOf('PUT', '/v1/services/tcp/192.0.2.11/80'), 404)
        assert.equal(await statusOf('POST', '/metrics'), 405)
        assert.equal(await statusOf('GET', '/metrics?detail=everything'), 400)

        const prometheus = spawn('prometheus', [
          `--config.file=${join(folder, 'prometheus.yml')}`,
          `--storage.tsdb.path=${join(folder, 'data')}`,
          `--web.listen-address=127.0.0.1:${ui}`,
        ])
        let said = ''
        prometheus.stderr.on('data', (text) => {
          said += text
        })
        const gone = once(prometheus, 'exit')
        try {
          const query = async (words: string): Promise<string | null> => {
            const url = `http://127.0.0.1:${ui}/api/v1/query?query=${encodeURIComponent(words)}`
            const answer = (await (await fetch(url)).json()) as {
              readonly data: { readonly result: readonly { readonly value: readonly [number, string] }[] }
            }
            return answer.data.result[0]?.value[1] ?? null
          }
          // A scrape that was too slow for a busy machine takes all of them along, until the next one.
          for (const [words, value] of [
            ['pointsman_services', '1'],
            ['up{job="pointsman"}', '1'],
            ['pointsman_service_weight{service="tcp/192.0.2.10:80"}', '0'],
            ['rate(pointsman_service_packets_total[1m]) >= 0 or vector(1)', '1'],
          ] as const) {
            let found: string | null = null
            await eventually(`${words} is ${value}`, async () => {
              found = await query(words)
              return found === value ? found : null
            }).catch(() => assert.equal(found, value, `${words}\n${said}`))
          }
        } finally {
          prometheus.kill()
          await gone
        }
      })
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })

  test('wait for an address that is taken, while all else goes on', async () => {
    const { server, port } = await squatter()
    const at = `127.0.0.1:${port}`
    await withDaemon({ options: ['--metrics-listen', at] }, async ({ socket, log }) => {
      assert.equal((await ask(socket, 'GET', '/v1/status')).status, 200)
      assert.match(log(), new RegExp(`Cannot listen on ${at} for metrics: .*ss -ltnp 'sport = ${port}'`))
      server.close()
      const body = await eventually('metrics are told when the address is free', async () =>
        (await fetch(`http://${at}/metrics`)).text(),
      )
      assert.match(body, /^pointsman_build_info/m)
    })
  })
})
