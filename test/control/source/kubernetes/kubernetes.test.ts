/** A director outside of a cluster serves its LoadBalancer Services: against an API server with real watches. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { sourcesText } from '../../../../control/cli/text.ts'
import { call, get } from '../../../../control/front/api/client.ts'
import { healthAnswer } from '../../../../control/front/api/schema/health.ts'
import { servicesAnswer } from '../../../../control/front/api/schema/service.ts'
import { sourcesAnswer } from '../../../../control/front/api/schema/source.ts'
import { FINALIZER } from '../../../../control/source/kubernetes/cluster.ts'
import { addressText, parseRange } from '../../../../control/source/kubernetes/settings.ts'
import { enterPrivateNetwork, skipWithoutPrivileges } from '../../../dataplane/private-network.ts'
import { withDaemon } from '../../daemon/process.ts'
import { ApiServer, type KubeObject } from './api-server.ts'

/** Of a thousand Services on a machine with much else to do. */
const LIMIT_MS = 120_000

// The daemon makes the devices that health checks go by, and is killed in the end: they go with the namespace.
if (skipWithoutPrivileges === false) enterPrivateNetwork()

interface Wanted {
  readonly spec?: object
  readonly metadata?: object
}

function service(name: string, { spec = {}, metadata = {} }: Wanted = {}): KubeObject {
  return {
    metadata: { namespace: 'shop', name, ...metadata },
    spec: {
      type: 'LoadBalancer',
      loadBalancerClass: 'pointsman.dev/director',
      ipFamilies: ['IPv4'],
      ports: [{ name: 'web', protocol: 'TCP', port: 80, nodePort: 30_080 }],
      ...spec,
    },
  }
}

interface Pod {
  readonly address: string
  readonly node?: string
  readonly conditions?: object
}

function slice(of: string, pods: readonly Pod[], more: object = {}, name = `${of}-1`): KubeObject {
  return {
    metadata: { namespace: 'shop', name, labels: { 'kubernetes.io/service-name': of } },
    addressType: 'IPv4',
    ports: [{ name: 'web', protocol: 'TCP', port: 8080 }],
    endpoints: pods.map(({ address, node = 'n1', conditions = { ready: true } }) => ({
      addresses: [address],
      nodeName: node,
      conditions,
    })),
    ...more,
  }
}

function node(name: string, address: string, ready = 'True', labels = {}): KubeObject {
  return {
    metadata: { name, labels },
    status: {
      addresses: [{ type: 'InternalIP', address }],
      conditions: [{ type: 'Ready', status: ready }],
    },
  }
}

const ingressOf = (object: KubeObject | undefined): string => {
  const status = object?.status as { loadBalancer?: { ingress?: { ip: string }[] } } | undefined
  return (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip).join(' ')
}

describe('a Kubernetes cluster as a source', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-kubernetes-'))
  const file = join(folder, 'cluster.yaml')
  let api: ApiServer
  before(async () => {
    api = new ApiServer()
    await api.start()
    writeFileSync(join(folder, 'token'), 'first\n')
  })
  after(async () => {
    await api.stop()
    rmSync(folder, { recursive: true })
    assert.deepEqual(api.problems, [])
  })
  const settings = (more = '') =>
    writeFileSync(
      file,
      `api: ${api.url}\ntoken_file: token\naddresses: [192.0.2.64/29, "2001:db8:1::10-2001:db8:1::1f"]\nasked_addresses: [192.0.2.80-192.0.2.255, 198.18.0.0/15]\n${more}`,
    )

  const running = async (act: (tools: Tools) => Promise<void>): Promise<void> => {
    await withDaemon({ options: ['--kubernetes', file] }, async ({ socket, log }) => {
      const rules = async () =>
        (await get(socket, '/v1/services', servicesAnswer)).value
          .map(({ protocol, address, port, persistenceTimeoutS, servers }) => {
            const list = servers.map((one) => `${one.address}:${one.port}*${one.weight}`).sort()
            const sticky = persistenceTimeoutS === 0 ? '' : `+${persistenceTimeoutS}`
            return `${protocol} ${address} ${port}${sticky}: ${list.join(' ')}`
          })
          .sort()
          .join('\n')
      const has = async (...lines: string[]) => {
        const began = Date.now()
        const wanted = lines.sort().join('\n')
        while ((await rules()) !== wanted) {
          if (Date.now() - began > LIMIT_MS) assert.equal(await rules(), wanted, log())
          await sleep(20)
        }
      }
      await act({ socket, log, has })
    })
  }
  interface Tools {
    readonly socket: string
    readonly log: () => string
    readonly has: (...lines: string[]) => Promise<void>
  }
  const until = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
    const began = Date.now()
    while (!(await condition())) {
      if (Date.now() - began > LIMIT_MS) assert.fail(`${what}: not within ${LIMIT_MS} ms`)
      await sleep(20)
    }
  }

  test('serves the pods of its Services, says where, and follows them', async () => {
    settings()
    api.put('services', service('web'))
    api.put('services', service('other', { spec: { loadBalancerClass: 'somebody.else/x' } }))
    api.put('services', service('inside', { spec: { type: 'ClusterIP' } }))
    api.put('endpointslices', slice('web', [{ address: '10.1.0.1' }]))
    await running(async ({ socket, has, log }) => {
      await has('tcp 192.0.2.64 80: 10.1.0.1:8080*1')
      await until('the status says so', () => ingressOf(api.get('services', 'shop/web')) === '192.0.2.64')
      assert.deepEqual(api.get('services', 'shop/web')?.metadata.finalizers, [FINALIZER])
      assert.equal(ingressOf(api.get('services', 'shop/other')), '')
      await assert.rejects(
        call(socket, 'DELETE', '/v1/services/tcp/192.0.2.64/80'),
        /belongs to a Kubernetes cluster: change it there: kubectl edit service/,
      )

      // A pod that is going keeps its connections, and is the only one if there is no other.
      const going = { ready: false, serving: true, terminating: true }
      api.put(
        'endpointslices',
        slice('web', [{ address: '10.1.0.1', conditions: going }, { address: '10.1.0.2' }]),
      )
      await has('tcp 192.0.2.64 80: 10.1.0.1:8080*0 10.1.0.2:8080*1')
      api.put(
        'endpointslices',
        slice('web', [
          { address: '10.1.0.1', conditions: going },
          { address: '10.1.0.2', conditions: { ready: false } },
        ]),
      )
      await has('tcp 192.0.2.64 80: 10.1.0.1:8080*1')

      // Watches end, break, and begin too late; the token is renewed.
      api.endWatches()
      api.put('endpointslices', slice('web', [{ address: '10.1.0.3' }]))
      await has('tcp 192.0.2.64 80: 10.1.0.3:8080*1')
      api.token = 'second'
      writeFileSync(join(folder, 'token'), 'second')
      api.dropWatches()
      api.put('endpointslices', slice('web', [{ address: '10.1.0.4' }]))
      await has('tcp 192.0.2.64 80: 10.1.0.4:8080*1')
      for (let round = 0; round < 2; round++) {
        const lists = api.lists
        api.dropWatches()
        api.put('services', service(`more${round}`, { spec: { loadBalancerIP: `192.0.2.${200 + round}` } }))
        api.put('endpointslices', slice('web', [{ address: `10.1.0.${10 + round}` }]))
        api.compact()
        const more = [200, 201].slice(0, round + 1).map((n) => `tcp 192.0.2.${n} 80: `)
        await has(`tcp 192.0.2.64 80: 10.1.0.${10 + round}:8080*1`, ...more)
        assert.ok(api.lists > lists, 'what was forgotten is listed anew')
      }
      api.bookmark()

      // Deleted: it is no longer served, and then it may go.
      for (const name of ['more0', 'more1']) api.remove('services', `shop/${name}`)
      await has('tcp 192.0.2.64 80: 10.1.0.11:8080*1')
      await until('it is gone', () => api.get('services', 'shop/more0') === undefined)
      // No longer of this type: it has no address any more, and does not wait for us.
      api.put('services', {
        ...service('web', {
          spec: { type: 'ClusterIP', loadBalancerClass: null },
          metadata: { finalizers: [FINALIZER] },
        }),
        status: api.get('services', 'shop/web')?.status,
      })
      await has()
      await until('it is let go', () => {
        const web = api.get('services', 'shop/web')
        return ingressOf(web) === '' && JSON.stringify(web?.metadata.finalizers) === '[]'
      })
      assert.doesNotMatch(log(), /"level":60/)
    })
    for (const name of ['web', 'other', 'inside']) api.remove('services', `shop/${name}`)
    api.remove('endpointslices', 'shop/web-1')
  })

  test('honours families, wanted addresses, affinity, protocols, and gives no address twice', async () => {
    settings()
    const six = { addressType: 'IPv6', endpoints: [{ addresses: ['2001:db8:5::1'], conditions: {} }] }
    api.put(
      'services',
      service('dual', { spec: { ipFamilies: ['IPv4', 'IPv6'], sessionAffinity: 'ClientIP' } }),
    )
    api.put('endpointslices', slice('dual', [{ address: '10.2.0.1' }]))
    api.put('endpointslices', slice('dual', [], six, 'dual-6'))
    const ports = [
      { name: 'web', protocol: 'TCP', port: 80 },
      { name: 'dns', protocol: 'UDP', port: 53 },
    ]
    api.put(
      'services',
      service('named', {
        spec: { ports },
        metadata: {
          annotations: { 'pointsman.dev/addresses': '192.0.2.99' },
          creationTimestamp: '2026-01-02T00:00:00Z',
        },
      }),
    )
    api.put(
      'services',
      service('late', {
        spec: { loadBalancerIP: '192.0.2.99' },
        metadata: { creationTimestamp: '2026-01-03T00:00:00Z' },
      }),
    )
    // One that has had its address since another director gave it.
    api.put('services', {
      ...service('kept', { metadata: { creationTimestamp: '2026-01-04T00:00:00Z' } }),
      status: { loadBalancer: { ingress: [{ ip: '192.0.2.64' }] } },
    })
    api.put(
      'services',
      service('closed', { spec: { loadBalancerSourceRanges: ['10.0.0.0/8'], loadBalancerIP: '192.0.2.98' } }),
    )
    api.put('services', service('odd', { spec: { loadBalancerSourceRanges: ['10.0.0.0/8', 'home'] } }))
    // Whoever may make a Service may not take the director's own address, or a neighbour's.
    api.put('services', service('greedy', { spec: { loadBalancerIP: '192.0.2.1' } }))
    await running(async ({ socket, has, log }) => {
      await has(
        'tcp 192.0.2.65 80+10800: 10.2.0.1:8080*1',
        'tcp 2001:db8:1::10 80+10800: 2001:db8:5::1:8080*1',
        'tcp 192.0.2.99 80: ',
        'udp 192.0.2.99 53: ',
        'tcp 192.0.2.98 80: ',
        'tcp 192.0.2.64 80: ',
      )
      await until('told', () => ingressOf(api.get('services', 'shop/dual')) === '192.0.2.65 2001:db8:1::10')
      assert.equal(ingressOf(api.get('services', 'shop/late')), '')
      // What somebody else has here keeps no other out, and is not said to be served.
      await call(socket, 'PUT', '/v1/services/tcp/192.0.2.97/80', { scheduler: 'rr' })
      api.put('services', service('clash', { spec: { loadBalancerIP: '192.0.2.97' } }))
      api.put('services', service('fine', { spec: { loadBalancerIP: '192.0.2.96' } }))
      await until('the other is served', () => ingressOf(api.get('services', 'shop/fine')) === '192.0.2.96')
      assert.equal(ingressOf(api.get('services', 'shop/clash')), '')
      await until('why is told', () => /left out.*192\.0\.2\.97:80.* belongs to commands/.test(log()))
      for (const name of ['clash', 'fine']) api.remove('services', `shop/${name}`)
      await until('gone', () => api.get('services', 'shop/fine') === undefined)
      await call(socket, 'DELETE', '/v1/services/tcp/192.0.2.97/80')
      assert.match(log(), /service shop\/late:1:1: 192\.0\.2\.99 TCP 80 belongs to shop\/named/)
      assert.match(
        log(),
        /service shop\/greedy:1:1: 192\.0\.2\.1 is none of this director's: .*asked_addresses/,
      )
      assert.equal(ingressOf(api.get('services', 'shop/greedy')), '')
      assert.match(
        log(),
        /service shop\/odd:1:1: Cannot read \\"home\\" of loadBalancerSourceRanges, and it is not/,
      )
      // Two have been taken away, one after the other.
      await until('six are in force', async () =>
        /kubernetes: .*cluster\.yaml\n {2}in force for \d+ s, 6 services/.test(
          sourcesText((await get(socket, '/v1/sources', sourcesAnswer)).value),
        ),
      )
    })
    for (const name of ['dual', 'named', 'late', 'kept', 'closed', 'greedy', 'odd'])
      api.remove('services', `shop/${name}`)
    for (const name of ['dual-1', 'dual-6']) api.remove('endpointslices', `shop/${name}`)
  })

  test('serves by nodes: all that are ready, or only those that have a pod, which are asked for it', async () => {
    settings('targets: nodes\n')
    api.put('nodes', node('n1', '10.9.0.1'))
    api.put('nodes', node('n2', '10.9.0.2'))
    api.put('nodes', node('n3', '10.9.0.3', 'False'))
    api.put(
      'nodes',
      node('n4', '10.9.0.4', 'True', { 'node.kubernetes.io/exclude-from-external-load-balancers': '' }),
    )
    api.put('services', service('all', { spec: { loadBalancerIP: '192.0.2.90' } }))
    const local = {
      externalTrafficPolicy: 'Local',
      healthCheckNodePort: 31_000,
      loadBalancerIP: '192.0.2.91',
    }
    api.put('services', service('local', { spec: local }))
    api.put(
      'endpointslices',
      slice('local', [
        { address: '10.2.0.1', node: 'n2' },
        { address: '10.2.0.2', node: 'n3' },
      ]),
    )
    await running(async ({ socket, has }) => {
      await has('tcp 192.0.2.90 80: 10.9.0.1:30080*1 10.9.0.2:30080*1', 'tcp 192.0.2.91 80: 10.9.0.2:30080*1')
      const { value } = await get(socket, '/v1/health', healthAnswer)
      const text = JSON.stringify(value)
      assert.match(text, /healthCheckNodePort/)
      api.put('nodes', node('n3', '10.9.0.3'))
      await until('the third', async () => {
        const { value: services } = await get(socket, '/v1/services', servicesAnswer)
        return services.every(({ servers }) => servers.some(({ address }) => address === '10.9.0.3'))
      })
    })
    for (const name of ['all', 'local']) api.remove('services', `shop/${name}`)
    for (const name of ['n1', 'n2', 'n3', 'n4']) api.remove('nodes', `/${name}`)
    api.remove('endpointslices', 'shop/local-1')
  })

  test('has 1,000 Services in slow pages, goes on without the API server, and makes one change of one', async () => {
    settings()
    for (let n = 0; n < 1000; n++) {
      api.put('services', service(`s${n}`, { spec: { loadBalancerIP: `198.18.${n >> 8}.${n & 255}` } }))
      api.put('endpointslices', slice(`s${n}`, [{ address: '10.3.0.1' }, { address: '10.3.0.2' }]))
    }
    api.listMs = 20
    await running(async ({ socket, log }) => {
      const count = async () => (await get(socket, '/v1/services', servicesAnswer)).value.length
      await until('all of them', async () => (await count()) === 1000)
      await until('all are told', () => ingressOf(api.get('services', 'shop/s999')) === '198.18.3.231')
      await until('it is quiet', async () => {
        const before = log().length
        await sleep(300)
        return log().length === before
      })
      api.put('endpointslices', slice('s7', [{ address: '10.3.0.1' }, { address: '10.3.0.3' }]))
      await until('the change', () =>
        /"add server":1,"msg":"applied"|"delete server":1,"add server":1/.test(log()),
      )
      await api.stop()
      await sleep(300)
      assert.equal(await count(), 1000)
    })
  })
})

test('ranges of addresses are read as they are meant', () => {
  for (const [text, first, last] of [
    ['192.0.2.64/29', '192.0.2.64', '192.0.2.71'],
    ['192.0.2.70-192.0.2.71', '192.0.2.70', '192.0.2.71'],
    ['192.0.2.1', '192.0.2.1', '192.0.2.1'],
    ['2001:db8::/126', '2001:db8::', '2001:db8::3'],
  ] as const) {
    const range = parseRange(text)!
    assert.equal(addressText(range.first, range.family), first)
    assert.equal(addressText(range.last, range.family), last)
  }
  for (const text of ['192.0.2.9-192.0.2.1', '192.0.2.0/33', 'x', '192.0.2.1-2001:db8::1', '']) {
    assert.equal(parseRange(text), null, text)
  }
})
