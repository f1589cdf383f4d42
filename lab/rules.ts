/** The rules of the lab's services, as words of ipvsadm, and where a client finds them. */
import { type AddressFamily, endpoint, type Host, type Method, realServers, topology } from './topology.ts'

export type LabProtocol = 'tcp' | 'udp'

export interface LabService {
  readonly method: Method
  readonly protocol: LabProtocol
  /** Family of the virtual address. */
  readonly family: AddressFamily
  /** Family of the real servers' addresses; other than `family` only with tunnels. */
  readonly serverFamily: AddressFamily
  /** Kind of tunnel; ipip unless said otherwise. */
  readonly tunnel?: 'ipip' | 'gue' | 'gre'
}

const METHOD_OPTION = { nat: '-m', 'direct-routing': '-g', tunnel: '-i' } as const satisfies Record<
  Method,
  string
>

const TUNNEL_OPTIONS = {
  ipip: '',
  gue: ` --tun-type gue --tun-port ${topology.ports.gue} --tun-nocsum`,
  gre: ' --tun-type gre --tun-csum',
} as const

/** Words that name the service: `-t 192.0.2.100:80`. */
export function serviceWords(service: LabService): string {
  const { address, port } = virtualEndpoint(service)
  return `${service.protocol === 'tcp' ? '-t' : '-u'} ${endpoint(address, port)}`
}

export function virtualEndpoint(service: LabService): { readonly address: string; readonly port: number } {
  const { http, echo } = topology.ports
  return {
    address: topology.virtual[service.method][service.family],
    port: service.protocol === 'tcp' ? http : echo,
  }
}

/** Words that name a real server within its service. NAT also maps the port. */
export function serverWords(service: LabService, server: Host): string {
  const address = server.servers?.[service.serverFamily]
  if (address === undefined) throw new Error(`${server.name} is not on the real servers' wire`)
  const { httpBehindNat, echoBehindNat } = topology.ports
  const own = service.protocol === 'tcp' ? httpBehindNat : echoBehindNat
  const port = service.method === 'nat' ? own : virtualEndpoint(service).port
  return `${serviceWords(service)} -r ${endpoint(address, port)}`
}

export function addService(service: LabService, scheduler = 'rr'): string {
  return `-A ${serviceWords(service)} -s ${scheduler}`
}

export function addServer(service: LabService, server: Host, weight = 1): string {
  return `-a ${serverWords(service, server)} ${METHOD_OPTION[service.method]} -w ${weight}${TUNNEL_OPTIONS[service.tunnel ?? 'ipip']}`
}

/** The service with all real servers of the lab, as commands in order. */
export function allRules(service: LabService, scheduler = 'rr'): string[] {
  return [addService(service, scheduler), ...realServers().map((server) => addServer(service, server))]
}

export function describe(service: LabService): string {
  const families =
    service.family === service.serverFamily ? service.family : `${service.family} in ${service.serverFamily}`
  const method = service.tunnel === undefined ? service.method : `${service.tunnel} ${service.method}`
  return `${method}, ${families}, ${service.protocol}`
}
