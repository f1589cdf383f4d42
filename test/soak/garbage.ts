/** Frames that are wrong, from a seed, addressed to the director's link on the clients' wire. */
import { createHash } from 'node:crypto'
import { FAMILIES, hostNamed, METHODS, topology } from '../../lab/topology.ts'
import { concat, macBytes } from '../packets/bytes.ts'
import { ethernet, ipv4, ipv6, tcp, udp } from '../packets/frame.ts'
import { SERVICES, targetOf } from './services.ts'

const NOISE_PER_TYPE = 20
const CUTS = 24
/** Source port of frames that are nearly good; no socket of the client has it. */
const SPORT = 4000

export function garbageFrames(seed: number): Uint8Array[] {
  let number = 0
  const noise = (length: number): Uint8Array =>
    createHash('shake256', { outputLength: length }).update(`${seed}/${number++}`).digest()
  const client = hostNamed('client').clients
  const to = { src: client.mac, dst: hostNamed('director').clients.mac }
  const header = concat(macBytes(to.dst), macBytes(to.src))

  const nearlyGood = SERVICES.filter(({ role }) => role !== 'sink').map((service) => {
    const { address, port } = targetOf(service)
    const segment =
      service.role === 'http'
        ? tcp({ sport: SPORT, dport: port, flags: 'A' })
        : udp({ sport: SPORT, dport: port })
    return service.family === 'ipv4'
      ? ethernet(to, ipv4({ src: client.ipv4, dst: address }, segment))
      : ethernet(to, ipv6({ src: client.ipv6, dst: address }, segment))
  })
  const syn = tcp({ sport: SPORT, dport: 8100, flags: 'S' })
  const wrongIpv4 = METHODS.flatMap((method) => {
    const dst = topology.virtual[method].ipv4
    const src = client.ipv4
    return [
      ...[0, 1, 4, 15].map((headerLength) => ipv4({ src, dst, headerLength }, syn)),
      ...[0, 19, 20, 39, 65535].map((totalLength) => ipv4({ src, dst, totalLength }, syn)),
      ipv4({ src, dst, version: 5 }, syn),
      ipv4({ src, dst, checksum: 0xdead }, syn),
      ipv4({ src: dst, dst }, syn),
      ipv4({ src: '255.255.255.255', dst }, syn),
      ipv4({ src, dst, mf: true }, syn),
    ]
  })
  const wrongIpv6 = METHODS.map((method) =>
    ipv6({ src: client.ipv6, dst: topology.virtual[method].ipv6, payloadLength: 65535 }, syn),
  )
  return [
    ...[...wrongIpv4, ...wrongIpv6].map((packet) => ethernet(to, packet)),
    ...nearlyGood.flatMap((frame, i) =>
      // Another piece of the possible lengths with every seed.
      Array.from({ length: CUTS / FAMILIES.length }, (_, cut) =>
        frame.subarray(0, 14 + ((seed * 13 + i + cut * 5) % Math.max(1, frame.length - 14))),
      ),
    ),
    ...[0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806, 0xffff].flatMap((type) =>
      Array.from({ length: NOISE_PER_TYPE }, (_, i) =>
        concat(header, Uint8Array.of(type >> 8, type & 0xff), noise(1 + ((i * 75 + seed) % 1499))),
      ),
    ),
  ]
}
