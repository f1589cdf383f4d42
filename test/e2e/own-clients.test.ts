/** Clients on the director itself, and behind it: its own sockets, and a namespace that it routes for. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Client, startClient } from '../../lab/client.ts'
import { must } from '../../lab/command.ts'
import { offloadsOff } from '../../lab/host-network.ts'
import type { Lab } from '../../lab/lab.ts'
import { createNamespace, destroyNamespace, inNamespace, ipBatch } from '../../lab/namespace.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import type { Answer } from '../../lab/server.ts'
import { endpoint, FAMILIES, hostNamed, METHODS, realServers, topology } from '../../lab/topology.ts'
import { ALL_PLANES, missingFor, type Plane, withLab } from './scene.ts'
import { readStatistics } from './statistics.ts'

/** TCP and UDP of a method and family, by rules that are in force at once. */
const PROTOCOLS = ['tcp', 'udp'] as const
type Kind = Omit<LabService, 'protocol'>
const KINDS: readonly Kind[] = METHODS.flatMap((method) =>
  FAMILIES.map((family) => ({ method, family, serverFamily: family })),
)
/** As many as there are real servers. */
const REQUESTS = 3
/** More than a window. */
const BYTES = 300_000
/** The wire between director and the namespace behind it. */
const BEHIND = { ipv4: ['10.9.0.1', '10.9.0.2', 24], ipv6: ['2001:db8:9::1', '2001:db8:9::2', 64] } as const

async function ask(client: Client, service: LabService, bytes: number): Promise<Answer[]> {
  const target = virtualEndpoint(service)
  const answers: Answer[] = []
  for (let n = 0; n < REQUESTS; n++)
    answers.push(await (service.protocol === 'tcp' ? client.http(target) : client.udp(target)))
  if (service.protocol === 'tcp') {
    assert.equal((await client.http({ ...target, upload: bytes })).bytes, bytes)
    assert.ok((await client.http({ ...target, pad: BYTES })).received >= BYTES)
  }
  return answers
}

/** Where a real server that has the virtual address, too, sees a socket that has no other. */
function seenOfOwn({ method, family }: Kind): string | undefined {
  return method === 'nat' ? topology.virtual.nat[family] : hostNamed('director').servers?.[family]
}

/** On the userspace plane the director's own sockets are none, and answers that DR and TUN send by it are the stack's. */
const servesOwn = (plane: Plane): boolean => plane !== 'userspace'

async function checkKind(lab: Lab, kind: Kind, own: Client | null, behind: Client): Promise<void> {
  const services = PROTOCOLS.map((protocol) => ({ ...kind, protocol }))
  await lab.director.restore(services.flatMap((service) => allRules(service)))
  for (const service of services) {
    // The kernel takes seconds to learn the MTU of a path to an address of its own (docs/DIFFERENCES.md).
    const bytes = kind.method === 'tunnel' ? 1000 : BYTES
    for (const [client, seen, size] of [
      [own, seenOfOwn(kind), bytes],
      [behind, BEHIND[kind.family][1], BYTES],
    ] as const) {
      if (client === null) continue
      const answers = await ask(client, service, size)
      assert.equal(new Set(answers.map(({ server }) => server)).size, realServers().length, 'each in turn')
      for (const answer of answers) assert.equal(answer.client, seen)
    }
  }
  const listed = await readStatistics(lab)
  for (const service of services) {
    const { address, port } = virtualEndpoint(service)
    const name = `${service.protocol.toUpperCase()} ${endpoint(address, port)}`
    const statistics = listed.find((one) => one.service === name)
    const clients = own === null ? 1 : 2
    assert.equal(statistics?.conns, clients * (REQUESTS + (service.protocol === 'tcp' ? 2 : 0)))
    assert.ok(statistics.inPackets >= clients * REQUESTS)
    assert.ok(statistics.outPackets >= clients * REQUESTS, 'answers come by the director')
  }
  await lab.director.rule('-C')
}

/** A namespace whose way to everywhere is the director, as a container's. */
async function withBehind(lab: Lab, body: (client: Client) => Promise<void>): Promise<void> {
  const behind = `${lab.prefix}behind`
  const director = `${lab.prefix}director`
  await createNamespace(behind)
  try {
    await ipBatch(null, [`link add n0 netns ${director} type veth peer name eth0 netns ${behind}`])
    await must(inNamespace(director, ['sh', '-e', '-c', offloadsOff('n0')]))
    // An end that frames of XDP are to reach has to wait for them (GRO).
    await must(inNamespace(behind, ['sh', '-e', '-c', `${offloadsOff('eth0')}; ethtool -K eth0 gro on`]))
    for (const family of FAMILIES) {
      const [near, far, prefix] = BEHIND[family]
      const nodad = family === 'ipv6' ? ' nodad' : ''
      await ipBatch(director, [`addr add ${near}/${prefix} dev n0${nodad}`])
      await ipBatch(behind, [`addr add ${far}/${prefix} dev eth0${nodad}`])
    }
    await ipBatch(director, ['link set n0 up'])
    await ipBatch(behind, ['link set lo up', 'link set eth0 up'])
    for (const family of FAMILIES) {
      const [near, far, prefix] = BEHIND[family]
      await ipBatch(behind, [`route add default via ${near}`], [family === 'ipv4' ? '-4' : '-6'])
      for (const { name } of realServers())
        await ipBatch(lab.prefix + name, [
          `route add ${far}/${prefix === 24 ? 32 : 128} via ${hostNamed('director').servers?.[family]}`,
        ])
    }
    const client = await startClient(behind)
    try {
      await body(client)
    } finally {
      await client.stop()
    }
  } finally {
    await destroyNamespace(behind)
  }
}

for (const plane of ALL_PLANES)
  test(
    `clients on and behind the director on the ${plane} plane`,
    {
      skip: missingFor(plane),
    },
    (t: TestContext) =>
      withLab(async (lab) =>
        withBehind(lab, async (behind) => {
          await lab.director.start({ dataplane: plane, also: ['n0'], ownClients: true })
          const own = servesOwn(plane) ? await startClient(`${lab.prefix}director`) : null
          const links = async () => (await lab.exec('director', ['ip', '-br', 'link'])).stdout
          try {
            assert.doesNotMatch(await links(), /pm-own/, 'nothing is there before there is a service')
            for (const kind of KINDS.filter(({ method }) => servesOwn(plane) || method === 'nat'))
              await t.test(
                `${plane}: ${kind.method}, ${kind.family}: ${own === null ? '' : 'sockets of the director, and '}behind it`,
                () => checkKind(lab, kind, own, behind),
              )
            assert.doesNotMatch(await links(), /pm-own/, 'nor when there is none any more')
            await lab.director.rule(`-A -t ${topology.virtual.nat.ipv4}:80 -s rr`)
            const { stdout } = await lab.director.pointsman(['status'])
            if (servesOwn(plane)) assert.doesNotMatch(stdout, /own clients/)
            else assert.match(stdout, /^own clients +not served: the userspace data plane has no place/m)
          } finally {
            await own?.stop()
          }
        }),
      ),
  )
