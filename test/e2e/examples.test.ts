/**
 * The examples as they are shipped, each under traffic: a client's packets for their virtual addresses reach their
 * real servers, which are addresses of the lab's.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { HealthShown } from '../../control/front/api/schema/health.ts'
import { labProcess } from '../../lab/built.ts'
import { must, until } from '../../lab/command.ts'
import { Etcd, etcdMissing } from '../../lab/etcd.ts'
import { NAT_TABLE } from '../../lab/host-network.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace, ipBatch, namespacePath } from '../../lab/namespace.ts'
import { hostNamed, realServers, topology } from '../../lab/topology.ts'
import { ApiServer } from '../control/source/kubernetes/api-server.ts'
import { missingFor, withLab } from './scene.ts'

const FOLDER = fileURLToPath(new URL('../../examples', import.meta.url))
const PATIENCE_MS = 60_000
const CLIENTS = topology.wires.clients.interface
/** Real servers of the examples, by who they are in the lab. */
const SERVERS: Readonly<Record<string, readonly string[]>> = {
  rs1: ['10.0.0.1', '10.0.0.5', '10.0.0.7', '10.0.0.53', '2001:db8:1::1'],
  rs2: ['10.0.0.2', '10.0.0.6', '10.0.0.8', '10.0.1.53', '2001:db8:1::2'],
  rs3: ['10.0.0.3', '10.0.0.9'],
}
/** Their virtual addresses beside the director's own, which is one of them. */
const VIRTUAL = ['192.0.2.20', '192.0.2.30', '192.0.2.64', '2001:db8::10']
/** To real servers that answer clients themselves. */
const ON_LO = ['192.0.2.10', '192.0.2.20']
/** A client that the example lets in where the lab's is denied. */
const INSIDE = '10.9.9.9'
/** What is served there beside the lab's own ports. */
const PORTS = [443, 5432, 10_005]
/** As a name server that knows of nothing: the question comes back as an answer. */
const NAMES = `for (const address of process.argv.slice(1)) {
  const socket = require('dgram').createSocket('udp4')
  socket.on('message', (data, { port, address }) => { data[2] |= 0x80; socket.send(data, port, address) })
  socket.bind(53, address)
}`
/** One question of a client's, by an address of its own: what came back, or why nothing did. */
const ASK_HTTP = `const [host, port, localAddress] = process.argv.slice(1)
require('http').get({ host, port, localAddress, timeout: 2000, agent: false }, (answer) => answer.pipe(process.stdout))
  .on('timeout', () => process.exit(1)).on('error', () => process.exit(1))`
const ASK_NAME = `const socket = require('dgram').createSocket('udp4')
socket.on('message', (data) => { process.stdout.write(String(data.length)); process.exit() })
socket.send(Buffer.from('123401000001000000000000076578616d706c65036f72670000010001', 'hex'), 53, process.argv[1])
setTimeout(() => process.exit(1), 2000)`

/** What runs in a namespace ends with it. */
function start([program, ...words]: readonly [string, ...string[]]): void {
  spawn(program, words, { stdio: 'ignore' }).unref()
}

async function furnish(lab: Lab): Promise<void> {
  const { director, prefix } = lab
  const hosts = realServers()
  await ipBatch(
    director.namespace,
    VIRTUAL.map((address) => `addr add ${address} dev ${CLIENTS}`),
  )
  await ipBatch(`${prefix}client`, [
    `addr add ${INSIDE} dev ${CLIENTS}`,
    `route add 2001:db8::10 via ${hostNamed('director').clients.ipv6}`,
  ])
  for (const { name, servers } of hosts) {
    const own = SERVERS[name]!
    const via = (address: string): string => (address.includes(':') ? servers.ipv6 : servers.ipv4)
    await ipBatch(
      director.namespace,
      own.map((address) => `route add ${address} via ${via(address)}`),
    )
    await ipBatch(`${prefix}${name}`, [
      ...[...own, ...ON_LO].map((address) => `addr add ${address} dev lo`),
      `route add ${INSIDE} dev ${CLIENTS}`,
    ])
    for (const address of own) {
      const family = address.includes(':') ? '-6' : '-4'
      await must(
        inNamespace(`${prefix}${name}`, [
          'ip',
          family,
          'rule',
          'add',
          'from',
          address,
          'lookup',
          `${NAT_TABLE}`,
        ]),
      )
    }
    const settings = JSON.stringify({ name, httpPorts: PORTS, echo: [] })
    start(inNamespace(`${prefix}${name}`, labProcess('server', [settings])))
    const names = own.filter((address) => address.endsWith('.53'))
    if (names.length === 0) continue
    const words = [process.execPath, '-e', NAMES, ...names, '192.0.2.10']
    start(inNamespace(`${prefix}${name}`, words))
  }
}

/** Who answers; null: nobody within a moment. */
async function whoServes(lab: Lab, address: string, port: number, from?: string): Promise<string | null> {
  const words = [address, `${port}`, ...(from === undefined ? [] : [from])]
  const { status, stdout } = await lab.exec('client', [process.execPath, '-e', ASK_HTTP, ...words])
  return status === 0 ? (JSON.parse(stdout) as { server: string }).server : null
}

/** Until each of them has answered: what has just been brought in force may have to be asked for first. */
async function served(lab: Lab, address: string, port: number, names: string, from?: string): Promise<void> {
  const seen = new Set<string>()
  await until(`${names} to answer at ${address} port ${port}`, PATIENCE_MS, async () => {
    const name = await whoServes(lab, address, port, from)
    if (name !== null) seen.add(name)
    return [...seen].sort().join() === names ? true : undefined
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}, found ${[...seen].join()}`)
  })
}

async function answers(lab: Lab, address: string, port: number): Promise<void> {
  await until(`a real server to answer at ${address} port ${port}`, PATIENCE_MS, async () =>
    (await whoServes(lab, address, port)) === null ? undefined : true,
  )
}

async function allUp(lab: Lab): Promise<void> {
  await until('all checks to be good', PATIENCE_MS, async () => {
    const { body } = await lab.director.api('GET', '/v1/health')
    const checks = (JSON.parse(body) as HealthShown).flatMap(({ servers }) =>
      servers.flatMap(({ checks }) => checks),
    )
    return checks.length > 0 && checks.every(({ state }) => state === 'up') ? true : undefined
  })
}

const REGISTRIES = 'registries.yaml'

type Proof = (lab: Lab) => Promise<void>

const FILES: Readonly<Record<string, Proof>> = {
  'web.yaml': async (lab) => {
    await served(lab, '192.0.2.10', 80, 'rs1,rs2')
    await served(lab, '2001:db8::10', 80, 'rs1,rs2')
  },
  'checks.yaml': async (lab) => {
    // By mh a client's address stays with its real server, its ports do not.
    await served(lab, '192.0.2.10', 80, 'rs1,rs2,rs3')
    await until('a name server to answer', PATIENCE_MS, async () =>
      (await lab.exec('client', [process.execPath, '-e', ASK_NAME, '192.0.2.10'])).status === 0
        ? true
        : undefined,
    )
    await allUp(lab)
  },
  // It is persistent: a client keeps to its real server.
  'pools.yaml': (lab) => answers(lab, '192.0.2.20', 443),
  'access.yaml': async (lab) => {
    // Clients of the mark keep to a real server, clients of the gate are let in or not.
    await served(lab, '192.0.2.20', 5432, 'rs1,rs2', INSIDE)
    assert.equal(await whoServes(lab, '192.0.2.20', 5432), null)
    await answers(lab, '192.0.2.30', 10_005)
  },
}

async function files(lab: Lab, t: TestContext): Promise<void> {
  const shipped = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'))
  assert.deepEqual(
    shipped.sort(),
    [...Object.keys(FILES), REGISTRIES].sort(),
    'each example has its proof here',
  )
  await lab.director.start({ dataplane: 'xdp' })
  for (const [name, proof] of Object.entries(FILES)) {
    await t.test(name, async () => {
      const { status, stdout, stderr } = await lab.director.pointsman(['apply', join(FOLDER, name)])
      assert.equal(status, 0, stdout + stderr)
      await proof(lab)
    })
  }
  await lab.director.remove()
}

/** Only one of the four is there; the services of the others wait for theirs. */
async function registries(lab: Lab): Promise<void> {
  const etcd = new Etcd({
    ...{ name: 'example', url: 'http://127.0.0.1:2379', peer: 'http://127.0.0.1:2380' },
    namespace: lab.director.namespace,
  })
  try {
    etcd.start()
    await register(lab)
    await lab.director.start({ dataplane: 'xdp', config: join(FOLDER, REGISTRIES) })
    await served(lab, '192.0.2.30', 80, 'rs2')
    await lab.director.remove()
  } finally {
    await etcd.remove()
  }
}

/** A real server, where the example looks for those of its web service. */
async function register(lab: Lab): Promise<void> {
  const encode = (text: string): string => Buffer.from(text).toString('base64')
  const body = JSON.stringify({ key: encode('/services/web/one'), value: encode('10.0.0.2:80') })
  await until('etcd to take an entry', PATIENCE_MS, async () => {
    const put = ['curl', '-sf', '-d', body, 'http://127.0.0.1:2379/v3/kv/put']
    return (await lab.exec('director', put)).status === 0 ? true : undefined
  })
}

async function keepalived(lab: Lab): Promise<void> {
  await lab.director.start({ dataplane: 'xdp', keepalived: join(FOLDER, 'keepalived.conf') })
  await allUp(lab)
  // By mh a client keeps to its real server.
  await answers(lab, '192.0.2.10', 80)
  await lab.director.remove()
}

/** With where the API is, which is the cluster's to say. */
async function kubernetes(lab: Lab): Promise<void> {
  const api = new ApiServer()
  await api.start(namespacePath(lab.director.namespace))
  try {
    const text = readFileSync(join(FOLDER, 'kubernetes/cluster.yaml'), 'utf8')
    const file = `${lab.director.runDir}.cluster.yaml`
    const there = text
      .replace(/^api: .*/m, `api: ${api.url}`)
      .replace(/^token_file: .*/m, `token_file: ${file}.token`)
      .replace(/^ca: .*\n/m, '')
    writeFileSync(`${file}.token`, api.token)
    writeFileSync(file, there)
    api.put('services', {
      metadata: { namespace: 'shop', name: 'web' },
      spec: {
        ...{ type: 'LoadBalancer', loadBalancerClass: 'pointsman.dev/director', ipFamilies: ['IPv4'] },
        ports: [{ name: 'web', protocol: 'TCP', port: 80, nodePort: 30_080 }],
      },
    })
    api.put('endpointslices', {
      metadata: { namespace: 'shop', name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4',
      ports: [{ name: 'web', protocol: 'TCP', port: 8080 }],
      endpoints: ['10.0.0.1', '10.0.0.2'].map((address) => ({
        addresses: [address],
        conditions: { ready: true, serving: true, terminating: false },
      })),
    })
    await lab.director.start({ dataplane: 'xdp', kubernetes: file })
    await served(lab, '192.0.2.64', 80, 'rs1,rs2')
    assert.deepEqual(api.problems, [])
  } finally {
    await api.stop()
  }
}

test('examples are served as they are shipped', { skip: missingFor('xdp') }, (t) =>
  withLab(async (lab) => {
    await furnish(lab)
    try {
      await files(lab, t)
      await t.test(REGISTRIES, { skip: etcdMissing }, () => registries(lab))
      await t.test('keepalived.conf', () => keepalived(lab))
      await t.test('kubernetes/cluster.yaml', () => kubernetes(lab))
    } catch (error) {
      if (error instanceof Error) error.stack += `\n--- pointsmand:\n${lab.director.logTail()}`
      throw error
    }
  }),
)
