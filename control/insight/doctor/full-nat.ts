/** Addresses of full NAT beside what else has them: this host's own sockets, real servers. */
import type { InetSocket } from '../../../linux/inet-sockets.ts'
import { parseAddress, unspecified } from '../../../net/address.ts'
import { type Ports, portsBeside } from '../../../net/ports.ts'
import type { FullNatShown } from '../../front/api/schema/full-nat.ts'
import { portsText } from '../../model/full-nat.ts'
import type { DoctorFacts } from './facts.ts'

/** A real server that connections go to by full NAT. */
export interface FullNatServer {
  readonly protocol: string
  readonly address: string
  readonly port: number
}

const ends = ({ address, port }: { address: string; port: number }): string =>
  `${address.includes(':') ? `[${address}]` : address}:${port}`

export function fullNatFacts(
  addresses: FullNatShown,
  servers: readonly FullNatServer[],
  host: {
    /** Addresses of this host. */
    readonly own: ReadonlySet<string>
    /** Ports that it gives to sockets which ask for none. */
    readonly localPorts: readonly Ports[]
    readonly sockets: readonly InetSocket[]
  },
): DoctorFacts['fullNat'] {
  const peers = new Set(servers.map((server) => `${server.protocol} ${ends(server)}`))
  return addresses.map(({ address, ports }) => {
    const family = parseAddress(address)?.includes(':') === true ? 6 : 4
    const isOurs = ({ local }: InetSocket): boolean =>
      local.port >= ports.from &&
      local.port <= ports.to &&
      (local.address === address || local.address === unspecified(family))
    return {
      address,
      local: host.own.has(address),
      shared: sharedPorts(ports, host.localPorts),
      realServer: servers.some((server) => server.address === address),
      sockets: host.sockets
        .filter(
          (one) => isOurs(one) && one.remote !== null && peers.has(`${one.protocol} ${ends(one.remote)}`),
        )
        .map(({ protocol, local, remote }) => `${protocol} ${ends(local)} to ${ends(remote ?? local)}`),
    }
  })
}

/** Ports of a range that the kernel gives to sockets which ask for none, as the kernel reads ports. */
function sharedPorts(ports: Ports, local: readonly Ports[]): string | null {
  const own = portsBeside(ports, local)
  const shared = portsBeside(ports, own)
  return shared.length === 0 ? null : shared.map(portsText).join(',')
}
