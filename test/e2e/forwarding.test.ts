/** Every forwarding method, in both families and their mixtures, over TCP and UDP, on every plane. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { allRules, describe, type LabService, serviceWords, virtualEndpoint } from '../../lab/rules.ts'
import type { Answer } from '../../lab/server.ts'
import { endpoint, FAMILIES, hostNamed, METHODS, realServers, topology } from '../../lab/topology.ts'
import { ALL_PLANES, missingFor, packetsSent, withDirector } from './scene.ts'
import { readStatistics } from './statistics.ts'

const PROTOCOLS = ['tcp', 'udp'] as const
const CASES: readonly LabService[] = PROTOCOLS.flatMap((protocol) => [
  ...METHODS.flatMap((method) =>
    FAMILIES.map((family) => ({ method, protocol, family, serverFamily: family }) as const),
  ),
  { method: 'tunnel', protocol, family: 'ipv4', serverFamily: 'ipv6' },
  { method: 'tunnel', protocol, family: 'ipv6', serverFamily: 'ipv4' },
  ...(['gue', 'gre'] as const).flatMap((tunnel) =>
    FAMILIES.map((family) => ({ method: 'tunnel', protocol, family, serverFamily: family, tunnel }) as const),
  ),
])

/** A multiple of the number of real servers. */
const REQUESTS = 9

function ask(lab: Lab, service: LabService): Promise<Answer> {
  const target = virtualEndpoint(service)
  return service.protocol === 'tcp' ? lab.client.http(target) : lab.client.udp(target)
}

async function checkCase(lab: Lab, service: LabService): Promise<void> {
  const { address, port } = virtualEndpoint(service)
  const answersFrom = async (host: string): Promise<number> =>
    packetsSent(lab, { host, wire: 'clients', source: address, port })
  const hosts = ['director', ...realServers().map(({ name }) => name)]
  const before = await Promise.all(hosts.map(answersFrom))

  await lab.director.restore(allRules(service))
  const answers: Answer[] = []
  for (let i = 0; i < REQUESTS; i++) answers.push(await ask(lab, service))

  // rr: every real server in turn, always in the same order.
  const order = answers.map(({ server }) => server)
  assert.equal(new Set(order.slice(0, 3)).size, 3, `order was ${order.join(' ')}`)
  assert.deepEqual(order.slice(3), order.slice(0, -3), `order was ${order.join(' ')}`)

  for (const answer of answers) {
    const { servers } = hostNamed(answer.server)
    assert.equal(answer.client, hostNamed('client').clients[service.family], 'the client address is kept')
    // NAT changes the destination; direct routing and the tunnel deliver the virtual address.
    assert.equal(answer.local, service.method === 'nat' ? servers?.[service.serverFamily] : address)
  }

  const after = await Promise.all(hosts.map(answersFrom))
  const [byDirector = 0, ...directly] = after.map((packets, i) => packets - (before[i] ?? 0))
  if (service.method === 'nat') {
    assert.ok(byDirector >= REQUESTS, 'NAT answers come out of the director')
    assert.deepEqual(directly, [0, 0, 0])
  } else {
    assert.equal(byDirector, 0, 'answers do not pass the director')
    assert.ok(directly.every((packets) => packets >= REQUESTS / 3))
  }

  await checkStatistics(lab, service)
  if (service.protocol === 'tcp') await checkBulk(lab, service)
  await lab.director.rule(`-D ${serviceWords(service)}`)
}

async function checkStatistics(lab: Lab, service: LabService): Promise<void> {
  const { address, port } = virtualEndpoint(service)
  const name = `${service.protocol.toUpperCase()} ${endpoint(address, port)}`
  const statistics = (await readStatistics(lab)).find((one) => one.service === name)
  assert.ok(statistics !== undefined, `${name} is not listed`)
  assert.equal(statistics.conns, REQUESTS)
  assert.ok(statistics.inPackets >= REQUESTS)
  if (service.method === 'nat') assert.ok(statistics.outPackets >= REQUESTS)
  else assert.deepEqual([statistics.outPackets, statistics.outBytes], [0, 0])
  assert.deepEqual(
    Object.values(statistics.servers).map(({ conns }) => conns),
    [REQUESTS / 3, REQUESTS / 3, REQUESTS / 3],
  )
}

/** Full-sized segments, both ways. */
async function checkBulk(lab: Lab, service: LabService): Promise<void> {
  const size = 300_000
  const up = await lab.client.http({ ...virtualEndpoint(service), upload: size })
  assert.equal(up.bytes, size)
  const down = await lab.client.http({ ...virtualEndpoint(service), pad: size })
  assert.ok(down.received >= size)
}

/** A full packet does not fit behind an outer header: the director says so, the client sends smaller ones. */
async function checkSmallTunnel(lab: Lab): Promise<void> {
  const device = topology.wires.servers.interface
  const setMtu = async (mtu: number): Promise<void> => {
    const { status, stderr } = await lab.exec('director', ['ip', 'link', 'set', device, 'mtu', String(mtu)])
    assert.equal(status, 0, stderr)
  }
  await setMtu(1500)
  try {
    for (const family of FAMILIES) {
      const service = { method: 'tunnel', protocol: 'tcp', family, serverFamily: family } as const
      await lab.director.restore(allRules(service))
      const answers = async (): Promise<bigint> => (await lab.director.verdicts()).answer_too_big ?? 0n
      const before = await answers()
      // The daemon hears of the new MTU some milliseconds later.
      await until('an answer that a packet is too big', 60_000, async () => {
        const answer = await lab.client.http({ ...virtualEndpoint(service), upload: 300_000 })
        assert.equal(answer.bytes, 300_000)
        return (await answers()) > before || undefined
      })
      await lab.director.rule(`-D ${serviceWords(service)}`)
    }
  } finally {
    await setMtu(topology.wires.servers.mtu)
  }
}

for (const plane of ALL_PLANES)
  test(`forwarding on the ${plane} plane`, { skip: missingFor(plane) }, (t: TestContext) =>
    withDirector(plane, async (lab) => {
      for (const service of CASES)
        await t.test(`${plane}: ${describe(service)}: every real server answers and sees the client`, () =>
          checkCase(lab, service),
        )
      await t.test(`${plane}: a client learns that the way through a tunnel has a smaller MTU`, () =>
        checkSmallTunnel(lab),
      )
      await t.test(`${plane}: the director itself still answers ping at every virtual address`, async () => {
        for (const virtual of Object.values(topology.virtual))
          for (const family of FAMILIES) {
            const ping = await lab.exec('client', ['ping', '-c', '1', '-w', '20', virtual[family]])
            assert.equal(ping.status, 0, ping.stdout)
          }
      })
    }),
  )
