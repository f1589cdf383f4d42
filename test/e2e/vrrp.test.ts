/** Two directors, one virtual address: VRRP moves it, and `mh` finds the same real servers on the other one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../../lab/command.ts'
import type { LabDirector } from '../../lab/director.ts'
import { NAT_TABLE, wiresOf } from '../../lab/host-network.ts'
import type { Lab } from '../../lab/lab.ts'
import { ipBatch } from '../../lab/namespace.ts'
import { portName } from '../../lab/network.ts'
import { type Host, hostNamed, realServers, topology } from '../../lab/topology.ts'
import { preloadObstacle } from '../preload/library.ts'
import { KEEPALIVED, Keepalived } from './keepalived-process.ts'
import { addDirector, directorAt, removeDirector } from './more-directors.ts'
import { missingFor, withLab } from './scene.ts'

const skip = missingFor('xdp') || preloadObstacle(KEEPALIVED, 'keepalived') || false
const WITHIN_MS = 60_000

const VIRTUAL = { address: topology.virtual['direct-routing'].ipv4, port: topology.ports.http }
const { interface: clientsDevice } = topology.wires.clients

const STANDBY = directorAt('standby', 20)

function configuration(own: Host, peer: Host, priority: number): string {
  const servers = realServers().map(
    (host) => `
  real_server ${host.servers!.ipv4} ${VIRTUAL.port} {
    TCP_CHECK {
      connect_timeout 10
    }
  }`,
  )
  return `vrrp_instance V {
  state BACKUP
  interface ${clientsDevice}
  virtual_router_id 51
  version 3
  priority ${priority}
  advert_int 1
  unicast_src_ip ${own.clients!.ipv4}
  unicast_peer {
    ${peer.clients!.ipv4}
  }
  virtual_ipaddress {
    ${VIRTUAL.address}/32 dev ${clientsDevice}
  }
}
virtual_server ${VIRTUAL.address} ${VIRTUAL.port} {
  delay_loop 1
  lb_algo mh
  lb_kind DR
  protocol TCP
${servers.join('')}
}
`
}

/** What real servers send from their own addresses goes by the first director, checks of the standby included. */
async function answerStandby(lab: Lab): Promise<void> {
  const { interface: device, ipv4 } = topology.wires.servers
  for (const { name } of realServers())
    await ipBatch(lab.prefix + name, [
      `route add ${ipv4.base}/${ipv4.prefix} dev ${device} table ${NAT_TABLE}`,
    ])
}

/** All virtual addresses off: who has one is for VRRP to say. */
async function dropVirtualAddresses(lab: Lab, host: string): Promise<void> {
  for (const { ipv4 } of Object.values(topology.virtual))
    await lab.exec(host, ['ip', 'address', 'del', `${ipv4}/32`, 'dev', clientsDevice])
}

const holds = (lab: Lab, host: string): Promise<true> =>
  until(`${host} to hold ${VIRTUAL.address}`, WITHIN_MS, async () => {
    const { stdout } = await lab.exec(host, ['ip', '-o', '-4', 'address', 'show', 'dev', clientsDevice])
    return stdout.includes(` ${VIRTUAL.address}/`) ? true : undefined
  })

async function makeReady(director: LabDirector): Promise<void> {
  await director.start({ dataplane: 'xdp' })
  // What the other one has begun goes on here, from the middle.
  const { status, body } = await director.api('PUT', '/v1/sysctls/sloppy_tcp', '{"value":1}')
  assert.equal(status, 200, body)
}

const CONVERSATIONS = 6
/** Answers of each conversation on the new master. */
const ANSWERS = 5

test('the master is lost, and its connections go on over the other director', { skip }, () =>
  withLab(async (lab) => {
    const standby = await addDirector(lab, STANDBY)
    await answerStandby(lab)
    const directors = [lab.director, standby]
    const keepaliveds = directors.map((director) => new Keepalived(director))
    const [first, second] = keepaliveds as [Keepalived, Keepalived]
    try {
      for (const host of ['director', STANDBY.name]) await dropVirtualAddresses(lab, host)
      await Promise.all(directors.map(makeReady))
      first.write(configuration(hostNamed('director'), STANDBY, 150))
      second.write(configuration(STANDBY, hostNamed('director'), 100))
      first.start()
      await holds(lab, 'director')
      second.start()
      for (const director of directors)
        await until('all real servers', WITHIN_MS, async () =>
          (await director.rule('-Sn')).match(/^-a /gm)?.length === realServers().length ? true : undefined,
        )
      for (let i = 0; i < CONVERSATIONS; i++) await lab.client.converse({ ...VIRTUAL, intervalMs: 20 })
      const before = new Map((await lab.client.conversations()).map((one) => [one.id, one]))

      // As if somebody had pulled the plug.
      for (const wire of wiresOf(hostNamed('director')))
        await ipBatch(`${lab.prefix}net`, [`link set ${portName('director', wire)} down`])
      await first.kill()
      await lab.director.end('SIGKILL')
      await holds(lab, STANDBY.name)

      const moved = new Map((await lab.client.conversations()).map(({ id, requests }) => [id, requests]))
      await until('answers by way of the other director', WITHIN_MS, async () =>
        (await lab.client.conversations()).every(
          ({ id, requests, failure }) => failure !== null || requests >= moved.get(id)! + ANSWERS,
        )
          ? true
          : undefined,
      )
      for (const { id, server, failure } of await lab.client.closeConversations()) {
        assert.equal(failure, null)
        assert.equal(server, before.get(id)!.server)
      }
    } catch (error) {
      console.error(first.log.slice(-3000), second.log.slice(-3000))
      throw error
    } finally {
      for (const keepalived of keepaliveds) await keepalived.kill().catch(() => {})
      await removeDirector(standby)
    }
  }),
)
