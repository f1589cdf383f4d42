/** The lab itself, without pointsman: what the other end-to-end tests rely on. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { run, until } from '../../lab/command.ts'
import { createLab, type Lab } from '../../lab/lab.ts'
import { FAMILIES, hostNamed, realServers, topology } from '../../lab/topology.ts'
import { concat } from '../packets/bytes.ts'
import { ethernet, type IpPacket, ip, PROTOCOL, raw, type Segment, udp } from '../packets/frame.ts'
import { missingForLab, packetsSent, sendFrames, withLab } from './scene.ts'

const skip = missingForLab()
const gre = (inner: IpPacket): Segment =>
  raw(PROTOCOL.gre, concat(Uint8Array.of(0, 0, inner.etherType >> 8, inner.etherType & 0xff), inner.bytes))
const gue = (inner: IpPacket): Segment =>
  udp(
    { sport: 40000, dport: topology.ports.gue },
    concat(Uint8Array.of(0, inner.protocol, 0, 0), inner.bytes),
  )

const TUNNELS: Record<string, (inner: IpPacket) => Segment> = { ipip: (inner) => inner, gre, gue }

/** Sends one datagram to the tunnel's virtual address, wrapped, and expects rs1's answer at the client. */
async function answersThroughTunnel(
  lab: Lab,
  wrap: (inner: IpPacket) => Segment,
  outer: 'ipv4' | 'ipv6',
  inner: 'ipv4' | 'ipv6',
): Promise<void> {
  const rs1 = hostNamed('rs1').servers
  const director = hostNamed('director').servers
  assert.ok(rs1 !== undefined && director !== undefined)
  const question = ip(
    { src: hostNamed('client').clients[inner], dst: topology.virtual.tunnel[inner] },
    udp({ sport: 40000, dport: topology.ports.echo }, 'token of a test'),
  )
  const frame = ethernet(
    { src: director.mac, dst: rs1.mac },
    ip({ src: director[outer], dst: rs1[outer] }, wrap(question)),
  )
  const answers = {
    host: 'rs1',
    wire: 'clients' as const,
    source: topology.virtual.tunnel[inner],
    port: topology.ports.echo,
  }
  const before = await packetsSent(lab, answers)
  assert.equal(await sendFrames(lab, 'director', topology.wires.servers.interface, [frame]), 1)
  await until('an answer of rs1', 60_000, async () =>
    (await packetsSent(lab, answers)) === before + 1 ? true : undefined,
  )
}

test('lab: every real server answers the director in both families', { skip }, () =>
  withLab(async (lab) => {
    for (const server of realServers())
      for (const family of FAMILIES) {
        const ping = await lab.exec('director', ['ping', '-c', '1', '-w', '20', server.servers[family]])
        assert.equal(ping.status, 0, ping.stdout)
      }
  }),
)

test('lab: the client finds the virtual addresses at the director, not at a real server', { skip }, () =>
  withLab(async (lab) => {
    for (const virtual of Object.values(topology.virtual))
      for (const family of FAMILIES) {
        const ping = await lab.exec('client', ['ping', '-c', '1', '-w', '20', virtual[family]])
        assert.equal(ping.status, 0, ping.stdout)
      }
    const { stdout } = await lab.exec('client', ['ip', 'neigh'])
    for (const line of stdout.split('\n'))
      if (
        Object.values(topology.virtual).some((virtual) =>
          FAMILIES.some((f) => line.startsWith(`${virtual[f]} `)),
        )
      )
        assert.match(line, new RegExp(hostNamed('director').clients.mac))
  }),
)

test('lab: a real server unwraps every tunnel in every mix of families', { skip }, (t) =>
  withLab(async (lab) => {
    for (const [name, wrap] of Object.entries(TUNNELS))
      for (const outer of FAMILIES)
        for (const inner of FAMILIES)
          await t.test(`${name}: ${inner} in ${outer}`, () => answersThroughTunnel(lab, wrap, outer, inner))
  }),
)

test('lab: a second lab of the same prefix replaces what an interrupted run left behind', {
  skip,
}, async () => {
  const prefix = `pmu${process.pid}-`
  await createLab({ prefix }) // nobody destroys this one
  const lab = await createLab({ prefix })
  try {
    const answer = await lab.client.http({
      address: hostNamed('rs2').clients.ipv4,
      port: topology.ports.http,
    })
    assert.equal(answer.server, 'rs2')
    assert.equal(answer.client, hostNamed('client').clients.ipv4)
  } finally {
    await lab.destroy()
  }
  const { stdout } = await run(['ip', 'netns', 'list'])
  assert.ok(!stdout.includes(prefix), `left behind: ${stdout}`)
})
