/** What each real server of the lab listens on: every address at which a forwarding method may deliver. */
import type { ServerSettings } from './server.ts'
import { hostNamed, topology } from './topology.ts'

export function serverSettings(name: string): ServerSettings {
  const { servers } = hostNamed(name)
  if (servers === undefined) throw new Error(`${name} is not on the real servers' wire of lab/topology.json`)
  const { ports, virtual } = topology
  const own = [servers.ipv4, servers.ipv6]
  const delivered = [virtual['direct-routing'], virtual.tunnel].flatMap((pair) => [pair.ipv4, pair.ipv6])
  return {
    name,
    httpPorts: [ports.http, ports.httpBehindNat],
    echo: [
      ...own.map((address) => ({ address, port: ports.echoBehindNat })),
      ...[...own, ...delivered].map((address) => ({ address, port: ports.echo })),
    ],
  }
}
