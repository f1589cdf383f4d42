/** Pools out of a real etcd: what is written there is what they have, whatever becomes of the servers. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdGateway, encode } from '../../../control/registry/etcd/gateway.ts'
import { addressOf, etcdAddress, poolOf } from './addresses.ts'
import { certificate } from './certificate.ts'
import { answering, type Etcd, etcdMissing, etcdOnLoopback, startEtcd } from './etcd-process.ts'
import { freePorts } from './processes.ts'
import { CutProxy } from './proxy.ts'
import { Watching } from './watching.ts'

describe('a pool in etcd', { skip: etcdMissing }, () => {
  let etcd: Etcd
  let gateway: EtcdGateway
  let prefix = ''
  let count = 0
  before(async () => {
    etcd = await startEtcd()
    gateway = new EtcdGateway(etcdAddress([etcd.url]))
  })
  after(async () => {
    gateway.close()
    await etcd.remove()
  })
  const following = async (act: (watching: Watching) => Promise<void>, more = {}): Promise<void> => {
    prefix = `/services/${count++}/`
    const watching = new Watching(poolOf(etcdAddress([etcd.url]), prefix, more))
    try {
      await act(watching)
    } finally {
      watching.close()
    }
  }
  const put = (name: string, value: string, lease?: string) => gateway.put(prefix + name, value, lease)

  test('has what is written below its prefix, as it is added, changed and removed', async () => {
    await following(async (watching) => {
      await watching.until('listed', () => watching.size === 0)
      await put('b', '10.0.0.2:80')
      await watching.has('10.0.0.2:80')
      await put('a', '{"address":"10.0.0.1","port":80,"weight":3,"started":"yesterday"}')
      await watching.has('10.0.0.1:80*3 10.0.0.2:80')
      await put('a', '{"address":"10.0.0.1:80","weight":0}')
      await watching.has('10.0.0.1:80*0 10.0.0.2:80')
      await gateway.remove(`${prefix}b`)
      await watching.has('10.0.0.1:80*0')
      // A neighbour that begins alike is another.
      await gateway.put(`${prefix.slice(0, -1)}0/x`, '10.0.0.9:80')
      await put('c', '[2001:db8::1]:80')
      await watching.has('10.0.0.1:80*0 [2001:db8::1]:80')
    })
  })

  test('skips what is no real server, names it, counts it, and takes the others', async () => {
    await following(async (watching) => {
      await put('bad', '{"address":"10.0.0.300"}')
      await put('cut', '{"address":"10.0.0.3"')
      await put('good', '10.0.0.1:80')
      await put('group', '224.0.0.1:80')
      await put('huge', `{"address":"10.0.0.4","note":"${'x'.repeat(1_000_000)}"}`)
      await put('same', '{"address":"10.0.0.1","port":80}')
      await put('weight', '{"address":"10.0.0.5","weight":-1}')
      await watching.until('all are judged', () => watching.state.badCount === 6)
      await watching.has('10.0.0.1:80')
      const told = watching.state.bad.map(({ key, why }) => `${key}: ${why}`)
      assert.match(told[0]!, /^bad: expected ADDRESS:PORT or .*, got "\{\\"address\\":\\"10\.0\.0\.300/)
      assert.match(told[2]!, /^group: .*unicast/)
      assert.match(told[3]!, /^huge: the value has 10000\d\d bytes, at most 4096 are read/)
      assert.match(told[4]!, /^same: 10\.0\.0\.1:80 is there already, as good/)
      assert.match(told[5]!, /^weight: weight: expected 0 to 2147483647, got -1/)
      await put('bad', '10.0.0.2:80')
      await watching.has('10.0.0.2:80 10.0.0.1:80')
    })
  })

  test('loses what has a lease when the lease ends', async () => {
    await following(async (watching) => {
      await put('b', '10.0.0.2:80')
      // Long enough that both are seen on a busy machine.
      const lease = await gateway.grant(5)
      await put('a', '10.0.0.1:80', lease)
      await watching.has('10.0.0.1:80 10.0.0.2:80')
      await watching.has('10.0.0.2:80')
    })
  })

  test('keeps what is known while the server is killed, and then has what was missed', async () => {
    await following(async (watching) => {
      await put('a', '10.0.0.1:80')
      await put('b', '10.0.0.2:80')
      await watching.has('10.0.0.1:80 10.0.0.2:80')
      await etcd.kill()
      await watching.until('away', () => watching.state.away !== null)
      assert.match(watching.state.away!.why, /^http:\/\/127\.0\.0\.1:\d+: /)
      assert.equal(watching.text, '10.0.0.1:80 10.0.0.2:80')
      etcd.start()
      await answering(etcd)
      // Before the watch is there again, or after: both are heard.
      await put('c', '10.0.0.3:80')
      await gateway.remove(`${prefix}a`)
      await watching.has('10.0.0.2:80 10.0.0.3:80')
      assert.equal(watching.state.away, null)
    })
  })

  test('notices a server that hangs, though no connection ends', async () => {
    await following(async (watching) => {
      await put('a', '10.0.0.1:80')
      await watching.has('10.0.0.1:80')
      etcd.signal('SIGSTOP')
      await watching.until('away', () => watching.state.away !== null)
      etcd.signal('SIGCONT')
      assert.match(watching.state.away!.why, /has not answered within \d+ ms/)
      assert.equal(watching.text, '10.0.0.1:80')
      await answering(etcd)
      await put('b', '10.0.0.2:80')
      await watching.has('10.0.0.1:80 10.0.0.2:80')
    })
  })

  test('goes on from where its connection broke, and is listed anew when that is no longer kept', async () => {
    const proxy = await CutProxy.to(Number(new URL(etcd.url).port))
    prefix = `/cut/${count++}/`
    const watching = new Watching(poolOf(etcdAddress([`http://127.0.0.1:${proxy.port}`]), prefix))
    try {
      await put('a', '10.0.0.1:80')
      await put('b', '10.0.0.2:80')
      await watching.has('10.0.0.1:80 10.0.0.2:80')
      for (const compacted of [false, true]) {
        proxy.cut()
        await watching.until('away', () => watching.state.away !== null)
        await gateway.remove(`${prefix}a`)
        await put('c', `10.0.0.3:${compacted ? 80 : 81}`)
        if (compacted) {
          const { revision } = await gateway.range({ key: prefix })
          await gateway.compact(revision)
        }
        proxy.mend()
        await watching.has(`10.0.0.2:80 10.0.0.3:${compacted ? 80 : 81}`)
        await put('a', '10.0.0.1:80')
        await watching.until('it is watched', () => watching.text.startsWith('10.0.0.1:80'))
      }
    } finally {
      watching.close()
      await proxy.close()
    }
  })

  test('has 10,000 real servers, and the change of one is one change', async () => {
    await following(async (watching) => {
      const names = Array.from({ length: 10_000 }, (_, n) => [n, `10.1.${n >> 8}.${n & 255}:80`] as const)
      for (let n = 0; n < names.length; n += 100) {
        const part = names.slice(n, n + 100)
        await gateway.transact({
          if: [],
          put: part.map(([number, value]) => ({ key: `${prefix}${String(number).padStart(5, '0')}`, value })),
        })
      }
      await watching.until('all', () => watching.size === 10_000)
      const sets = watching.sets.length
      // A burst of writes is not as many sets.
      assert.ok(sets < 100, `${sets} sets`)
      await put('05000', '10.9.9.9:80')
      await watching.until('the change', () => watching.text.includes('10.9.9.9:80'))
      assert.equal(watching.sets.length, sets + 1)
      // Listed anew, in pages.
      const again = new Watching(poolOf(etcdAddress([etcd.url]), prefix))
      await again.until('listed', () => again.size === 10_000)
      assert.equal(again.text, watching.text)
      again.close()
    })
  })
})

test('a pool follows three members of etcd of which one dies', { skip: etcdMissing }, async () => {
  const members = await Promise.all([0, 1, 2].map((n) => etcdOnLoopback(`m${n}`)))
  try {
    for (const member of members) member.start(members)
    await Promise.all(members.map((member) => answering(member)))
    const urls = members.map(({ url }) => url)
    const gateway = new EtcdGateway(etcdAddress(urls.slice(1)))
    const watching = new Watching(poolOf(etcdAddress(urls), '/w/'))
    // They may have to agree on a leader first, also on a busy machine that has kept one from speaking in time.
    const put = async (key: string, value: string): Promise<void> => {
      for (let tries = 0; ; tries++) {
        try {
          return await gateway.put(key, value)
        } catch (error) {
          if (tries > 400) throw error
          gateway.next()
          await sleep(50)
        }
      }
    }
    await put('/w/a', '10.0.0.1:80')
    await watching.has('10.0.0.1:80')
    await members[0]!.kill()
    await put('/w/b', '10.0.0.2:80')
    await watching.has('10.0.0.1:80 10.0.0.2:80')
    watching.close()
    gateway.close()
  } finally {
    await Promise.all(members.map((member) => member.remove()))
  }
})

test('a pool in an etcd that wants TLS, a user and a password', { skip: etcdMissing }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-tls-'))
  const [ca, key] = certificate(folder)
  const etcd = await startEtcd({ scheme: 'https', words: ['--cert-file', ca, '--key-file', key], ca })
  const admin = new EtcdGateway(etcdAddress([etcd.url], { ca }))
  const known = { user: 'director', password: 'open sesame' }
  try {
    await admin.put('/w/a', '10.0.0.1:80')
    for (const [path, body] of [
      ['user/add', { name: 'root', password: 'r' }],
      ['user/add', { name: known.user, password: known.password }],
      ['role/add', { name: 'root' }],
      ['role/add', { name: 'reader' }],
      [
        'role/grant',
        { name: 'reader', perm: { permType: 'READ', key: encode('/w/'), range_end: encode('/w0') } },
      ],
      ['user/grant', { user: 'root', role: 'root' }],
      ['user/grant', { user: known.user, role: 'reader' }],
      ['enable', {}],
    ] as const) {
      const request = { method: 'POST', path: `/v3/auth/${path}`, timeoutMs: 60_000 } as const
      const answer = await admin.endpoints.ask({ ...request, body: JSON.stringify(body) })
      assert.equal(answer.status, 200, `${path}: ${answer.body}`)
    }
    const root = new EtcdGateway(etcdAddress([etcd.url], { ca, user: 'root', password: 'r' }))
    const good = new Watching(poolOf(etcdAddress([etcd.url], { ca, ...known }), '/w/'))
    await good.has('10.0.0.1:80')
    await root.put('/w/b', '10.0.0.2:80')
    await good.has('10.0.0.1:80 10.0.0.2:80')
    good.close()
    root.close()

    for (const [address, why] of [
      [etcdAddress([etcd.url], { ca, user: known.user, password: 'guess' }), /authentication failed/],
      [etcdAddress([etcd.url], { ca }), /user name is empty/],
      [etcdAddress([etcd.url], known), /self-signed certificate/],
      [
        etcdAddress([etcd.url.replace('https', 'http')], known),
        /http:.*(?:broken|hang up|ECONNRESET|HTTP|else)/,
      ],
    ] as const) {
      const bad = new Watching(poolOf(address, '/w/'))
      // On a busy machine the first attempt may just have been too slow.
      await bad.until(`away: ${why}`, () => why.test(bad.state.away?.why ?? ''))
      bad.close()
    }
  } finally {
    admin.close()
    await etcd.remove()
    rmSync(folder, { recursive: true })
  }
})

test('a pool of a registry that nobody answers for is unheard, and says why', async () => {
  const [port = 0] = await freePorts(1)
  const watching = new Watching(poolOf(addressOf('etcd', [`http://127.0.0.1:${port}`]), '/w/'))
  await watching.until('away', () => watching.state.away !== null)
  assert.match(watching.state.away!.why, /ECONNREFUSED/)
  assert.equal(watching.state.servers, null)
  watching.close()
})
