/** A cluster's Services under traffic: the lab's real servers are the pods, the API server is the tests' own. */
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { namespacePath } from '../../lab/namespace.ts'
import type { ConversationReport } from '../../lab/talk.ts'
import { hostNamed, realServers, topology } from '../../lab/topology.ts'
import { ApiServer, type KubeObject } from '../control/source/kubernetes/api-server.ts'
import { inList } from './listed.ts'
import { missingFor, withLab } from './scene.ts'

const PATIENCE_MS = 60_000
const VIRTUAL = { address: topology.virtual.nat.ipv4, port: 80 }
const KEY = 'shop/web'
const PODS = realServers().map(({ name, servers }) => ({ name, address: servers.ipv4 }))

type Condition = 'ready' | 'terminating' | 'starting'
const CONDITIONS: Readonly<Record<Condition, object>> = {
  ready: { ready: true, serving: true, terminating: false },
  terminating: { ready: false, serving: true, terminating: true },
  starting: { ready: false, serving: false, terminating: false },
}

function service(spec: object = {}): KubeObject {
  return {
    metadata: { namespace: 'shop', name: 'web' },
    spec: {
      type: 'LoadBalancer',
      loadBalancerClass: 'pointsman.dev/director',
      ipFamilies: ['IPv4'],
      ports: [{ name: 'web', protocol: 'TCP', port: VIRTUAL.port, nodePort: 30_080 }],
      ...spec,
    },
  }
}

function slice(conditions: ReadonlyMap<string, Condition>): KubeObject {
  return {
    metadata: { namespace: 'shop', name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: 'web', protocol: 'TCP', port: topology.ports.httpBehindNat }],
    endpoints: PODS.flatMap(({ name, address }) => {
      const condition = conditions.get(name)
      return condition === undefined ? [] : [{ addresses: [address], conditions: CONDITIONS[condition] }]
    }),
  }
}

const allReady = (): Map<string, Condition> => new Map(PODS.map(({ name }) => [name, 'ready']))

async function withCluster(act: (lab: Lab, api: ApiServer) => Promise<void>): Promise<void> {
  await withLab(async (lab) => {
    const { director } = lab
    const api = new ApiServer()
    await api.start(namespacePath(director.namespace))
    try {
      mkdirSync(director.runDir, { recursive: true, mode: 0o755 })
      const file = `${director.runDir}/cluster.yaml`
      writeFileSync(`${director.runDir}/token`, api.token)
      writeFileSync(
        file,
        `api: ${api.url}\ntoken_file: token\naddresses: [${VIRTUAL.address}]\nscheduler: rr\n`,
      )
      await director.start({ dataplane: 'xdp', kubernetes: file })
      await act(lab, api)
      assert.deepEqual(api.problems, [])
    } catch (error) {
      if (error instanceof Error) error.stack += `\n--- pointsmand:\n${director.logTail()}`
      throw error
    } finally {
      await api.stop()
    }
  })
}

const listed = (weights: Readonly<Record<string, number>>): string =>
  PODS.flatMap(({ name, address }) =>
    weights[name] === undefined ? [] : [`${address}:${topology.ports.httpBehindNat} ${weights[name]}`],
  )
    .sort()
    .join(', ')

const ALL = listed(Object.fromEntries(PODS.map(({ name }) => [name, 1])))

test(
  'loadBalancerSourceRanges let in who is in them, belong to the cluster, and go with the Service',
  {
    skip: missingFor('xdp'),
  },
  () =>
    withCluster(async (lab, api) => {
      const client = hostNamed('client').clients.ipv4
      const gate = async (action: 'allow' | 'deny'): Promise<string> => {
        const { status, stdout, stderr } = await lab.director.pointsman([action, 'list', '--json'])
        assert.equal(status, 0, stderr)
        const filters = JSON.parse(stdout) as {
          prefix: string
          source: string
          service: { address: string }
        }[]
        return filters.map(({ prefix, source, service }) => `${prefix} ${service.address} ${source}`).join()
      }
      const isGate = (allow: string, deny: string): Promise<unknown> =>
        until(`the gate to allow "${allow}" and deny "${deny}"`, PATIENCE_MS, async () =>
          (await gate('allow')) === allow && (await gate('deny')) === deny ? true : undefined,
        )
      const own = (prefix: string): string => `${prefix} ${VIRTUAL.address} kubernetes`
      const refused = async (): Promise<void> => {
        await assert.rejects(lab.client.http({ ...VIRTUAL, timeoutMs: 500 }), /no answer within 500 ms/)
      }

      // Closed from its first packet on.
      api.put('services', service({ loadBalancerSourceRanges: ['198.51.100.0/24'] }))
      api.put('endpointslices', slice(allReady()))
      await inList(lab, ALL, PATIENCE_MS)
      await isGate(own('198.51.100.0/24'), own('0.0.0.0/0'))
      await refused()

      api.put('services', service({ loadBalancerSourceRanges: [`${client}/24`, '2001:db8::/32'] }))
      await isGate(own('192.0.2.0/24'), own('0.0.0.0/0'))
      await lab.client.http(VIRTUAL)
      const taken = await lab.director.pointsman([
        'deny',
        'delete',
        '0.0.0.0/0',
        '--service',
        `tcp/${VIRTUAL.address}:80`,
      ])
      assert.match(taken.stderr, /0\.0\.0\.0\/0 belongs to a Kubernetes cluster: .*kubectl edit service/)

      // Nothing but the other family's: nobody of this one.
      api.put('services', service({ loadBalancerSourceRanges: ['2001:db8::/32'] }))
      await isGate('', own('0.0.0.0/0'))
      await refused()

      api.put('services', service())
      await isGate('', '')
      await lab.client.http(VIRTUAL)

      api.put('services', service({ loadBalancerSourceRanges: ['198.51.100.0/24'] }))
      await isGate(own('198.51.100.0/24'), own('0.0.0.0/0'))
      api.remove('services', KEY)
      await inList(lab, '', PATIENCE_MS)
      await isGate('', '')
      // Nor are they there for whoever comes to that address next.
      await lab.director.rule(`-A -t ${VIRTUAL.address}:80`)
      await lab.director.rule(
        `-a -t ${VIRTUAL.address}:80 -r ${PODS[0]?.address}:${topology.ports.httpBehindNat} -m`,
      )
      await lab.client.http(VIRTUAL)
    }),
)

/** Answers by real server since the last look, and what went wrong. */
class Load {
  readonly #lab: Lab
  readonly #ended: Promise<void>
  #answers: Record<string, number> = {}
  readonly failures: Record<string, number> = {}
  #stopped = false

  constructor(lab: Lab) {
    this.#lab = lab
    this.#ended = this.#run()
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const { answers, failures } = await this.#lab.client.load({ ...VIRTUAL, requests: 40, concurrency: 4 })
      for (const [name, count] of Object.entries(answers))
        this.#answers[name] = (this.#answers[name] ?? 0) + count
      for (const [why, count] of Object.entries(failures))
        this.failures[why] = (this.failures[why] ?? 0) + count
    }
  }

  /** Waits until all of them have answered from now on. */
  async reaches(names: readonly string[]): Promise<void> {
    this.#answers = {}
    await until(`answers of ${names.join(', ')}`, PATIENCE_MS, () =>
      names.every((name) => (this.#answers[name] ?? 0) > 0) ? true : undefined,
    )
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#ended
  }
}

/** Whoever else is asked on the way stays open, too. */
async function conversationWith(lab: Lab, name: string): Promise<ConversationReport> {
  for (;;) {
    const report = await lab.client.converse({ ...VIRTUAL, intervalMs: 20 })
    if (report.server === name) return report
  }
}

/** Connections that are established with one real server. */
async function active(lab: Lab, address: string): Promise<number> {
  const listed = await lab.director.rule('-Ln')
  const [, count] = new RegExp(`${address}:\\d+ +Masq +\\d+ +(\\d+)`).exec(listed) ?? []
  return Number(count ?? 0)
}

test(
  "a rolling update of a Deployment's pods loses no request, and no connection of a pod that is going",
  {
    skip: missingFor('xdp'),
  },
  () =>
    withCluster(async (lab, api) => {
      const conditions = allReady()
      api.put('services', service())
      api.put('endpointslices', slice(conditions))
      await inList(lab, ALL, PATIENCE_MS)
      const load = new Load(lab)
      try {
        for (const { name, address } of PODS) {
          const others = PODS.filter((pod) => pod.name !== name)
          const weights = Object.fromEntries(others.map((pod) => [pod.name, 1]))
          await load.reaches(PODS.map((pod) => pod.name))
          const { id, requests } = await conversationWith(lab, name)
          // Going: no new connections, and the old ones go on.
          conditions.set(name, 'terminating')
          api.put('endpointslices', slice(conditions))
          await inList(lab, listed({ ...weights, [name]: 0 }), PATIENCE_MS)
          await until('the conversation to go on', PATIENCE_MS, async () => {
            const now = (await lab.client.conversations()).find((one) => one.id === id)
            return now?.failure !== null || now.requests >= requests + 3 ? true : undefined
          })
          for (const { failure } of await lab.client.closeConversations()) assert.equal(failure, null)
          // As a pod does that ends once nobody has anything to ask of it.
          await until(`the connections of ${name} to end`, PATIENCE_MS, async () =>
            (await active(lab, address)) === 0 ? true : undefined,
          )
          await lab.stopServer(name)
          conditions.delete(name)
          api.put('endpointslices', slice(conditions))
          await inList(lab, listed(weights), PATIENCE_MS)
          await load.reaches(others.map((pod) => pod.name))
          // The next one: there, but not ready; then it is.
          conditions.set(name, 'starting')
          api.put('endpointslices', slice(conditions))
          await lab.startServer(name)
          conditions.set(name, 'ready')
          api.put('endpointslices', slice(conditions))
          await inList(lab, ALL, PATIENCE_MS)
        }
        await load.reaches(PODS.map(({ name }) => name))
      } finally {
        await load.stop()
      }
      assert.deepEqual(load.failures, {})
    }),
)
