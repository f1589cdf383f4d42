/**
 * Jumbo frames: everywhere, and towards the clients alone, where what is larger than the way to a real server is cut
 * or its sender told. Where a driver does not run XDP with them, `auto` takes them in traffic control, and says so.
 */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Status } from '../../control/front/api/schema/status.ts'
import { must, until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace, ipBatch, setParameters } from '../../lab/namespace.ts'
import { portName } from '../../lab/network.ts'
import {
  addServer,
  addService,
  describe,
  type LabProtocol,
  type LabService,
  virtualEndpoint,
} from '../../lab/rules.ts'
import { endpoint, FAMILIES, hostNamed, METHODS, topology, WIRES, type WireName } from '../../lab/topology.ts'
import { ALL_PLANES, countedIn, missingFor, textOf, withLab } from './scene.ts'
import { readStatistics } from './statistics.ts'

const JUMBO = 9000
const USUAL = 1500
/** For the outer headers of a tunnel. */
const TUNNEL = 100
const UPLOAD = 900_000
/** A datagram that fits one jumbo frame by every method, and is six usual ones. */
const DATAGRAM = 8500
const PATIENCE_MS = 60_000

const service = (protocol: LabProtocol, method: LabService['method'], family: LabService['family']) =>
  ({ method, protocol, family, serverFamily: family }) satisfies LabService

/** Every link of a wire, at both its ends. */
async function setMtu(lab: Lab, wire: WireName, mtu: number): Promise<void> {
  const device = topology.wires[wire].interface
  const hosts = topology.hosts.filter((host) => host[wire] !== undefined)
  await ipBatch(
    `${lab.prefix}net`,
    hosts.map(({ name }) => `link set ${portName(name, wire)} mtu ${mtu}`),
  )
  for (const { name } of hosts) await ipBatch(lab.prefix + name, [`link set ${device} mtu ${mtu}`])
}

async function withMtus(
  plane: (typeof ALL_PLANES)[number],
  mtus: Readonly<Record<WireName, number>>,
  body: (lab: Lab) => Promise<void>,
): Promise<void> {
  await withLab(async (lab) => {
    for (const wire of WIRES) await setMtu(lab, wire, mtus[wire])
    await lab.director.start({ dataplane: plane })
    try {
      await body(lab)
    } catch (error) {
      if (error instanceof Error) error.stack += `\n--- pointsmand:\n${lab.director.logTail()}`
      throw error
    }
  })
}

/** What the client has learnt of ways holds for minutes, and the next case is to be told anew. */
async function forgetPaths(lab: Lab): Promise<void> {
  for (const family of ['-4', '-6']) await ipBatch(`${lab.prefix}client`, ['route flush cache'], [family])
}

/** One real server: that of each packet is known. */
async function serve(lab: Lab, one: LabService): Promise<void> {
  await lab.director.restore(['-C', addService(one), addServer(one, hostNamed('rs1'))])
}

async function checkTcp(lab: Lab, one: LabService): Promise<void> {
  const up = await lab.client.http({ ...virtualEndpoint(one), upload: UPLOAD })
  assert.equal(up.bytes, UPLOAD)
  const down = await lab.client.http({ ...virtualEndpoint(one), pad: UPLOAD })
  assert.ok(down.received >= UPLOAD)
}

async function sizeOfPackets(lab: Lab, one: LabService): Promise<number> {
  const { address, port } = virtualEndpoint(one)
  const name = `${one.protocol.toUpperCase()} ${endpoint(address, port)}`
  const statistics = (await readStatistics(lab)).find((each) => each.service === name)
  assert.ok(statistics !== undefined, `${name} is not listed`)
  return statistics.inBytes / statistics.inPackets
}

const RECEIVED = `
table inet jumbo {
  counter whole { }
  chain input {
    type filter hook input priority 0;
    ct state new,established,related,invalid meta l4proto { ipencap, ipv6 } meta length > ${DATAGRAM} counter name whole
  }
}
`
/**
 * A packet of a tunnel that is cut is one of its outer header, and what takes that off in the lab puts nothing
 * together: the real server's stack has, where it has come whole.
 */
async function checkTunnelled(lab: Lab, one: LabService): Promise<void> {
  const whole = async (): Promise<number> => {
    const listed = await lab.exec('rs1', ['nft', '--json', 'list', 'counter', 'inet', 'jumbo', 'whole'])
    return Number(/"packets": *(\d+)/.exec(listed.stdout)?.[1])
  }
  const before = await whole()
  await until('a datagram in one packet of the tunnel', PATIENCE_MS, async () => {
    await lab.client.udp({ ...virtualEndpoint(one), size: DATAGRAM, tries: 1 }).catch(() => undefined)
    return (await whole()) > before ? true : undefined
  })
}

async function checkUdp(lab: Lab, one: LabService): Promise<void> {
  const answer = await lab.client.udp({ ...virtualEndpoint(one), size: DATAGRAM })
  assert.equal(answer.bytes, DATAGRAM)
}

/** Which interfaces XDP has been refused on, and traffic control taken. */
async function shownByStatus(lab: Lab): Promise<Record<string, { mode: string | undefined; note: string }>> {
  const { dataplane } = JSON.parse((await lab.director.api('GET', '/v1/status')).body) as Status
  return Object.fromEntries(
    dataplane.interfaces.map(({ name, mode, note }) => [name, { mode, note: note ?? '' }]),
  )
}

async function checkEachMethod(
  lab: Lab,
  t: TestContext,
  check: (one: LabService, what: string) => Promise<void>,
): Promise<void> {
  for (const protocol of ['tcp', 'udp'] as const)
    for (const family of FAMILIES)
      for (const method of METHODS) {
        const one = service(protocol, method, family)
        await t.test(describe(one), async () => {
          await serve(lab, one)
          await check(one, describe(one))
        })
      }
}

for (const plane of ALL_PLANES) {
  const skip = missingFor(plane)

  test(`${plane}: jumbo frames on both sides are forwarded whole`, { skip }, (t) =>
    withMtus(plane, { clients: JUMBO, servers: JUMBO + TUNNEL }, async (lab) => {
      if (plane === 'xdp')
        for (const [name, { mode, note }] of Object.entries(await shownByStatus(lab))) {
          assert.equal(mode, 'tc', name)
          assert.match(note, /does not run XDP natively: .*packets are taken in traffic control/)
        }
      await checkEachMethod(lab, t, async (one) => {
        const counts = await countedIn(lab, async () => {
          if (one.protocol === 'udp') return checkUdp(lab, one)
          const up = await lab.client.http({ ...virtualEndpoint(one), upload: UPLOAD })
          assert.equal(up.bytes, UPLOAD)
          const size = await sizeOfPackets(lab, one)
          assert.ok(size > 2 * USUAL, `packets of ${size} bytes`)
          return checkTcp(lab, one)
        })
        const others = Object.keys(counts).filter((verdict) =>
          /too_big|fragment|headroom|egress/.test(verdict),
        )
        assert.deepEqual(others, [], textOf(counts))
      })
    }),
  )

  test(`${plane}: jumbo frames towards the clients, usual ones towards the real servers`, { skip }, (t) =>
    withMtus(plane, { clients: JUMBO, servers: USUAL }, async (lab) => {
      if (plane === 'xdp') {
        const shown = await shownByStatus(lab)
        assert.equal(shown[topology.wires.clients.interface]?.mode, 'tc')
        assert.equal(shown[topology.wires.servers.interface]?.mode, 'native')
      }
      await must(inNamespace(`${lab.prefix}rs1`, ['nft', '-f', '-']), { input: RECEIVED })
      await checkEachMethod(lab, t, async (one, what) => {
        // What may not be fragmented its sender is told of, and sends anew. By NAT of TCP the real server says before
        // how much it takes.
        const check = one.protocol === 'tcp' ? checkTcp : one.method === 'tunnel' ? checkTunnelled : checkUdp
        const counts = await countedIn(lab, () => check(lab, one))
        const isTold = one.protocol === 'udp' || one.method !== 'nat'
        assert.equal((counts.answer_too_big ?? 0n) > 0n, isTold, `${what}: ${textOf(counts)}`)
        await forgetPaths(lab)
      })
      await t.test('ipv4 datagrams that may be fragmented', async (t) => {
        await setParameters(`${lab.prefix}client`, { 'ipv4/ip_no_pmtu_disc': 1 })
        for (const method of METHODS)
          await t.test(method, async () => {
            const one = service('udp', method, 'ipv4')
            await serve(lab, one)
            const counts = await countedIn(lab, () =>
              method === 'tunnel' ? checkTunnelled(lab, one) : checkUdp(lab, one),
            )
            assert.equal(counts.answer_too_big, undefined, textOf(counts))
          })
      })
    }),
  )
}
