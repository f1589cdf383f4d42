/** Keys below a prefix of etcd, as they are followed: what is refused, and more of them than anybody reads. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdFollower } from '../../../control/registry/etcd/follow.ts'
import { EtcdGateway } from '../../../control/registry/etcd/gateway.ts'
import type { Heard } from '../../../control/registry/registry.ts'
import { etcdAddress } from './addresses.ts'
import { etcdMissing, startEtcd } from './etcd-process.ts'

const PATIENCE_MS = 30_000

for (const [name, status, body, said] of [
  [
    'as etcd refuses a token that it does not know any more',
    401,
    '{"error":"etcdserver: invalid auth token","code":16,"message":"etcdserver: invalid auth token"}',
    /: HTTP status 401: etcdserver: invalid auth token$/,
  ],
  [
    'as a proxy does',
    401,
    '<html>\nUnauthorized\n</html>',
    /: HTTP status 401: <html>\nUnauthorized\n<\/html>$/,
  ],
  ['with an object where words are expected', 403, '{"error":{"code":7}}', /: HTTP status 403$/],
  ['without a word', 503, '', /: HTTP status 503$/],
] as const)
  test(`a watch that is refused says with which status, ${name}`, async () => {
    const server = createServer((request, response) => {
      const watch = request.url === '/v3/watch'
      response.statusCode = watch ? status : 200
      response.end(watch ? body : '{"header":{"revision":"7"}}')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const gateway = new EtcdGateway(etcdAddress([`http://127.0.0.1:${port}`]))
    try {
      const follower = new EtcdFollower(gateway, '/w/', (value) => value)
      await assert.rejects(
        follower.attempt(() => {}, new AbortController().signal),
        said,
      )
    } finally {
      gateway.close()
      server.closeAllConnections()
      server.close()
    }
  })

test('more keys than are read are listed once, and all of them when there are fewer again', {
  skip: etcdMissing,
}, async () => {
  const etcd = await startEtcd()
  const gateway = new EtcdGateway(etcdAddress([etcd.url]))
  const heard: Heard<string>[] = []
  const stop = new AbortController()
  const until = async (what: string, condition: () => boolean): Promise<void> => {
    const began = Date.now()
    while (!condition()) {
      if (Date.now() - began > PATIENCE_MS) assert.fail(`${what}: ${JSON.stringify(heard.slice(-5))}`)
      await sleep(10)
    }
  }
  const count = (kind: Heard['kind']): number => heard.filter((one) => one.kind === kind).length
  try {
    for (let n = 0; n < 9; n++) await gateway.put(`/w/${n}`, `value ${n}`)
    const follower = new EtcdFollower(gateway, '/w/', (value) => value, { entries: 5, probeMs: 30 })
    const ended = (async (): Promise<void> => {
      // As it is done again and again after what has failed.
      while (!stop.signal.aborted)
        await follower.attempt((one) => heard.push(one), stop.signal).catch(() => {})
    })()
    await until('many looks', () => count('current') >= 10)
    assert.equal(count('whole'), 1)
    await gateway.put('/w/0', 'changed')
    await until('the change', () => count('changes') === 1)
    for (const n of [1, 2, 3, 4]) await gateway.remove(`/w/${n}`)
    await until('a list of all', () => count('whole') === 2)
    const list = heard.findLast((one) => one.kind === 'whole')
    assert.deepEqual([...(list?.entries.keys() ?? [])], ['0', '5', '6', '7', '8'])
    const looks = count('current')
    await until('more looks', () => count('current') >= looks + 5)
    assert.equal(count('whole'), 2)
    stop.abort()
    await ended
  } finally {
    stop.abort()
    gateway.close()
    await etcd.remove()
  }
})
