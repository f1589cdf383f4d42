/**
 * A director between a client's router and a real server, in a network of its own: `c0` and `r0` are its
 * interfaces, `wire-c` and `wire-r` their other ends, where tests send and listen.
 */
import { ethernet, ipv4, tcp } from '../packets/frame.ts'
import type { PacketSocket } from '../packets/libc.ts'
import { awaitLocal, enterPrivateNetwork, ip, sysctl } from './private-network.ts'

/** For frames that are sure to come. */
const PATIENCE_MS = 60_000

export const C0 = '02:00:00:00:01:01'
export const ROUTER = '02:00:00:00:01:02'
export const R0 = '02:00:00:00:02:01'
export const RS1 = '02:00:00:00:02:11'
export const CLIENT = '198.51.100.7'
export const VIP = '192.0.2.100'
export const REAL = '10.0.2.11'
/** Of the director, towards the real server. */
export const SOURCE = '10.0.2.1'
export const CLIENT6 = '2001:db8:c::7'
export const VIP6 = '2001:db8:1::100'
export const REAL6 = '2001:db8:2::11'

/** Neighbours are known for good: no frame is about them. */
export function layTwoWires(): void {
  enterPrivateNetwork()
  ip(`link add c0 address ${C0} type veth peer name wire-c`)
  ip(`link add r0 address ${R0} type veth peer name wire-r`)
  for (const name of ['c0', 'wire-c', 'r0', 'wire-r']) {
    sysctl(`net/ipv6/conf/${name}/disable_ipv6`, name.startsWith('wire') ? 1 : 0)
    sysctl(`net/ipv6/conf/${name}/addr_gen_mode`, 1)
    ip(`link set ${name} up`)
  }
  sysctl('net/ipv4/ip_forward', 1)
  sysctl('net/ipv6/conf/all/forwarding', 1)
  ip('addr add 192.0.2.1/24 dev c0')
  ip(`addr add ${VIP}/32 dev c0`)
  ip(`addr add ${SOURCE}/24 dev r0`)
  ip('addr add 2001:db8:1::1/64 dev c0 nodad')
  ip(`addr add ${VIP6}/128 dev c0 nodad`)
  ip('addr add 2001:db8:2::1/64 dev r0 nodad')
  awaitLocal(['2001:db8:1::1', VIP6, '2001:db8:2::1'])
  ip(`neigh add 2001:db8:1::2 lladdr ${ROUTER} dev c0 nud permanent`)
  ip(`neigh add ${REAL6} lladdr ${RS1} dev r0 nud permanent`)
  ip('route add default via 2001:db8:1::2')
  ip(`neigh add ${REAL} lladdr ${RS1} dev r0 nud permanent`)
  reachClients('c0')
}

/** What the kernel forgets of an interface that was down. */
export function reachClients(device: string): void {
  ip(`neigh replace 192.0.2.2 lladdr ${ROUTER} dev ${device} nud permanent`)
  ip('route replace default via 192.0.2.2')
}

export const fromClient = (sport: number, dport: number, flags: string, payload = '') =>
  ethernet({ src: ROUTER, dst: C0 }, ipv4({ src: CLIENT, dst: VIP }, tcp({ sport, dport, flags }, payload)))

export const fromServer = (dport: number, flags: string) =>
  ethernet({ src: RS1, dst: R0 }, ipv4({ src: REAL, dst: CLIENT }, tcp({ sport: 8080, dport, flags })))

/** Next headers of IPv6 in packets of tests: TCP, UDP, fragment. */
const OF_PACKETS: readonly number[] = [6, 17, 44]

/**
 * Everything that came out of a wire, without neighbour discovery and the like: waits for `count` frames if
 * need be, and a moment longer for what should not come.
 */
export async function heard(socket: PacketSocket, count = 1, family: 4 | 6 = 4): Promise<Uint8Array[]> {
  const frames: Uint8Array[] = []
  const drain = () => {
    for (let frame = socket.receive(); frame !== null; frame = socket.receive()) {
      const type = (frame[12]! << 8) | frame[13]!
      const isDiscovery = type === 0x86dd && !OF_PACKETS.includes(frame[20]!)
      if (type === (family === 4 ? 0x0800 : 0x86dd) && !isDiscovery) frames.push(frame)
    }
  }
  const late = Date.now() + PATIENCE_MS
  for (drain(); frames.length < count && Date.now() < late; drain()) await wait(5)
  await wait(60)
  drain()
  return frames
}

export const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
