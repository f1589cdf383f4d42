/** The usual frames and rules of packet tests, on the bench (`bench.ts`). */
import type { ServiceId } from '../../control/model/service.ts'
import { parseAddress } from '../../net/address.ts'
import { MAC } from './bench.ts'
import { ethernet, type IpPacket, icmp, ip, ipv4, ipv6, type Segment, tcp, udp } from './frame.ts'
import type { Hop } from './model.ts'

export const CLIENT4 = '198.51.100.7'
export const CLIENT6 = '2001:db8:c::7'
export const VIP4 = '192.0.2.100'
export const VIP6 = '2001:db8:1::100'
/** The services of `service(family, 't', …)`, as commands name them. */
export const WEB = {
  4: { kind: 'address', protocol: 'tcp', address: parseAddress(VIP4)!, family: 4, port: 80 },
  6: { kind: 'address', protocol: 'tcp', address: parseAddress(VIP6)!, family: 6, port: 80 },
} as const satisfies Record<number, ServiceId>
export const RS4 = ['10.0.2.11', '10.0.2.12', '10.0.2.13'] as const
export const RS6 = ['2001:db8:2::11', '2001:db8:2::12', '2001:db8:2::13'] as const
/** Sources of tunnels. */
export const DIRECTOR4 = '10.0.2.1'
export const DIRECTOR6 = '2001:db8:2::1'

/** Next hops: real server n (from 0), and the router of the clients. */
export const toServer = (n: number): Hop => ({ dst: `02:00:00:00:02:1${n + 1}`, src: MAC.r0 })
export const toClient: Hop = { dst: MAC.clientRouter, src: MAC.c0 }

/** A packet as it arrives on the clients' wire. */
export const fromClient = (packet: IpPacket, padding = 0): Uint8Array =>
  ethernet({ src: MAC.clientRouter, dst: MAC.c0, padding }, packet)
/** A packet as it arrives on the real servers' wire. */
export const fromServer = (packet: IpPacket, n = 0): Uint8Array =>
  ethernet({ src: `02:00:00:00:02:1${n + 1}`, dst: MAC.r0 }, packet)

export interface Ends {
  readonly client: string
  readonly vip: string
}

export const ENDS = { 4: { client: CLIENT4, vip: VIP4 }, 6: { client: CLIENT6, vip: VIP6 } } as const

/** Client to virtual service. */
export const request = (family: 4 | 6, segment: Segment, ttl = 64): Uint8Array =>
  fromClient(ip({ src: ENDS[family].client, dst: ENDS[family].vip, ttl }, segment))

/** Real server n to client. */
export const reply = (family: 4 | 6, segment: Segment, n = 0, ttl = 64): Uint8Array =>
  fromServer(ip({ src: (family === 4 ? RS4 : RS6)[n] ?? '', dst: ENDS[family].client, ttl }, segment), n)

/** `ipvsadm` commands for one service on port 80 (TCP) or 53 (UDP), last real server first in its list. */
export function service(
  family: 4 | 6,
  protocol: 't' | 'u',
  method: string,
  servers: number,
  extra: readonly string[] = [],
  scheduler = 'rr',
): string[] {
  const address = (text: string): string => (text.includes(':') ? `[${text}]` : text)
  const port = protocol === 't' ? 80 : 53
  const at = `${address(ENDS[family].vip)}:${port}`
  const reals = (family === 4 ? RS4 : RS6).slice(0, servers)
  return [
    `ipvsadm -A -${protocol} ${at} -s ${scheduler}`,
    ...reals.map(
      (real, i) =>
        `ipvsadm -a -${protocol} ${at} -r ${address(real)}:${port} ${method}${extra[i] === undefined ? '' : ` ${extra[i]}`}`,
    ),
  ]
}

export { ethernet, icmp, ipv4, ipv6, tcp, udp }
