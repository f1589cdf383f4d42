/** What the soak balances: every forwarding method and family, for HTTP and two kinds of datagrams. */
import {
  type AddressFamily,
  endpoint,
  FAMILIES,
  type Host,
  METHODS,
  type Method,
  realServers,
  topology,
} from '../../lab/topology.ts'

/** `echo` datagrams are answered, `sink` datagrams only counted. */
export type Role = 'http' | 'echo' | 'sink'

export interface SoakService {
  readonly role: Role
  readonly method: Method
  readonly family: AddressFamily
}

/** Beside those of the lab's own real servers. NAT also maps the port. */
const PORTS = {
  http: { virtual: 8100, behindNat: 8101 },
  echo: { virtual: 9000, behindNat: 9001 },
  sink: { virtual: 9100, behindNat: 9101 },
} as const satisfies Record<Role, { virtual: number; behindNat: number }>

const SCHEDULERS = { nat: 'rr', 'direct-routing': 'wrr', tunnel: 'wlc' } as const satisfies Record<
  Method,
  string
>

/** A kind of tunnel for each role. */
const TUNNELS = {
  http: '-i',
  echo: `-i --tun-type gue --tun-port ${topology.ports.gue} --tun-nocsum`,
  sink: '-i --tun-type gre --tun-csum',
} as const satisfies Record<Role, string>

export const SERVICES: readonly SoakService[] = (['http', 'echo', 'sink'] as const).flatMap((role) =>
  METHODS.flatMap((method) => FAMILIES.map((family) => ({ role, method, family }))),
)

export function servicesFor(role: Role): readonly SoakService[] {
  return SERVICES.filter((service) => service.role === role)
}

export function targetOf({ role, method, family }: SoakService): {
  readonly address: string
  readonly port: number
} {
  return { address: topology.virtual[method][family], port: PORTS[role].virtual }
}

export function nameOf({ role, method, family }: SoakService): string {
  return `${role}/${method}/${family}`
}

/** Words that name the service. */
export function serviceWords(service: SoakService): string {
  const { address, port } = targetOf(service)
  return `${service.role === 'http' ? '-t' : '-u'} ${endpoint(address, port)}`
}

/** Words that name a real server within the service. */
export function serverWords(service: SoakService, server: Host): string {
  const address = server.servers?.[service.family]
  if (address === undefined) throw new Error(`${server.name} is not on the real servers' wire`)
  const ports = PORTS[service.role]
  const port = service.method === 'nat' ? ports.behindNat : ports.virtual
  return `${serviceWords(service)} -r ${endpoint(address, port)}`
}

function forwarding({ role, method }: SoakService): string {
  return { nat: '-m', 'direct-routing': '-g', tunnel: TUNNELS[role] }[method]
}

export function addService(service: SoakService): string {
  return `-A ${serviceWords(service)} -s ${SCHEDULERS[service.method]}`
}

export function addServer(service: SoakService, server: Host, weight = 1): string {
  return `-a ${serverWords(service, server)} ${forwarding(service)} -w ${weight}`
}

export function editServer(service: SoakService, server: Host, weight: number): string {
  return `-e ${serverWords(service, server)} ${forwarding(service)} -w ${weight}`
}

export interface ListenSettings {
  readonly name: string
  readonly httpPorts: readonly number[]
  /** Bound one by one: an answer from a wildcard socket would carry the route's source address. */
  readonly udp: readonly {
    readonly role: 'echo' | 'sink'
    readonly address: string
    readonly port: number
  }[]
}

/** Every address and port at which a forwarding method may deliver to a real server. */
export function listenSettings(name: string): ListenSettings {
  const server = realServers().find((candidate) => candidate.name === name)
  if (server === undefined) throw new Error(`No real server "${name}" in lab/topology.json`)
  const { 'direct-routing': direct, tunnel } = topology.virtual
  return {
    name,
    httpPorts: [PORTS.http.virtual, PORTS.http.behindNat],
    udp: (['echo', 'sink'] as const).flatMap((role) =>
      FAMILIES.flatMap((family) => [
        { role, address: server.servers[family], port: PORTS[role].behindNat },
        ...[direct, tunnel].map((pair) => ({ role, address: pair[family], port: PORTS[role].virtual })),
      ]),
    ),
  }
}
