import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type Api, createApi } from '../../../../control/front/api/server.ts'
import { ipvsadmEndpoint } from '../../../../control/front/ipvsadm/endpoint.ts'
import { systemNames } from '../../../../control/front/ipvsadm/names.ts'
import { candidates, dnsResolver, parseSearch } from '../../../../control/front/ipvsadm/resolver.ts'
import { createDirector } from '../../../../control/rules/director.ts'
import { fixedHost } from '../../../../control/rules/host.ts'
import { ip } from '../../support.ts'
import { ask, type Heard } from '../ask.ts'
import { contextOf } from '../context.ts'
import { type NameServer, nameServer } from './name-server.ts'

test('names are completed as resolv.conf says', () => {
  const search = parseSearch(
    'domain old.example\nsearch a.example. b.example\noptions timeout:1 ndots:2 rotate\n',
  )
  assert.deepEqual(search, { domains: ['a.example.', 'b.example'], ndots: 2 })
  assert.deepEqual(candidates('web', search), ['web.a.example', 'web.b.example', 'web'])
  assert.deepEqual(candidates('web.x', search), ['web.x.a.example', 'web.x.b.example', 'web.x'])
  assert.deepEqual(candidates('web.x.y', search), ['web.x.y', 'web.x.y.a.example', 'web.x.y.b.example'])
  assert.deepEqual(candidates('web.', search), ['web'])
  assert.deepEqual(candidates('web', parseSearch('')), ['web'])
})

test('a name server is asked for addresses and names, by the search list', async () => {
  const server = await nameServer({
    'web.b.example': '10.1.2.3',
    '3.2.1.10.in-addr.arpa': 'web.b.example',
  })
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-resolver-'))
  try {
    const resolvConf = join(folder, 'resolv.conf')
    writeFileSync(resolvConf, 'search a.example b.example\n')
    const resolver = dnsResolver({ servers: [server.address], resolvConf })
    assert.equal(await resolver.address('web'), '10.1.2.3')
    assert.deepEqual(server.asked, ['web.a.example', 'web.b.example'])
    assert.equal(await resolver.name(ip('10.1.2.3')), 'web.b.example')
    assert.equal(await resolver.address('nowhere'), null)
    assert.equal(await resolver.name(ip('10.1.2.4')), null)
    const questions = server.asked.length
    assert.equal(await resolver.address('not a name'), null)
    assert.equal(server.asked.length, questions)
  } finally {
    server.close()
    rmSync(folder, { recursive: true })
  }
})

const DEADLINE_MS = 600
/** Over only when something else is. */
const FAR_MS = 60_000

/** An API whose names are asked of a server that never answers. */
async function withSilence(
  act: (run: Run, server: NameServer, api: Api) => Promise<void>,
  deadlineMs = DEADLINE_MS,
): Promise<void> {
  const server = await nameServer(null)
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-resolver-'))
  const socket = join(folder, 'api.sock')
  const resolver = () => dnsResolver({ servers: [server.address], resolvConf: '/dev/null' })
  const names = systemNames({ hosts: '/dev/null', resolver, deadlineMs })
  const api = createApi({
    context: contextOf(createDirector({ host: fixedHost() })),
    failed: (error) => assert.fail(String(error)),
    endpoints: [ipvsadmEndpoint(names)],
  })
  try {
    await api.listen(socket, 'all')
    const run = async (line: string, limitMs = 60_000): Promise<string> => {
      const argv = ['ipvsadm', ...line.split(' ')]
      const headers = { 'pointsman-argc': String(argv.length) }
      const answer = ask(socket, 'POST', '/v1/ipvsadm', {
        headers,
        body: argv.map((word) => `${word}\0`).join(''),
        limitMs,
      })
      const { headers: heard, body }: Heard = await answer
      return `${heard['pointsman-status']} ${body}`
    }
    await act(run, server, api)
  } finally {
    await api.close(0)
    server.close()
    rmSync(folder, { recursive: true })
  }
}
type Run = (line: string, limitMs?: number) => Promise<string>

async function timed<T>(action: Promise<T>): Promise<{ value: T; ms: number }> {
  const startedAt = performance.now()
  const value = await action
  return { value, ms: performance.now() - startedAt }
}

describe('a name server that never answers', () => {
  test('costs a listing its deadline, once, and then numbers are shown', () =>
    withSilence(async (run, server) => {
      for (let i = 1; i <= 200; i++) await run(`-A -t 10.0.${i >> 8}.${i & 255}:80 -s rr`)
      const first = await timed(run('-L'))
      // 200 names one after the other would be two minutes.
      assert.ok(first.ms >= DEADLINE_MS - 5 && first.ms < 50 * DEADLINE_MS, `${first.ms} ms`)
      assert.equal(first.value.match(/TCP {2}10\.0\.0\./g)?.length, 200)
      const questions = server.asked.length
      assert.equal(await run('-L'), first.value)
      assert.equal(server.asked.length, questions, 'not found is remembered')
    }))

  test('is no host of that name', () =>
    withSilence(async (run) => {
      assert.equal(await run('-A -t no-such-host:80'), '2 illegal virtual server address[:port] specified\n')
    }))

  test('holds up no other command', () =>
    withSilence(async (run, server) => {
      for (let i = 1; i <= 40; i++) await run(`-A -t 10.0.0.${i}:80 -s rr`)
      let isListed = false
      const listing = run('-L').finally(() => {
        isListed = true
      })
      await run('-Ln')
      assert.equal(isListed, false)
      server.speak()
      await listing
    }, FAR_MS))

  test('is not asked any longer than the client waits, and nothing is remembered of that', () =>
    withSilence(async (run, server) => {
      for (let i = 1; i <= 40; i++) await run(`-A -t 10.0.0.${i}:80 -s rr`)
      await assert.rejects(run('-L', 100), /given up/)
      const questions = server.asked.length
      await run('-L')
      assert.ok(server.asked.length > questions, 'asked anew')
    }))

  test('does not keep a change of the data plane waiting for longer than others', () =>
    withSilence(async (run, _server, api) => {
      await run('-A -t 10.0.0.1:80 -s rr')
      const listing = run('-L')
      await new Promise((resolve) => setTimeout(resolve, 50))
      const permit = await api.permits.alone(10_000)
      assert.ok(permit)
      permit.release()
      assert.match(await listing, /10\.0\.0\.1/)
    }))
})
