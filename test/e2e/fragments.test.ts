/** Datagrams whose fragments arrive in the wrong order reach the sockets of real servers, who answer them. */
import { test } from 'node:test'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { addServer, addService, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { hostNamed, topology } from '../../lab/topology.ts'
import { fragmentsOf } from '../packets/fragments-of.ts'
import { ethernet, ip, udp } from '../packets/frame.ts'
import { ALL_PLANES, missingFor, packetsSent, sendFrames, withDirector } from './scene.ts'

const SIZE = 1480
const CLIENT_PORT = 40_001
const WITHIN_MS = 60_000

const SERVICES: readonly LabService[] = [
  { method: 'nat', protocol: 'udp', family: 'ipv4', serverFamily: 'ipv4' },
  { method: 'direct-routing', protocol: 'udp', family: 'ipv6', serverFamily: 'ipv6' },
]

/** A datagram of so many bytes to the service, its fragments from the last to the first. */
function reversed({ family, ...service }: LabService, length: number, id: number): Uint8Array[] {
  const { address, port } = virtualEndpoint({ family, ...service })
  const { clients } = hostNamed('client')
  const frame = ethernet(
    { src: clients.mac, dst: hostNamed('director').clients.mac },
    ip(
      { src: clients[family], dst: address },
      udp({ sport: CLIENT_PORT, dport: port }, `token${id} ${'x'.repeat(length)}`),
    ),
  )
  return fragmentsOf(frame, SIZE, id).reverse()
}

async function isAnswered(lab: Lab, service: LabService, length: number, firstId: number): Promise<void> {
  const { address, port } = virtualEndpoint(service)
  const answers = { wire: 'clients' as const, source: address, port }
  const before = await packetsSent(lab, answers)
  let id = firstId
  // With XDP it takes the first fragments that what puts them together is loaded.
  await until(`an answer to ${length} bytes by ${service.method}`, WITHIN_MS, async () => {
    await sendFrames(lab, 'client', topology.wires.clients.interface, reversed(service, length, ++id))
    return (await packetsSent(lab, answers)) > before ? true : undefined
  })
}

for (const plane of ALL_PLANES)
  test(`${plane}: datagrams in fragments, the last of them first`, { skip: missingFor(plane) }, () =>
    withDirector(plane, async (lab) => {
      for (const service of SERVICES)
        await lab.director.restore([addService(service), addServer(service, hostNamed('rs1'))])
      for (const [index, service] of SERVICES.entries())
        for (const length of [4000, 15_000]) await isAnswered(lab, service, length, index * 2000 + length)
    }),
  )
