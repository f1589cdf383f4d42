/** Ways out that take no frame of XDP: what can go another way does, and nothing counts as sent that was not. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace, ipBatch } from '../../lab/namespace.ts'
import { portName } from '../../lab/network.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import {
  type AddressFamily,
  FAMILIES,
  hostNamed,
  METHODS,
  type Method,
  topology,
  type WireName,
} from '../../lab/topology.ts'
import { countedIn, missingFor, textOf, withLab } from './scene.ts'

const skip = missingFor('xdp')

/** The director's link of a wire becomes the only member of a bridge, which speaks for it from now on. */
async function behindBridge(lab: Lab, wire: WireName): Promise<void> {
  const { namespace } = lab.director
  const { interface: device, mtu, ipv4, ipv6 } = topology.wires[wire]
  const station = hostNamed('director')[wire]!
  const virtual = wire === 'clients' ? METHODS.map((method) => topology.virtual[method]) : []
  await ipBatch(namespace, [
    `addr flush dev ${device}`,
    `link add br0 address ${station.mac} mtu ${mtu} type bridge forward_delay 0 mcast_snooping 0`,
    `link set ${device} master br0`,
    'link set br0 up',
    `addr add ${station.ipv4}/${ipv4.prefix} dev br0`,
    `addr add ${station.ipv6}/${ipv6.prefix} dev br0 nodad`,
    ...virtual.flatMap((address) => [
      `addr add ${address.ipv4}/32 dev br0`,
      `addr add ${address.ipv6}/128 dev br0 nodad preferred_lft 0`,
    ]),
  ])
}

async function answers(lab: Lab, service: LabService): Promise<void> {
  assert.match((await lab.client.http(virtualEndpoint(service))).server, /^rs/)
}

async function doesNotAnswer(lab: Lab, service: LabService): Promise<void> {
  await assert.rejects(lab.client.http({ ...virtualEndpoint(service), timeoutMs: 1500 }), /no answer within/)
}

const serviceOf = (method: Method, family: AddressFamily): LabService => ({
  ...{ method, protocol: 'tcp', family, serverFamily: family },
})

test('native: real servers behind a bridge', { skip }, (t) =>
  withLab(async (lab) => {
    await behindBridge(lab, 'servers')
    await lab.director.start({ dataplane: 'xdp', xdpMode: 'native' })
    for (const family of FAMILIES)
      for (const method of METHODS) {
        const name =
          method === 'nat'
            ? `${family} nat: they are reached through the stack`
            : `${family} ${method}: frames for them are counted as dropped, not as forwarded`
        await t.test(name, async () => {
          const service = serviceOf(method, family)
          await lab.director.restore(allRules(service))
          const counts = await countedIn(lab, async () => {
            if (method !== 'nat') await doesNotAnswer(lab, service)
            else for (let i = 0; i < 4; i++) await answers(lab, service)
          })
          const sent = Object.keys(counts).filter((verdict) => /^forward_(nat|dr|tun)$/.test(verdict))
          assert.deepEqual(sent, [], textOf(counts))
          if (method === 'nat') assert.ok((counts.pass_egress ?? 0n) > 0n, textOf(counts))
          else assert.ok((counts.drop_egress ?? 0n) > 0n, textOf(counts))
        })
      }
  }),
)

test('auto: an answer to a client whose neighbour entry was forgotten waits for it', { skip }, () =>
  withLab(async (lab) => {
    await lab.director.start({ dataplane: 'xdp' })
    const address = topology.virtual.nat.ipv4
    const { echo } = topology.ports
    await lab.director.rule(`-A -u ${address}:${echo} -s rr`)
    await lab.director.rule(`-a -u ${address}:${echo} -r ${hostNamed('rs1').servers!.ipv4}:${echo} -m`)
    const ask = async () => (await lab.client.udp({ address, port: echo, timeoutMs: 15_000 })).server
    // The client knows the director's MAC address from now on, and asks no more.
    assert.equal(await ask(), 'rs1')
    const counts = await countedIn(lab, async () => {
      for (let i = 0; i < 3; i++) {
        await ipBatch(lab.director.namespace, [`neigh flush dev ${topology.wires.clients.interface}`])
        assert.equal(await ask(), 'rs1')
      }
    })
    assert.equal(counts.drop_next_hop_unresolved, undefined, textOf(counts))
    assert.equal(counts.forward_nat_reply, 3n, textOf(counts))
  }),
)

test('generic: the bridge takes what the program sends', { skip }, (t) =>
  withLab(async (lab) => {
    await behindBridge(lab, 'servers')
    await lab.director.start({ dataplane: 'xdp', xdpMode: 'generic' })
    for (const family of FAMILIES)
      await t.test(`${family} nat`, async () => {
        const service = serviceOf('nat', family)
        await lab.director.restore(allRules(service))
        const counts = await countedIn(lab, () => answers(lab, service))
        assert.equal(counts.pass_egress, undefined, textOf(counts))
        assert.ok((counts.forward_nat ?? 0n) > 0n, textOf(counts))
      })
  }),
)

test('native: clients behind a bridge', { skip }, (t) =>
  withLab(async (lab) => {
    await behindBridge(lab, 'clients')
    await lab.director.start({ dataplane: 'xdp', xdpMode: 'native' })
    for (const [family, verdict] of [
      ['ipv6', 'pass_egress'],
      ['ipv4', 'drop_egress'],
    ] as const) {
      const name =
        family === 'ipv6'
          ? 'ipv6 nat: answers to them leave through the stack'
          : 'ipv4 nat: answers to them count as dropped, not as forwarded'
      await t.test(name, async () => {
        const service = serviceOf('nat', family)
        await lab.director.restore(allRules(service))
        const counts = await countedIn(lab, () =>
          family === 'ipv6' ? answers(lab, service) : doesNotAnswer(lab, service),
        )
        assert.equal(counts.forward_nat_reply, undefined, textOf(counts))
        assert.ok((counts[verdict] ?? 0n) > 0n, textOf(counts))
      })
    }
  }),
)

test('with one arm, frames arrive though the other end of the veth has GRO only', { skip }, (t) =>
  withLab(async (lab) => {
    // Direct routing: clients and real servers on one wire.
    const port = portName('director', 'clients')
    const words = ['sh', '-ec', `ip link set ${port} xdp off; ethtool -K ${port} gro on`]
    await must(inNamespace(`${lab.prefix}net`, words))
    await lab.director.start({ dataplane: 'xdp' })
    const address = topology.virtual['direct-routing'].ipv4
    const { echo } = topology.ports
    await lab.director.rule(`-A -u ${address}:${echo} -s rr`)
    await lab.director.rule(`-a -u ${address}:${echo} -r ${hostNamed('rs1').clients.ipv4}:${echo} -g`)
    for (const plane of ['xdp', 'tc'])
      await t.test(plane, async () => {
        const { status, stderr } = await lab.director.pointsman(['dataplane', plane])
        assert.equal(status, 0, stderr)
        const counts = await countedIn(lab, async () => {
          for (let i = 0; i < 5; i++) {
            assert.equal((await lab.client.udp({ address, port: echo, timeoutMs: 15_000 })).server, 'rs1')
          }
        })
        assert.equal(counts.forward_dr, 5n, textOf(counts))
      })
  }),
)
