/** Sockets of TCP and UDP of this network namespace, as the kernel lists them in /proc. */
import { readFileSync } from 'node:fs'
import { type IpAddress, ipv4FromNumber, readAddress } from '../net/address.ts'

export interface SocketEnd {
  readonly address: IpAddress
  readonly port: number
}

export interface InetSocket {
  readonly protocol: 'tcp' | 'udp'
  readonly local: SocketEnd
  /** null: of whoever writes to it, or asks to be connected. */
  readonly remote: SocketEnd | null
}

/** One of IPv4 that a socket of IPv6 has: ::ffff:0:0/96 (RFC 4291 §2.5.5.2). */
const MAPPED = Buffer.from('00000000000000000000ffff', 'hex')

/** Words of 32 bits, as the machine has them: `0502000A:1388` is 10.0.2.5:5000. */
function readEnd(text: string): SocketEnd | null {
  const [words = '', port = ''] = text.split(':')
  const bytes = Buffer.from(words, 'hex')
  if (bytes.length !== 4 && bytes.length !== 16) return null
  bytes.swap32()
  const isFour = bytes.length === 4 || bytes.subarray(0, MAPPED.length).equals(MAPPED)
  return {
    address: isFour ? ipv4FromNumber(bytes.readUInt32BE(bytes.length - 4)) : readAddress(bytes, 0, 6),
    port: Number.parseInt(port, 16),
  }
}

/** A table of /proc/net, `tcp6`; its first line names the columns. */
export function parseSockets(protocol: InetSocket['protocol'], table: string): readonly InetSocket[] {
  return table
    .split('\n')
    .slice(1)
    .flatMap((line): InetSocket[] => {
      const [, here = '', there = ''] = line.trim().split(/\s+/)
      const [local, remote] = [readEnd(here), readEnd(there)]
      if (local === null || remote === null) return []
      return [{ protocol, local, remote: remote.port === 0 ? null : remote }]
    })
}

export function inetSockets(): readonly InetSocket[] {
  return (['tcp', 'udp'] as const).flatMap((protocol) =>
    ['', '6'].flatMap((family) => {
      try {
        return parseSockets(protocol, readFileSync(`/proc/thread-self/net/${protocol}${family}`, 'latin1'))
      } catch {
        return []
      }
    }),
  )
}
