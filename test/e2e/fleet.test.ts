/** Three directors with one configuration in etcd, behind a router with a route of three next hops. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../../lab/command.ts'
import type { LabDirector } from '../../lab/director.ts'
import { Etcd, etcdMissing } from '../../lab/etcd.ts'
import type { Lab } from '../../lab/lab.ts'
import { ipBatch, setParameters } from '../../lab/namespace.ts'
import { endpoint, type Host, hostNamed, realServers, topology } from '../../lab/topology.ts'
import { addDirector, addHost, directorAt, removeDirector, removeHost } from './more-directors.ts'
import { missingFor, withLab } from './scene.ts'

const WITHIN_MS = 60_000
const VIRTUAL = { address: topology.virtual['direct-routing'].ipv4, port: topology.ports.http }
const { interface: wire } = topology.wires.clients
/** Who only forwards what clients send to the virtual address, and has etcd beside that. */
const ROUTER: Host = {
  name: 'router',
  role: 'client',
  clients: { mac: '02:00:00:00:01:01', ipv4: '192.0.2.1', ipv6: '2001:db8:1::1' },
}
const HOSTS = [hostNamed('director'), directorAt('second', 20), directorAt('third', 30)]
const CONVERSATIONS = 6
const ANSWERS = 5

/** Clients know the router alone; it hands connections to the directors by their ports, too. */
async function makeRouter(lab: Lab): Promise<void> {
  await addHost(lab, ROUTER)
  const namespace = lab.prefix + ROUTER.name
  await setParameters(namespace, {
    'ipv4/ip_forward': 1,
    'ipv4/fib_multipath_hash_policy': 1,
    'ipv4/conf/all/send_redirects': 0,
    [`ipv4/conf/${wire}/send_redirects`]: 0,
  })
  await ipBatch(`${lab.prefix}client`, [`route add ${VIRTUAL.address}/32 via ${ROUTER.clients.ipv4}`])
  await leadTo(lab, HOSTS)
}

async function leadTo(lab: Lab, hosts: readonly Host[]): Promise<void> {
  const hops = hosts.map(({ clients }) => `nexthop via ${clients.ipv4} dev ${wire}`)
  await ipBatch(lab.prefix + ROUTER.name, [`route replace ${VIRTUAL.address}/32 ${hops.join(' ')}`])
}

const names = (...indices: number[]): string[] => indices.map((index) => realServers()[index]!.name)

function configuration(servers: readonly string[], more = ''): string {
  const list = servers.map((name) => endpoint(hostNamed(name).servers?.ipv4 ?? '', VIRTUAL.port))
  // What another director has begun goes on here, from the middle.
  return `director: { sysctls: { sloppy_tcp: 1 } }
defaults: { server: { method: direct-routing } }
services:
  - { tcp: "${endpoint(VIRTUAL.address, VIRTUAL.port)}", scheduler: mh, flags: [mh-port], real_servers: [${list.join(', ')}] }
${more}`
}

/** Names of the real servers that a director has in force. */
async function serving(director: LabDirector): Promise<string> {
  const listed = await director.rule('-Sn')
  const found = realServers().filter(({ servers }) => listed.includes(` -r ${servers.ipv4}:`))
  return (await director.isInForce()) ? found.map(({ name }) => name).join(' ') : 'not in force'
}

const allServe = (directors: readonly LabDirector[], wanted: readonly string[]): Promise<true> =>
  until(`all of them to serve ${wanted.join(' ')}`, WITHIN_MS, async () => {
    const lists = await Promise.all(directors.map(serving))
    return lists.every((list) => list === wanted.join(' ')) ? true : undefined
  })

/** Requests by way of all directors are answered by these real servers, each of them. */
async function answeredBy(lab: Lab, wanted: readonly string[]): Promise<void> {
  const { answers, failures } = await lab.client.load({ ...VIRTUAL, requests: 300, concurrency: 4 })
  assert.deepEqual(failures, {})
  assert.deepEqual(Object.keys(answers).sort(), wanted)
}

async function connections(director: LabDirector): Promise<number> {
  const { body } = await director.api('GET', '/v1/services')
  const [service] = JSON.parse(body) as { counters: { conns: number } }[]
  return service?.counters.conns ?? 0
}

test(
  'three directors behind a router have one configuration: all of them a good one, none a bad one, and back',
  {
    skip: missingFor('xdp') || etcdMissing,
  },
  (t) =>
    withLab(async (lab) => {
      const folder = mkdtempSync(join(tmpdir(), 'pointsman-fleet-'))
      const place = `etcd://${endpoint(ROUTER.clients.ipv4, 2379)}/fleet/edge`
      const others = [await addDirector(lab, HOSTS[1]!), await addDirector(lab, HOSTS[2]!)]
      const directors = [lab.director, ...others]
      const [, , third] = directors as [LabDirector, LabDirector, LabDirector]
      await makeRouter(lab)
      const etcd = new Etcd({
        name: 'fleet',
        url: `http://${endpoint(ROUTER.clients.ipv4, 2379)}`,
        peer: `http://${endpoint(ROUTER.clients.ipv4, 2380)}`,
        namespace: lab.prefix + ROUTER.name,
      })
      const start = (director: LabDirector, index: number): Promise<void> =>
        director.start({ dataplane: 'xdp', config: `${place}?director=${HOSTS[index]?.name}` })
      const publish = async (text: string): Promise<{ status: number | null; said: string }> => {
        const file = join(folder, 'site.yaml')
        writeFileSync(file, text)
        const { status, stdout, stderr } = await lab.director.pointsman(['apply', '--to', place, file])
        return { status, said: stdout + stderr }
      }
      const published = async (text: string, revision: number, followers: number): Promise<void> => {
        const began = performance.now()
        const { said } = await publish(text)
        const tookMs = Math.round(performance.now() - began)
        const line = new RegExp(`^\\S+ +${revision} .* in force$`, 'gm')
        await until(`revision ${revision} to be in force: ${said}`, WITHIN_MS, async () => {
          const { stdout } = await lab.director.pointsman(['fleet', place])
          return stdout.match(line)?.length === followers ? true : undefined
        })
        t.diagnostic(`revision ${revision}: published, and its followers have said so, after ${tookMs} ms`)
      }

      try {
        etcd.start()
        await until('etcd', WITHIN_MS, async () =>
          (await lab.exec(ROUTER.name, ['curl', '-sf', `${etcd.url}/health`])).status === 0
            ? true
            : undefined,
        )
        assert.match((await publish(configuration(names(0, 1)))).said, /no director follows it/)
        await Promise.all(directors.map(start))
        await allServe(directors, names(0, 1))
        await answeredBy(lab, names(0, 1))
        for (const director of directors)
          assert.ok((await connections(director)) > 0, `${director.namespace} has had its share`)

        await published(configuration(names(0, 1, 2)), 2, 3)
        await allServe(directors, names(0, 1, 2))
        await answeredBy(lab, names(0, 1, 2))

        const bad = await publish(configuration(names(0), '  - { tcp: "192.0.2.300:80" }\n'))
        assert.notEqual(bad.status, 0)
        assert.match(bad.said, /nothing has changed/)
        await allServe(directors, names(0, 1, 2))

        // One is away; its packets go on as they were. What was decided meanwhile it has when it is back.
        await third.end('SIGKILL')
        await published(configuration(names(1, 2)), 3, 2)
        await answeredBy(lab, names(0, 1, 2))
        await start(third, 2)
        await allServe(directors, names(1, 2))
        await answeredBy(lab, names(1, 2))

        // They differ in nothing: a director less, and its connections go on over the others.
        for (let i = 0; i < CONVERSATIONS; i++) await lab.client.converse({ ...VIRTUAL, intervalMs: 20 })
        await leadTo(lab, HOSTS.slice(1))
        const moved = new Map((await lab.client.conversations()).map(({ id, requests }) => [id, requests]))
        await until('answers by way of the others', WITHIN_MS, async () =>
          (await lab.client.conversations()).every(
            ({ id, requests, failure }) => failure !== null || requests >= moved.get(id)! + ANSWERS,
          )
            ? true
            : undefined,
        )
        // Each would say so if another real server had answered.
        for (const { failure } of await lab.client.closeConversations()) assert.equal(failure, null)
        await leadTo(lab, HOSTS)

        const back = await lab.director.pointsman(['fleet', '--rollback', '2', place])
        assert.equal(back.status, 0, back.stdout + back.stderr)
        await allServe(directors, names(0, 1, 2))
        await answeredBy(lab, names(0, 1, 2))
      } finally {
        await etcd.remove()
        for (const director of others) await removeDirector(director)
        await removeHost(lab, ROUTER)
        rmSync(folder, { recursive: true })
      }
    }),
)
