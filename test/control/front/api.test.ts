import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, describe, test } from 'node:test'
import { readVerdicts } from '../../../control/counting/verdicts.ts'
import { openApiDocument } from '../../../control/front/api/openapi.ts'
import { ROUTES } from '../../../control/front/api/routes.ts'
import { type Api, createApi } from '../../../control/front/api/server.ts'
import type { Director } from '../../../control/model/director.ts'
import { DataplaneError } from '../../../dataplane/dataplane.ts'
import { PM_VERDICT_MAX } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { openDirector } from '../opened-director.ts'
import { testHost } from '../support.ts'
import { ask } from './ask.ts'
import { contextOf } from './context.ts'

const WEB = '/v1/services/tcp/192.0.2.100/80'

describe('api', () => {
  let api: Api
  let folder: string
  let socket: string
  let director: Director
  let dataplane: MemoryDataplane
  const failures: unknown[] = []
  let changing = Promise.resolve()

  beforeEach(async () => {
    dataplane = new MemoryDataplane()
    director = openDirector({ dataplane, host: testHost() }).director
    api = createApi({
      context: contextOf(director, {
        verdicts: () => readVerdicts(dataplane),
        changePlane: async (kind) => {
          if (kind === 'xdp') throw new DataplaneError('Cannot attach to c0')
          await changing
        },
      }),
      failed: (error) => failures.push(error),
    })
    folder = mkdtempSync(join(tmpdir(), 'pointsman-api-'))
    socket = join(folder, 'api.sock')
    await api.listen(socket, 'all')
  })
  afterEach(async () => {
    await api.close(0)
    rmSync(folder, { recursive: true })
  })
  after(() => assert.deepEqual(failures, [], 'no request made the daemon fail'))

  const call = async (method: 'GET' | 'PUT' | 'POST' | 'DELETE', url: string, body?: unknown) => {
    const { status, body: text } = await ask(
      socket,
      method,
      url,
      body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) },
    )
    const json = text.length === 0 ? null : JSON.parse(String(text))
    documented(method, url, status, json)
    return { status, json }
  }

  /** Every answer of these tests is one the document describes, without a field it does not name. */
  const documented = (method: string, url: string, status: number, json: unknown) => {
    if (status >= 400) return
    const path = url.replace(/\?.*/, '').split('/')
    const route = ROUTES.find((known) => {
      const parts = known.path.split('/')
      const fits = (part: string, i: number) => part.startsWith('{') || part === path[i]
      return known.method === method && parts.length === path.length && parts.every(fits)
    })
    const answer = route?.answers[status]
    assert.ok(answer, `${method} ${url} may answer ${status}`)
    if (answer.schema === undefined) assert.equal(json, null)
    else assert.deepEqual(answer.schema.parse(json), json)
  }

  test('a service is made, shown, changed and deleted', async () => {
    const made = await call('PUT', WEB, {
      scheduler: 'wrr',
      servers: [{ address: '10.0.0.1', port: 8080, method: 'nat', weight: 3 }],
    })
    assert.equal(made.status, 201)
    assert.equal(made.json.servers[0].weight, 3)
    assert.equal((await call('PUT', WEB, { scheduler: 'rr' })).status, 200)
    const shown = await call('GET', WEB)
    assert.equal(shown.json.scheduler, 'rr')
    assert.equal(shown.json.netmask, '255.255.255.255')
    assert.equal(shown.json.servers.length, 1, 'servers left out stay as they are')
    assert.deepEqual((await call('GET', '/v1/services')).json, [shown.json])
    assert.equal((await call('DELETE', WEB)).status, 204)
    assert.equal((await call('DELETE', WEB)).status, 404)
  })

  test('real servers come and go one by one', async () => {
    const one = `${WEB}/servers/10.0.0.1/80`
    assert.equal((await call('PUT', one, {})).status, 404)
    await call('PUT', WEB, {})
    assert.equal((await call('PUT', one, { method: 'nat' })).status, 201)
    assert.equal((await call('PUT', one, { method: 'nat', weight: 0 })).status, 200)
    assert.equal((await call('GET', one)).json.weight, 0)
    assert.equal((await call('DELETE', one)).status, 204)
    assert.equal((await call('GET', one)).status, 404)
  })

  test('one real server costs itself, however many its service has', async () => {
    await call('PUT', WEB, { servers: [{ address: '10.0.0.1', port: 80, method: 'nat' }] })
    let looks = 0
    for (const name of ['service', 'services', 'rules'] as const) {
      const whole = director[name].bind(director)
      Reflect.set(director, name, (id: never) => {
        looks++
        return whole(id)
      })
    }
    const one = `${WEB}/servers/10.0.0.1/80`
    assert.equal((await call('GET', one)).json.address, '10.0.0.1')
    assert.equal((await call('PUT', one, { method: 'nat', weight: 7 })).json.weight, 7)
    assert.equal((await call('PUT', `${WEB}/servers/10.0.0.2/80`, { method: 'nat' })).status, 201)
    assert.equal((await call('GET', `${WEB}/servers/10.0.0.3/80`)).status, 404)
    assert.equal(looks, 0, 'the service was not listed for it')
  })

  test('a service of a firewall mark, and the rules that give marks', async () => {
    const made = await call('PUT', '/v1/services/fwmark/6/7', { netmask: 64 })
    assert.equal(made.status, 201)
    assert.deepEqual(made.json.unsupported, [])
    assert.equal(made.json.netmask, 64)

    const web = { mark: 7, to: '2001:db8::/32', protocol: 'tcp', ports: { from: 80, to: 90 } }
    const any = { mark: 8, interface: 'eth0' }
    assert.equal((await call('POST', '/v1/marks', { add: [web, any] })).status, 204)
    const { json } = await call('GET', '/v1/marks')
    assert.deepEqual(
      json.map(({ mark, family, to, source }: Record<string, unknown>) => [mark, family, to, source]),
      [
        [8, 4, null, 'manual'],
        [7, 6, '2001:db8::/32', 'manual'],
        [8, 6, null, 'manual'],
      ],
    )
    const refused = await call('POST', '/v1/marks', {
      add: [
        { mark: 9, to: '10.0.0.0/8' },
        { ...web, mark: 9 },
      ],
    })
    assert.equal(refused.status, 409)
    assert.equal((await call('GET', '/v1/marks')).json.length, 3)
    const wrong = await call('POST', '/v1/marks', { add: [{ mark: 1, to: '192.0.2.1/24' }] })
    assert.equal(wrong.status, 400)
    assert.match(wrong.json.error.message, /expected 192\.0\.2\.0\/24/)
    const mixed = await call('POST', '/v1/marks', { add: [{ mark: 1, to: '192.0.2.1', from: '::1' }] })
    assert.equal(mixed.json.error.path, 'body.add.0')
    assert.equal((await call('POST', '/v1/marks', { delete: [web], flush: 8 })).status, 204)
    assert.deepEqual((await call('GET', '/v1/marks')).json, [])
  })

  test('a refused change leaves everything as it was', async () => {
    const servers = [{ address: '10.0.0.1', port: 80, method: 'nat' }]
    await call('PUT', WEB, { scheduler: 'rr', servers })
    const before = JSON.stringify(director.rules())
    const refused = await call('PUT', WEB, {
      scheduler: 'wrr',
      servers: [
        { address: '10.0.0.1', port: 80, method: 'nat', weight: 9 },
        { address: '10.0.0.2', port: 80 },
        { address: '224.0.0.1', port: 80 },
      ],
    })
    assert.equal(refused.status, 422)
    assert.equal(refused.json.error.path, 'body.servers.2')
    assert.equal(JSON.stringify(director.rules()), before)
    const fresh = await call('PUT', '/v1/services/udp/192.0.2.100/53', {
      servers: [servers[0], servers[0]],
    })
    assert.equal(fresh.json.error.path, 'body.servers.1')
    assert.equal(JSON.stringify(director.rules()), before)
  })

  test('real servers near capacity are replaced in one request', async () => {
    const net = (third: number) => ({
      servers: Array.from({ length: 100 }, (_, i) => ({ address: `10.0.${third}.${i + 1}`, port: 80 })),
    })
    assert.equal((await call('PUT', WEB, net(1))).status, 201)
    assert.equal((await call('PUT', WEB, net(2))).status, 200)
    assert.equal((await call('GET', WEB)).json.servers[0].address, '10.0.2.100')
  })

  const malformed: readonly (readonly ['PUT' | 'POST' | 'GET', string, unknown, string, RegExp, number?])[] =
    [
      [
        'PUT',
        WEB,
        { servers: [{ address: '10.0.0.1', port: 80, weight: 'heavy' }] },
        'body.servers.0.weight',
        /"heavy"/,
      ],
      ['PUT', WEB, { servers: [{ address: '10.0.0.1', port: 70000 }] }, 'body.servers.0.port', /70000/],
      [
        'PUT',
        WEB,
        { servers: [{ address: '10.0.0.01', port: 80 }] },
        'body.servers.0.address',
        /"10\.0\.0\.01"/,
      ],
      ['PUT', WEB, { servers: { address: 1 } }, 'body.servers', /address/],
      ['PUT', WEB, { schedler: 'rr' }, 'body.schedler', /Unknown field.*"rr"/],
      ['PUT', WEB, { netmask: 24 }, 'body.netmask', /24/],
      ['PUT', WEB, { netmask: '255.255.255' }, 'body.netmask', /255\.255\.255/],
      ['PUT', WEB, [], 'body', /\[\]/],
      ['PUT', WEB, '{"scheduler":', 'body', /JSON/],
      ['PUT', WEB, { scheduler: 'nosuch' }, 'body', /"nosuch"/, 404],
      ['PUT', '/v1/services/tcp/192.0.2.300/80', {}, 'params.address', /"192\.0\.2\.300"/],
      ['PUT', '/v1/services/tcp/192.0.2.1/080000', {}, 'params.port', /"080000"/],
      ['PUT', '/v1/services/icmp/192.0.2.1/8', {}, 'params.protocol', /"icmp"/],
      ['PUT', '/v1/services/fwmark/4/0', {}, 'params.mark', /"0"/],
      ['PUT', '/v1/services/fwmark/5/1', {}, 'params.family', /"5"/],
      ['PUT', '/v1/timeouts', { tcp: -1 }, 'body.tcp', /-1/],
      ['PUT', '/v1/sysctls/sloppy_tcp', { value: 'on' }, 'body.value', /"on"/],
      ['PUT', '/v1/sysctls/nosuch', { value: 1 }, 'body.value', /"nosuch"/, 404],
      ['PUT', '/v1/sysctls/drop_packet', { value: 4 }, 'body.value', /4/, 422],
      ['PUT', '/v1/daemons/master', { interface: 'nosuch0' }, 'body', /"nosuch0"/, 422],
      ['PUT', '/v1/daemons/slave', { interface: 'eth0' }, 'params.state', /"slave"/],
      ['POST', '/v1/zero', { service: { protocol: 'tcp', address: 'x', port: 1 } }, 'body.service', /"x"/],
      ['POST', '/v1/detach', { interface: 'c0' }, 'body.interface', /Unknown field.*"c0"/],
      ['POST', '/v1/detach', ['c0'], 'body', /\["c0"\]/],
      ['POST', '/v1/detach', 'c0', 'body', /JSON.*c0/],
      ['GET', '/v1/connections?limit=-1', undefined, 'query.limit', /"-1"/],
      ['GET', '/v1/nothing', undefined, 'url', /nothing/, 404],
    ]
  for (const [method, url, body, path, message, status = 400] of malformed) {
    test(`${method} ${url} with ${JSON.stringify(body)} is refused by its path`, async () => {
      const answer = await call(method, url, body)
      assert.equal(answer.status, status, JSON.stringify(answer.json))
      assert.ok(answer.json.error.path.startsWith(path), answer.json.error.path)
      assert.match(answer.json.error.message, message)
      assert.equal(director.rules().length, 0)
    })
  }

  test('no body of any shape makes the daemon fail', async () => {
    const urls = [
      WEB,
      `${WEB}/servers/10.0.0.1/80`,
      '/v1/timeouts',
      '/v1/sysctls/sloppy_tcp',
      '/v1/daemons/backup',
    ]
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...urls), fc.json(), async (url, body) => {
        const answer = await call('PUT', url, body)
        assert.ok(answer.status < 500, JSON.stringify(answer.json))
        if (answer.status >= 400) assert.equal(typeof answer.json.error.message, 'string')
      }),
      { numRuns: 200 },
    )
  })

  test('timeouts, settings, daemons and counters are read and changed', async () => {
    assert.deepEqual((await call('PUT', '/v1/timeouts', { udp: 30 })).json, {
      tcp: 900,
      tcpFin: 120,
      udp: 30,
    })
    assert.equal((await call('PUT', '/v1/sysctls/sloppy_tcp', { value: 1 })).json.inForce, true)
    assert.equal((await call('PUT', '/v1/sysctls/snat_reroute', { value: 0 })).json.inForce, false)
    // What nothing acts on is not taken as if something did.
    const absent = await call('PUT', '/v1/sysctls/backup_only', { value: 1 })
    assert.equal(absent.status, 422)
    assert.equal(absent.json.error.errno, 'EOPNOTSUPP')
    assert.equal((await call('PUT', '/v1/sysctls/backup_only', { value: 0 })).status, 200)
    assert.equal((await call('GET', '/v1/sysctls')).json.sloppy_tcp, 1)
    assert.equal((await call('PUT', '/v1/daemons/backup', { interface: 'eth0', syncId: 3 })).json.syncId, 3)
    assert.equal((await call('PUT', '/v1/daemons/backup', { interface: 'eth0' })).status, 409)
    assert.equal((await call('GET', '/v1/daemons')).json.length, 1)
    assert.equal((await call('DELETE', '/v1/daemons/backup')).status, 204)
    dataplane.map('verdicts').u64[32] = 5n
    dataplane.map('verdicts').u64[PM_VERDICT_MAX + 32] = 6n
    assert.deepEqual((await call('GET', '/v1/verdicts')).json, { forward_nat: 11 })
    assert.equal((await call('GET', '/v1/counters')).json.counters.conns, 0)
    assert.deepEqual((await call('GET', '/v1/connections')).json, [])
    assert.equal((await call('POST', '/v1/zero', {})).status, 204)
    assert.equal((await call('POST', '/v1/zero', { service: { fwmark: 3, family: 4 } })).status, 404)
  })

  test('a data plane that cannot be had is said so, in its words', async () => {
    assert.equal((await call('PUT', '/v1/dataplane', { kind: 'userspace' })).status, 200)
    const refused = await call('PUT', '/v1/dataplane', { kind: 'xdp' })
    assert.deepEqual([refused.status, refused.json.error.message], [409, 'Cannot attach to c0'])
    assert.equal((await call('PUT', '/v1/dataplane', { kind: 'dpdk' })).json.error.path, 'body.kind')
  })

  test('a full table is said to be full', async () => {
    for (let port = 1; port <= 64; port++) {
      assert.equal((await call('PUT', `/v1/services/tcp/192.0.2.1/${port}`, {})).status, 201)
    }
    const answer = await call('PUT', '/v1/services/tcp/192.0.2.1/65', {})
    assert.deepEqual([answer.status, answer.json.error.errno], [507, 'ENOMEM'])
  })

  test('all that is wrong with a body is told at once', async () => {
    const { status, json } = await call('PUT', WEB, {
      schedler: 'rr',
      onePacket: 'yes',
      servers: [
        { address: '10.0.0.1', port: 80 },
        { address: 'x', port: -1 },
      ],
    })
    assert.equal(status, 400)
    assert.deepEqual(json.errors[0], json.error)
    assert.deepEqual(json.errors.map(({ path }: { path: string }) => path).sort(), [
      'body.onePacket',
      'body.schedler',
      'body.servers.1.address',
      'body.servers.1.port',
    ])
  })

  test('a second change of the data plane is refused while the first goes on', async () => {
    let changed = (): void => {}
    changing = new Promise((resolve) => {
      changed = resolve
    })
    const both = [1, 2].map(() => call('PUT', '/v1/dataplane', { kind: 'userspace' }))
    // The one that is refused does not wait for the other.
    assert.equal((await Promise.race(both)).status, 409)
    changed()
    assert.deepEqual((await Promise.all(both)).map(({ status }) => status).sort(), [200, 409])
    assert.equal((await call('GET', '/v1/status')).status, 200)
  })

  test('a client that does not read its listing holds up nobody, and is cut off for a change', async () => {
    const servers = Array.from({ length: 60 }, (_, i) => ({ address: `10.0.0.${i + 1}`, port: 80 }))
    await call('PUT', WEB, { servers })
    const listing = director.services()
    // More than socket buffers hold.
    director.services = () => Array.from({ length: 400 }, () => listing[0]!)
    const reader = connect(socket)
    reader.write('GET /v1/services HTTP/1.1\r\nHost: x\r\n\r\n')
    const [first] = await once(reader, 'data')
    reader.pause()
    assert.match(String(first), /^HTTP\/1\.1 200 /)
    assert.equal((await call('GET', '/v1/timeouts')).status, 200)
    assert.equal((await call('PUT', '/v1/dataplane', { kind: 'userspace' })).status, 200)
    reader.resume()
    let text = ''
    reader.on('data', (part) => {
      text += part
    })
    await once(reader, 'close')
    assert.doesNotMatch(text, /\r\n0\r\n\r\n$/, 'half a listing does not look like a whole one')
  })

  test('a stranger who reads a little at a time has an end, and does not keep others out', async () => {
    const servers = Array.from({ length: 60 }, (_, i) => ({ address: `10.0.0.${i + 1}`, port: 80 }))
    await call('PUT', WEB, { servers })
    const listing = director.services()
    director.services = () => Array.from({ length: 1000 }, () => listing[0]!)
    const readers = join(folder, 'slow.sock')
    const context = contextOf(director, {})
    const strict = createApi({ context, failed: (error) => failures.push(error), strangerTimeoutMs: 300 })
    await strict.listen(readers, 'read-only')
    try {
      const events = connect(readers)
      events.write('GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n')
      await once(events, 'data')
      const reader = connect(readers)
      reader.on('error', () => {})
      let text = ''
      reader.on('data', (part) => {
        text += part
        reader.pause()
      })
      const little = setInterval(() => reader.resume(), 100)
      reader.write('GET /v1/services HTTP/1.1\r\nHost: x\r\n\r\n')
      await once(reader, 'close')
      clearInterval(little)
      assert.match(text, /^HTTP\/1\.1 200 /)
      assert.doesNotMatch(text, /\r\n0\r\n\r\n$/, 'half a listing does not look like a whole one')
      assert.equal(events.destroyed, false, 'what has no end is not ended')
      events.destroy()
    } finally {
      await strict.close(0)
    }
  })

  test('a body larger than its route takes is refused without being read', async () => {
    const { status, json } = await call('POST', '/v1/detach', 'x'.repeat(100_000))
    assert.equal(status, 413)
    assert.match(json.error.message, /at most 4096 bytes/)
    const wrong = await call('POST', '/v1/status')
    assert.deepEqual([wrong.status, wrong.json.error.message], [405, 'No POST "/v1/status": expected GET'])
    assert.equal((await call('GET', '/v1/services/%zz')).status, 400)
  })

  test('a read-only socket answers questions and nothing else', async () => {
    const readers = join(folder, 'read.sock')
    await api.listen(readers, 'read-only')
    assert.equal((await ask(readers, 'GET', '/v1/status')).status, 200)
    for (const [method, path] of [
      ['PUT', '/v1/timeouts'],
      ['POST', '/v1/ipvsadm'],
      ['POST', '/v1/detach'],
      ['DELETE', '/v1/services'],
    ] as const) {
      const refused = await ask(readers, method, path, { body: '{}' })
      assert.equal(refused.status, 403, path)
      assert.match(String(refused.body), /pointsman\.sock/)
    }
  })

  test('the OpenAPI document in the repository is the one the routes make', () => {
    const committed = JSON.parse(
      readFileSync(new URL('../../../control/front/api/openapi.json', import.meta.url), 'utf8'),
    )
    const made = JSON.parse(JSON.stringify(openApiDocument()))
    assert.deepEqual(committed, made, 'run: npx tsx scripts/openapi.ts')
  })
})
