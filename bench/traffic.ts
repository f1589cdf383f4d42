/** The packets that are measured: one frame, and where in it the number of the flow goes. */
import { ethernet, ip, tcp, udp } from '../test/packets/frame.ts'

/** Ethernet address of the director's interfaces, of the clients and of the real servers. */
export const MAC = {
  director: '02:00:00:00:00:01',
  client: '02:00:00:00:00:02',
  server: '02:00:00:00:00:99',
} as const

export type Family = 4 | 6

/** Frames of many flows that differ in one address and its port. */
export interface Traffic {
  readonly frame: Uint8Array
  readonly family: Family
  /** Offset of the last four bytes of the address. */
  readonly addressOffset: number
  readonly portOffset: number
  /** Of the transport checksum. */
  readonly checkOffset: number
}

/** Length of the frames, without checksum: the smallest that Ethernet and our headers allow. */
const FRAME_BYTES = { 4: 64, 6: 74 } as const
const OFFSETS = {
  4: { source: 26, destination: 30, sourcePort: 34, destinationPort: 36 },
  6: { source: 34, destination: 50, sourcePort: 54, destinationPort: 56 },
} as const

export interface Endpoint {
  readonly address: string
  readonly port: number
}

/** Clients of flow 0; the others follow in the last four bytes of the address. */
const CLIENT: Readonly<Record<Family, Endpoint>> = {
  4: { address: '11.0.0.0', port: 1024 },
  6: { address: 'fd00:11::', port: 1024 },
}

function frameOf(
  from: Endpoint,
  to: Endpoint,
  protocol: 'tcp' | 'udp',
  flags: string,
  destination: string = MAC.director,
): Uint8Array {
  const family = from.address.includes(':') ? 6 : 4
  const headers = (family === 4 ? 34 : 54) + (protocol === 'tcp' ? 20 : 8)
  const payload = new Uint8Array(Math.max(0, FRAME_BYTES[family] - headers))
  const ports = { sport: from.port, dport: to.port }
  const segment = protocol === 'tcp' ? tcp({ ...ports, flags }, payload) : udp(ports, payload)
  return ethernet({ src: MAC.client, dst: destination }, ip({ src: from.address, dst: to.address }, segment))
}

/** Behind the ports. */
const CHECK = { tcp: 16, udp: 6 } as const

/** Packets of many clients to one address. */
export function fromClients(
  to: Endpoint,
  options: { readonly protocol?: 'tcp' | 'udp'; readonly flags?: string; readonly mac?: string } = {},
): Traffic {
  const family = to.address.includes(':') ? 6 : 4
  return {
    frame: frameOf(CLIENT[family], to, options.protocol ?? 'tcp', options.flags ?? 'A', options.mac),
    family,
    addressOffset: OFFSETS[family].source,
    portOffset: OFFSETS[family].sourcePort,
    checkOffset: OFFSETS[family].sourcePort + CHECK[options.protocol ?? 'tcp'],
  }
}

/** Answers of one real server to all of them. */
export function toClients(from: Endpoint, flags: string): Traffic {
  const family = from.address.includes(':') ? 6 : 4
  return {
    frame: frameOf(from, CLIENT[family], 'tcp', flags),
    family,
    addressOffset: OFFSETS[family].destination,
    portOffset: OFFSETS[family].destinationPort,
    checkOffset: OFFSETS[family].sourcePort + CHECK.tcp,
  }
}

/** Packets of one client to many addresses: flow n goes to service n (see `numbered`). */
export function toServices(base: Endpoint, flags: string): Traffic {
  const family = base.address.includes(':') ? 6 : 4
  return {
    frame: frameOf({ ...CLIENT[family], port: 40001 }, base, 'tcp', flags),
    family,
    addressOffset: OFFSETS[family].destination,
    portOffset: OFFSETS[family].destinationPort,
    checkOffset: OFFSETS[family].sourcePort + CHECK.tcp,
  }
}

const FLOWS_PER_ADDRESS = 16
const PORT_FIRST = 1024
const PORT_STEP = 3001

/** The IPv4 endpoint that flow `number` has, counted from an address whose low bits are zero. */
export function numbered(base: string, number: number): Endpoint {
  const bytes = base.split('.').map(Number)
  const first = bytes.reduce((sum, byte) => sum * 256 + byte, 0)
  const address = (first ^ Math.floor(number / FLOWS_PER_ADDRESS)) >>> 0
  const text = [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')
  return { address: text, port: PORT_FIRST + (number % FLOWS_PER_ADDRESS) * PORT_STEP }
}

/** Makes `frame` the one of flow `number`, as the wrapper in the kernel does. */
export function setFlow(
  traffic: Traffic,
  frame: DataView,
  at: number,
  number: number,
  base: { readonly address: number; readonly check: number },
): void {
  const change = Math.floor(number / FLOWS_PER_ADDRESS)
  const address = (base.address ^ change) >>> 0
  frame.setUint32(at + traffic.addressOffset, address)
  frame.setUint16(at + traffic.portOffset, PORT_FIRST + (number % FLOWS_PER_ADDRESS) * PORT_STEP)
  if (traffic.family !== 4) return
  // RFC 1624: the header checksum after one address has changed.
  let sum = (~base.check & 0xffff) + (~(base.address >>> 16) & 0xffff) + (~base.address & 0xffff)
  sum += (address >>> 16) + (address & 0xffff)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  frame.setUint16(at + 24, ~sum & 0xffff)
}

/** The words of the unchanged frame that `setFlow` starts from. */
export function flowBase(traffic: Traffic): { address: number; check: number } {
  const view = new DataView(traffic.frame.buffer, traffic.frame.byteOffset, traffic.frame.byteLength)
  return { address: view.getUint32(traffic.addressOffset), check: view.getUint16(24) }
}
