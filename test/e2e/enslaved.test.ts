/** Interfaces that become others under live connections: none of them breaks. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Status } from '../../control/front/api/schema/status.ts'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { ipBatch } from '../../lab/namespace.ts'
import { allRules, virtualEndpoint } from '../../lab/rules.ts'
import { hostNamed, topology } from '../../lab/topology.ts'
import { allGoOn, SERVICES } from './conversations.ts'
import { ALL_PLANES, missingFor, withDirector, withLab } from './scene.ts'
import { stackOnWire, unstackWire } from './stacking.ts'

/** A program that is loaded for it takes a second; on a machine where much else goes on, later. */
const PATIENCE_MS = 120_000

async function interfaces(lab: Lab): Promise<Status['dataplane']['interfaces']> {
  const { body } = await lab.director.api('GET', '/v1/status')
  return (JSON.parse(body) as Status).dataplane.interfaces
}

async function startConversations(lab: Lab): Promise<void> {
  await lab.director.restore(SERVICES.flatMap((service) => allRules(service)))
  for (const service of SERVICES) await lab.client.converse({ ...virtualEndpoint(service), intervalMs: 10 })
  await allGoOn(lab, SERVICES.length, 'the start')
}

test('from XDP to traffic control and back', { skip: missingFor('xdp') }, () =>
  withLab(async (lab) => {
    await lab.director.start({ dataplane: 'xdp' })
    await startConversations(lab)
    for (const [plane, mode] of [
      ['tc', 'tc'],
      ['xdp', 'native'],
    ] as const) {
      const { status, stderr } = await lab.director.pointsman(['dataplane', plane])
      assert.equal(status, 0, stderr)
      assert.deepEqual([...new Set((await interfaces(lab)).map((nic) => nic.mode))], [mode])
      await allGoOn(lab, SERVICES.length, `the change to ${plane}`)
    }
    assert.ok((await interfaces(lab)).every(({ relayed }) => relayed))
  }),
)

for (const plane of ALL_PLANES) {
  const skip = missingFor(plane)

  test(`${plane}: the way to the real servers becomes part of a bridge, and is itself again`, { skip }, () =>
    withDirector(plane, async (lab) => {
      await startConversations(lab)
      const { namespace } = lab.director
      const { interface: device, mtu, ipv4, ipv6 } = topology.wires.servers
      const station = hostNamed('director').servers!
      const addresses = (name: string) => [
        `addr add ${station.ipv4}/${ipv4.prefix} dev ${name}`,
        `addr add ${station.ipv6}/${ipv6.prefix} dev ${name} nodad`,
      ]
      await ipBatch(namespace, [
        `link add br0 address ${station.mac} mtu ${mtu} type bridge forward_delay 0 mcast_snooping 0`,
        'link set br0 up',
        `addr flush dev ${device}`,
        `link set ${device} master br0`,
        ...addresses('br0'),
      ])
      await allGoOn(lab, SERVICES.length, 'the bridge')
      await ipBatch(namespace, [`link set ${device} nomaster`, 'link del br0', ...addresses(device)])
      await allGoOn(lab, SERVICES.length, 'its end')
      const { drop_egress: lost } = await lab.director.verdicts()
      assert.equal(lost ?? 0n, 0n)
    }),
  )

  test(`${plane}: the way to the clients becomes a macvlan, and is itself again`, { skip }, () =>
    withDirector(plane, async (lab) => {
      await startConversations(lab)
      const { interface: device } = topology.wires.clients
      const taken = (mode: string) => async (): Promise<void> => {
        const { stdout } = await lab.exec('director', ['ip', '-json', 'link', 'show', 'dev', device])
        const [link] = JSON.parse(stdout) as { readonly ifindex: number }[]
        await until(`packets of the clients to be taken from ${device}`, PATIENCE_MS, async () => {
          const nic = (await interfaces(lab)).find(({ ifindex }) => ifindex === link?.ifindex)
          // A macvlan's driver has no XDP.
          return nic !== undefined && (plane !== 'xdp' || nic.mode === mode) ? true : undefined
        })
      }
      await stackOnWire(lab, 'clients', 'macvlan', taken('tc'))
      await allGoOn(lab, SERVICES.length, 'the macvlan', PATIENCE_MS)
      await unstackWire(lab, 'clients', taken('native'))
      await allGoOn(lab, SERVICES.length, 'its end')
    }),
  )
}
