/**
 * A director with two uplinks: requests come in by one of them, and what NAT real servers answer leaves by that which
 * the route to the client names. A strict reverse path filter does not stand in the way: what is for a virtual service
 * never meets it.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must, until } from '../../lab/command.ts'
import { offloadsOff } from '../../lab/host-network.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace, ipBatch, setParameters } from '../../lab/namespace.ts'
import { addServer, addService, describe, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { type AddressFamily, FAMILIES, hostNamed, topology } from '../../lab/topology.ts'
import { allGoOn } from './conversations.ts'
import { ALL_PLANES, missingFor, withLab } from './scene.ts'

const FIRST = topology.wires.clients.interface
const SECOND = 'u1'
/** Of the second uplink, which ends at the client. */
const LINK = {
  ipv4: { director: '198.51.100.1', client: '198.51.100.2', bits: 30 },
  ipv6: { director: '2001:db8:9::1', client: '2001:db8:9::2', bits: 64 },
} as const
/** Where the client asks from: behind both uplinks. */
const CLIENT = { ipv4: '203.0.113.50', ipv6: '2001:db8:cc::50' } as const
const PREFIX = { ipv4: 32, ipv6: 128 } as const
const PATIENCE_MS = 60_000
const UPLINKS = [FIRST, SECOND] as const
type Uplink = (typeof UPLINKS)[number]

const SERVICES: readonly LabService[] = FAMILIES.flatMap((family) =>
  (['tcp', 'udp'] as const).map((protocol) => ({ method: 'nat', protocol, family, serverFamily: family })),
)

const gateway = (uplink: Uplink, host: 'client' | 'director', family: AddressFamily): string =>
  uplink === FIRST ? hostNamed(host).clients[family] : LINK[family][host]

async function layUplink(lab: Lab): Promise<void> {
  const [client, director] = [`${lab.prefix}client`, `${lab.prefix}director`]
  await ipBatch(null, [`link add ${SECOND} netns ${director} type veth peer name ${SECOND} netns ${client}`])
  for (const [host, namespace] of [
    ['client', client],
    ['director', director],
  ] as const) {
    await must(inNamespace(namespace, ['sh', '-e', '-c', offloadsOff(SECOND)]))
    // Frames of XDP arrive where the other end of a veth takes them by NAPI.
    await must(inNamespace(namespace, ['ethtool', '-K', SECOND, 'gro', 'on']))
    await ipBatch(namespace, [
      ...FAMILIES.map((family) => `addr add ${LINK[family][host]}/${LINK[family].bits} dev ${SECOND}`),
      `link set ${SECOND} up`,
    ])
  }
  // It asks for the director as a router does, from its address on that link: others the reverse path filter keeps.
  await setParameters(client, { 'ipv4/conf/all/arp_announce': 2 })
  await ipBatch(
    client,
    FAMILIES.map((family) => `addr add ${CLIENT[family]}/${PREFIX[family]} dev lo`),
  )
}

/** Requests of the client go by one uplink, answers to it by another. */
async function route(lab: Lab, requests: Uplink, answers: Uplink): Promise<void> {
  for (const family of FAMILIES) {
    const option = family === 'ipv4' ? '-4' : '-6'
    const virtual = `${topology.virtual.nat[family]}/${PREFIX[family]}`
    const there = gateway(requests, 'director', family)
    await ipBatch(
      `${lab.prefix}client`,
      [`route replace ${virtual} via ${there} dev ${requests} src ${CLIENT[family]}`],
      [option],
    )
    const back = gateway(answers, 'client', family)
    await ipBatch(
      lab.director.namespace,
      [`route replace ${CLIENT[family]}/${PREFIX[family]} via ${back} dev ${answers}`],
      [option],
    )
  }
}

/** What answered from virtual addresses, by the interface of the client that it came in by. */
const COUNTED = `
table inet uplinks {
${UPLINKS.map((name) => `  counter ${name} { }`).join('\n')}
  chain input {
    type filter hook input priority 0;
${UPLINKS.flatMap((name) => [
  `    iifname ${name} ip saddr ${topology.virtual.nat.ipv4} counter name ${name}`,
  `    iifname ${name} ip6 saddr ${topology.virtual.nat.ipv6} counter name ${name}`,
]).join('\n')}
  }
}
`

async function answersBy(lab: Lab): Promise<Readonly<Record<string, number>>> {
  const counts = await Promise.all(
    UPLINKS.map(async (name) => {
      const listed = await lab.exec('client', ['nft', '--json', 'list', 'counter', 'inet', 'uplinks', name])
      return [name, Number(/"packets": *(\d+)/.exec(listed.stdout)?.[1])] as const
    }),
  )
  return Object.fromEntries(counts)
}

async function ask(lab: Lab, service: LabService): Promise<void> {
  const target = virtualEndpoint(service)
  const answer = await (service.protocol === 'tcp'
    ? lab.client.http({ ...target, pad: 100_000 })
    : lab.client.udp(target))
  assert.equal(answer.client, CLIENT[service.family])
}

for (const plane of ALL_PLANES)
  test(`${plane}: two uplinks, and answers that leave by the other one`, { skip: missingFor(plane) }, (t) =>
    withLab(async (lab) => {
      await layUplink(lab)
      await must(inNamespace(`${lab.prefix}client`, ['nft', '-f', '-']), { input: COUNTED })
      // The one in force is the larger of an interface's own and that of all.
      await setParameters(lab.director.namespace, { 'ipv4/conf/all/rp_filter': 1 })
      await route(lab, FIRST, SECOND)
      await lab.director.start({ dataplane: plane, also: [SECOND] })
      await lab.director.restore(
        SERVICES.flatMap((service) => [addService(service), addServer(service, hostNamed('rs1'))]),
      )
      for (const requests of UPLINKS)
        for (const answers of UPLINKS)
          await t.test(`requests by ${requests}, answers by ${answers}`, async (t) => {
            await route(lab, requests, answers)
            const other = UPLINKS.find((name) => name !== answers)!
            for (const service of SERVICES)
              await t.test(describe(service), async () => {
                // A way that has changed is told of when the kernel has said so: until then answers go the old one.
                await until(`an answer by ${answers} alone`, PATIENCE_MS, async () => {
                  const before = await answersBy(lab)
                  await ask(lab, service)
                  const after = await answersBy(lab)
                  return after[answers]! > before[answers]! && after[other] === before[other]
                    ? true
                    : undefined
                })
              })
          })

      await t.test('connections go on while both change', async () => {
        const talking = SERVICES.filter(({ protocol }) => protocol === 'tcp')
        for (const service of talking)
          await lab.client.converse({ ...virtualEndpoint(service), intervalMs: 20 })
        for (const requests of UPLINKS)
          for (const answers of UPLINKS) {
            await route(lab, requests, answers)
            await allGoOn(lab, talking.length, `requests by ${requests}, answers by ${answers}`)
          }
      })
    }),
  )
