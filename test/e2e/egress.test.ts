/** Ways out that take no frame of XDP: what can go another way does, and nothing counts as sent that was not. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace, ipBatch } from '../../lab/namespace.ts'
import { portName } from '../../lab/network.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { FAMILIES, hostNamed, METHODS, topology, type WireName } from '../../lab/topology.ts'
import { missingFor, withLab } from './scene.ts'

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

function textOf(counts: Readonly<Record<string, bigint>>): string {
  return JSON.stringify(counts, (_, value) => String(value))
}

for (const family of FAMILIES) {
  for (const method of METHODS) {
    const service: LabService = { method, protocol: 'tcp', family, serverFamily: family }
    const name =
      method === 'nat'
        ? `${family} nat: real servers behind a bridge are reached through the stack`
        : `${family} ${method}: frames for a bridge are counted as dropped, not as forwarded`
    test(name, { skip }, () =>
      withLab(async (lab) => {
        await behindBridge(lab, 'servers')
        await lab.director.start({ dataplane: 'xdp', xdpMode: 'native' })
        await lab.director.restore(allRules(service))
        const { address, port } = virtualEndpoint(service)
        if (method === 'nat') {
          for (let i = 0; i < 4; i++) {
            assert.match((await lab.client.http({ address, port })).server, /^rs/)
          }
        } else {
          await assert.rejects(lab.client.http({ address, port, timeoutMs: 1500 }))
        }
        const counts = await lab.director.verdicts()
        const sent = Object.keys(counts).filter((verdict) => /^forward_(nat|dr|tun)$/.test(verdict))
        assert.deepEqual(sent, [], textOf(counts))
        if (method === 'nat') assert.ok((counts.pass_egress ?? 0n) > 0n)
        else assert.ok((counts.drop_egress ?? 0n) > 0n)
      }),
    )
  }

  const service: LabService = { method: 'nat', protocol: 'tcp', family, serverFamily: family }
  test(`${family} nat: in generic mode the bridge takes what the program sends`, { skip }, () =>
    withLab(async (lab) => {
      await behindBridge(lab, 'servers')
      await lab.director.start({ dataplane: 'xdp', xdpMode: 'generic' })
      await lab.director.restore(allRules(service))
      assert.match((await lab.client.http(virtualEndpoint(service))).server, /^rs/)
      const counts = await lab.director.verdicts()
      assert.equal(counts.pass_egress, undefined)
      assert.ok((counts.forward_nat ?? 0n) > 0n)
    }),
  )
}

test('ipv6 nat: answers to clients behind a bridge leave through the stack', { skip }, () =>
  withLab(async (lab) => {
    const service: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv6', serverFamily: 'ipv6' }
    await behindBridge(lab, 'clients')
    await lab.director.start({ dataplane: 'xdp', xdpMode: 'native' })
    await lab.director.restore(allRules(service))
    assert.match((await lab.client.http(virtualEndpoint(service))).server, /^rs/)
    const counts = await lab.director.verdicts()
    assert.equal(counts.forward_nat_reply, undefined, textOf(counts))
    assert.ok((counts.pass_egress ?? 0n) > 0n)
  }),
)

test('ipv4 nat: answers to clients behind a bridge count as dropped, not as forwarded', { skip }, () =>
  withLab(async (lab) => {
    const service: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
    await behindBridge(lab, 'clients')
    await lab.director.start({ dataplane: 'xdp', xdpMode: 'native' })
    await lab.director.restore(allRules(service))
    await assert.rejects(lab.client.http({ ...virtualEndpoint(service), timeoutMs: 1500 }))
    const counts = await lab.director.verdicts()
    assert.equal(counts.forward_nat_reply, undefined, textOf(counts))
    assert.ok((counts.drop_egress ?? 0n) > 0n)
  }),
)

test('frames turned round on a veth arrive though its other end has GRO only', { skip }, () =>
  withLab(async (lab) => {
    // Direct routing with one arm: clients and real servers on one wire.
    const port = portName('director', 'clients')
    const words = ['sh', '-ec', `ip link set ${port} xdp off; ethtool -K ${port} gro on`]
    await must(inNamespace(`${lab.prefix}net`, words))
    await lab.director.start({ dataplane: 'xdp', xdpMode: 'native' })
    const address = topology.virtual['direct-routing'].ipv4
    const { echo } = topology.ports
    await lab.director.rule(`-A -u ${address}:${echo} -s rr`)
    await lab.director.rule(`-a -u ${address}:${echo} -r ${hostNamed('rs1').clients.ipv4}:${echo} -g`)
    for (let i = 0; i < 5; i++) {
      assert.equal((await lab.client.udp({ address, port: echo, timeoutMs: 2000 })).server, 'rs1')
    }
    const counts = await lab.director.verdicts()
    assert.ok((counts.forward_dr ?? 0n) >= 5n, textOf(counts))
  }),
)
