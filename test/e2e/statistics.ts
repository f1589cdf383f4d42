/** Reads what `ipvsadm -Ln --stats --exact` prints. */
import assert from 'node:assert/strict'
import type { Lab } from '../../lab/lab.ts'

export interface Statistics {
  readonly conns: number
  readonly inPackets: number
  readonly outPackets: number
  readonly inBytes: number
  readonly outBytes: number
}

export interface ServiceStatistics extends Statistics {
  /** `TCP 192.0.2.100:80` */
  readonly service: string
  /** By `address:port`. */
  readonly servers: Readonly<Record<string, Statistics>>
}

const ROW = /^(TCP|UDP|FWM) +(\S+)|^ {2}-> (\S+)/

export async function readStatistics(lab: Lab): Promise<ServiceStatistics[]> {
  const { status, stdout, stderr } = await lab.director.ipvsadm(['-Ln', '--stats', '--exact'])
  assert.equal(status, 0, stderr)
  return parseStatistics(stdout)
}

export function parseStatistics(text: string): ServiceStatistics[] {
  const services: (Statistics & { service: string; servers: Record<string, Statistics> })[] = []
  for (const line of text.split('\n')) {
    const words = ROW.exec(line)
    const numbers = line.trim().split(/ +/).slice(-5).map(Number)
    if (words === null || numbers.length !== 5 || numbers.some(Number.isNaN)) continue // a title
    const [conns = 0, inPackets = 0, outPackets = 0, inBytes = 0, outBytes = 0] = numbers
    const statistics = { conns, inPackets, outPackets, inBytes, outBytes }
    const [, protocol, address, server] = words
    if (server === undefined) services.push({ ...statistics, service: `${protocol} ${address}`, servers: {} })
    else services.at(-1)!.servers[server] = statistics
  }
  return services
}
