/** The page over the network: what is served, to whom, and how a real browser shows it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseDaemonOptions } from '../../../control/daemon/options.ts'
import { ask } from '../front/ask.ts'
import { freePorts } from '../registry/processes.ts'
import { withDaemon } from './process.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const built = existsSync(join(root, 'dist/page.js')) ? false : 'the page is not built: npm run build'
const browser = existsSync('/usr/bin/chromium') ? false : 'needs a browser: apt-get install chromium'
const TOKEN = '0123456789abcdef0123456789abcdef'

interface Told {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

/** fetch does not let a caller say by which name it comes. */
function get(
  port: number,
  path: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<Told> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (incoming) => {
      let body = ''
      incoming.setEncoding('utf8').on('data', (piece: string) => {
        body += piece
      })
      incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body }))
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
}

describe('the page', { skip: built }, () => {
  test('is told to nobody without the token, by a strange name, or for more than looking', async () => {
    const [port = 0] = await freePorts(1)
    const folder = mkdtempSync(join(tmpdir(), 'pointsman-web-'))
    const tokenFile = join(folder, 'token')
    writeFileSync(tokenFile, `${TOKEN}\n`, { mode: 0o600 })
    try {
      const options = ['--web', `127.0.0.1:${port}`, '--web-token-file', tokenFile]
      await withDaemon({ options }, async () => {
        const bearer = { authorization: `Bearer ${TOKEN}` }
        const page = await get(port, '/')
        assert.equal(page.status, 200)
        assert.match(page.body, /<script type="module" src="page\.js">/)
        assert.match(
          String(page.headers['content-security-policy']),
          /^default-src 'none'; script-src 'self'/,
        )
        assert.equal(page.headers['x-content-type-options'], 'nosniff')
        assert.equal(page.headers['access-control-allow-origin'], undefined)
        const playground = await get(port, '/playground')
        assert.equal(playground.status, 200)
        assert.match(
          String(playground.headers['content-security-policy']),
          /^default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src data:/,
        )
        const cases: readonly [number, Promise<Told>][] = [
          [401, get(port, '/v1/overview')],
          [401, get(port, '/v1/overview', { authorization: `Bearer ${TOKEN.slice(1)}` })],
          [200, get(port, '/v1/overview', bearer)],
          [200, get(port, '/v1/events/kept', bearer)],
          [200, get(port, '/v1/connections/page?search=tcp', bearer)],
          [400, get(port, '/v1/connections/page?order=none', bearer)],
          [409, get(port, '/v1/explain?protocol=tcp', bearer)],
          [401, get(port, '/v1/connections/page')],
          [404, get(port, '/v1/connections', bearer)],
          [404, get(port, '/v1/snapshot', bearer)],
          [404, get(port, '/metrics', bearer)],
          [404, get(port, '/v1/recording', bearer, 'POST')],
          [405, get(port, '/v1/overview', bearer, 'POST')],
          [421, get(port, '/', { host: `director.example:${port}` })],
          [421, get(port, '/v1/overview', { ...bearer, host: 'rebound.example' })],
          [200, get(port, '/v1/overview', { ...bearer, host: `localhost:${port}` })],
          [403, get(port, '/v1/overview', { ...bearer, 'sec-fetch-site': 'cross-site' })],
        ]
        const statuses = await Promise.all(cases.map(async ([, told]) => (await told).status))
        assert.deepEqual(
          statuses,
          cases.map(([status]) => status),
        )
      })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('is for this host alone where nothing has to be known', () => {
    let said = ''
    const words = (...more: readonly string[]) =>
      parseDaemonOptions(more, { out: () => {}, err: (text) => (said += text) })
    assert.throws(() => words('--web', '0.0.0.0:9418'))
    assert.match(said, /--web 0\.0\.0\.0:9418 can be reached from elsewhere: .*--web-token-file FILE/)
    assert.throws(() => words('--web-token-file', '/etc/token'))
    assert.equal(words('--web', '[::1]:9418').web?.tokenFile, null)
    assert.equal(words('--web', '192.0.2.1:9418', '--web-token-file', '/t').web?.tokenFile, '/t')
    assert.equal(words().web, null)
  })

  test('shows services in a browser, which finds nothing to complain of', { skip: browser }, async () => {
    const [port = 0] = await freePorts(1)
    await withDaemon({ options: ['--web', `127.0.0.1:${port}`] }, async ({ socket }) => {
      await ask(socket, 'PUT', '/v1/services/tcp/192.0.2.10/80', { body: '{"scheduler":"wrr"}' })
      const profile = mkdtempSync(join(tmpdir(), 'pointsman-browser-'))
      try {
        const { stdout, stderr } = await promisify(execFile)(
          'chromium',
          [
            ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
            ...[`--user-data-dir=${profile}`, '--enable-logging=stderr', '--virtual-time-budget=3000'],
            ...['--dump-dom', `http://127.0.0.1:${port}/`],
          ],
          { encoding: 'utf8', timeout: 300_000 },
        )
        assert.match(stdout, /<button type="button">tcp\/192\.0\.2\.10:80<\/button>/)
        assert.match(stdout, /<caption id="services-words">1 of 1<\/caption>/)
        assert.match(stdout, /NOT forwarding, no data plane/)
        assert.match(stdout, /added: scheduler wrr/)
        assert.doesNotMatch(stderr, /CONSOLE|Content Security Policy/)
      } finally {
        rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
      }
    })
  })
})
