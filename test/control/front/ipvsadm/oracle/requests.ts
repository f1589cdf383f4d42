/**
 * Requests to the director in words, from both sides: decoded from what Debian's ipvsadm sends over
 * netlink, and noted by a director that only listens.
 */

import type { Director } from '../../../../../control/model/director.ts'
import type { Outcome } from '../../../../../control/model/outcome.ts'
import type { PortsTaken } from '../../../../../control/model/ports-taken.ts'
import type { RealServer, ServerId } from '../../../../../control/model/server.ts'
import type { ServiceId, ServiceRequest } from '../../../../../control/model/service.ts'
import { type IpAddress, readAddress } from '../../../../../net/address.ts'

const COMMANDS: Readonly<Record<number, string>> = {
  1: 'add-service',
  2: 'edit-service',
  3: 'delete-service',
  5: 'add-server',
  6: 'edit-server',
  7: 'delete-server',
  9: 'start-daemon',
  10: 'stop-daemon',
  12: 'set',
  16: 'zero',
  17: 'flush',
}
const PROTOCOLS: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' }
const METHODS: Readonly<Record<number, string>> = { 0: 'nat', 2: 'tunnel', 3: 'direct-routing' }
const STATES: Readonly<Record<number, string>> = { 1: 'master', 2: 'backup' }

class Attributes {
  readonly #byType = new Map<number, Buffer>()

  constructor(bytes: Buffer) {
    for (let at = 0; at + 4 <= bytes.length; ) {
      const length = bytes.readUInt16LE(at)
      this.#byType.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + length))
      at += (length + 3) & ~3
    }
  }

  has(type: number): boolean {
    return this.#byType.has(type)
  }
  bytes(type: number): Buffer {
    return this.#byType.get(type) ?? Buffer.alloc(0)
  }
  nest(type: number): Attributes {
    return new Attributes(this.bytes(type))
  }
  number(type: number): number {
    const bytes = this.bytes(type)
    return bytes.length === 0 ? 0 : bytes.readUIntLE(0, Math.min(4, bytes.length))
  }
  portBigEndian(type: number): number {
    const bytes = this.bytes(type)
    return bytes.length === 0 ? 0 : bytes.readUInt16BE(0)
  }
  text(type: number): string {
    return this.bytes(type).toString('latin1').replace(/\0.*$/s, '')
  }
  optional(type: number): number | '-' {
    return this.has(type) ? this.number(type) : '-'
  }
}

function serviceKey(service: Attributes): string {
  const family = service.number(1) === 10 ? 6 : 4
  if (service.has(5)) return `fwmark ${service.number(5)} family ${family}`
  const address = readAddress(service.bytes(3), 0, family)
  return `${PROTOCOLS[service.number(2)]} ${address} port ${service.portBigEndian(4)}`
}

function serviceAttributes(service: Attributes): string {
  const flags = service.number(7)
  const mask = service.number(1) === 10 ? service.number(9) : service.bytes(9).readUInt32BE(0)
  const persistent = flags & 1 ? service.number(8) : 0
  return `scheduler ${service.text(6)} flags ${flags & 0x38} ops ${(flags & 4) !== 0} persistent ${persistent} mask ${mask} engine ${service.text(11)}`
}

function serverKey(server: Attributes): string {
  return `${readAddress(server.bytes(1), 0, server.number(11) === 10 ? 6 : 4)} port ${server.portBigEndian(2)}`
}

const TUNNEL_TYPES = ['ipip', 'gue', 'gre']
const CHECKSUMS = ['none', 'csum', 'remcsum']

function serverAttributes(server: Attributes): string {
  const type = TUNNEL_TYPES[server.number(13)]
  const tunnel =
    type === 'ipip' ? type : `${type} ${server.portBigEndian(14)} ${CHECKSUMS[server.number(15)]}`
  return `${METHODS[server.number(3) & 7]} weight ${server.number(4)} thresholds ${server.number(5)} ${server.number(6)} tunnel ${tunnel}`
}

function daemonAttributes(daemon: Attributes): string {
  const group = daemon.has(6)
    ? readAddress(daemon.bytes(6), 0, 6)
    : daemon.has(5)
      ? readAddress(daemon.bytes(5), 0, 4)
      : '-'
  return `${STATES[daemon.number(1)]} interface ${daemon.text(2)} syncid ${daemon.number(3)} maxlen ${daemon.optional(4)} group ${group} port ${daemon.optional(7)} ttl ${daemon.optional(8)}`
}

/** @param hex generic netlink header and attributes */
export function decodeRequest(hex: string): string {
  const bytes = Buffer.from(hex, 'hex')
  const command = COMMANDS[bytes[0]!] ?? `command ${bytes[0]}`
  const message = new Attributes(bytes.subarray(4))
  const service = message.nest(1)
  const server = message.nest(2)
  switch (command) {
    case 'add-service':
    case 'edit-service':
      return `${command} ${serviceKey(service)} ${serviceAttributes(service)}`
    case 'delete-service':
      return `${command} ${serviceKey(service)}`
    case 'zero':
      return message.has(1) ? `${command} ${serviceKey(service)}` : command
    case 'add-server':
    case 'edit-server':
      return `${command} ${serviceKey(service)} server ${serverKey(server)} ${serverAttributes(server)}`
    case 'delete-server':
      return `${command} ${serviceKey(service)} server ${serverKey(server)}`
    case 'start-daemon':
      return `${command} ${daemonAttributes(message.nest(3))}`
    case 'stop-daemon':
      return `${command} ${STATES[message.nest(3).number(1)]}`
    case 'set':
      return `${command} ${message.number(4)} ${message.number(5)} ${message.number(6)}`
    default:
      return command
  }
}

function idText(id: ServiceId): string {
  if (id.kind === 'fwmark') return `fwmark ${id.mark} family ${id.family}`
  return `${id.protocol} ${id.address} port ${id.port}`
}

function requestText(request: ServiceRequest): string {
  return `scheduler ${request.scheduler} flags ${request.schedulerFlags} ops ${request.onePacket} persistent ${request.persistenceTimeoutS} mask ${request.netmask} engine ${request.persistenceEngine ?? ''}`
}

const serverIdText = (id: ServerId): string => `${id.address} port ${id.port}`

function serverText(server: RealServer): string {
  const { tunnel } = server
  const text =
    tunnel.type === 'ipip'
      ? 'ipip'
      : `${tunnel.type} ${tunnel.type === 'gue' ? tunnel.port : 0} ${tunnel.checksum}`
  return `${server.method} weight ${server.weight} thresholds ${server.upperThreshold} ${server.lowerThreshold} tunnel ${text}`
}

/** A director that notes what it is asked to change, agrees to everything, and has nothing to list. */
export class ListeningDirector implements Director {
  readonly requests: string[] = []

  #note(text: string): Outcome {
    this.requests.push(text)
    return { ok: true, value: undefined }
  }

  addService = (service: ServiceRequest): Outcome =>
    this.#note(`add-service ${idText(service.id)} ${requestText(service)}`)
  editService = (service: ServiceRequest): Outcome =>
    this.#note(`edit-service ${idText(service.id)} ${requestText(service)}`)
  deleteService = (id: ServiceId): Outcome => this.#note(`delete-service ${idText(id)}`)
  flush = (): Outcome<number> => {
    this.#note('flush')
    return { ok: true, value: 0 }
  }
  hold = (): Outcome => this.#note('hold')
  countConnections = async () => () => 0
  connectionPage = async () => ({ connections: [], matched: 0, next: null })
  zero = (id?: ServiceId): Outcome => this.#note(id === undefined ? 'zero' : `zero ${idText(id)}`)
  addServer = (id: ServiceId, server: RealServer): Outcome =>
    this.#note(`add-server ${idText(id)} server ${serverIdText(server.id)} ${serverText(server)}`)
  editServer = (id: ServiceId, server: RealServer): Outcome =>
    this.#note(`edit-server ${idText(id)} server ${serverIdText(server.id)} ${serverText(server)}`)
  deleteServer = (id: ServiceId, server: ServerId): Outcome =>
    this.#note(`delete-server ${idText(id)} server ${serverIdText(server)}`)
  setTimeouts = (timeouts: { tcp: number; tcpFin: number; udp: number }): Outcome =>
    this.#note(`set ${timeouts.tcp} ${timeouts.tcpFin} ${timeouts.udp}`)
  startDaemon: Director['startDaemon'] = (daemon) =>
    this.#note(
      `start-daemon ${daemon.state} interface ${daemon.interface} syncid ${daemon.syncId} maxlen ${daemon.maxLength ?? '-'} group ${daemon.group ?? '-'} port ${daemon.port ?? '-'} ttl ${daemon.ttl ?? '-'}`,
    )
  stopDaemon = (state: 'master' | 'backup'): Outcome => this.#note(`stop-daemon ${state}`)

  services = (): never[] => []
  service: Director['service'] = () => ({ ok: false, errno: 'ESRCH', message: 'No services here' })
  server: Director['server'] = () => ({ ok: false, errno: 'ESRCH', message: 'No services here' })
  rules = (): never[] => []
  unsupported(): readonly string[] {
    return []
  }

  connections = (): never[] => []
  connectionTableSize = (): number => 4096
  totals: Director['totals'] = () => ({
    counters: { conns: 0n, inPackets: 0n, outPackets: 0n, inBytes: 0n, outBytes: 0n },
    rates: { cps: 0, inPps: 0, outPps: 0, inBps: 0, outBps: 0 },
  })
  timeouts: Director['timeouts'] = () => ({ tcp: 900, tcpFin: 120, udp: 300 })
  daemons = (): never[] => []
  sysctls = (): Record<string, number> => ({})
  setSysctl = (): Outcome => ({ ok: true, value: undefined })
  marks = (): never[] => []
  changeMarks = (): Outcome => this.#note('marks')
  fullNat = (): never[] => []
  portsTaken = (): ReadonlyMap<IpAddress, PortsTaken> => new Map()
  changeFullNat = (): Outcome => this.#note('full-nat')
  filters = (): never[] => []
  changeFilters = (): Outcome => this.#note('filters')
  limits = (): never[] => []
  changeLimits = (): Outcome => this.#note('limits')
  settle = async (): Promise<void> => {}
  transact: Director['transact'] = (body) => body(this)
  states: Director['states'] = () => new Map()
}

/** For answers: netlink messages as libnl takes them, each after its length. */
export function message(command: number, attributes: Buffer): Buffer {
  const header = Buffer.alloc(20)
  header.writeUInt32LE(20 + attributes.length, 0)
  header.writeUInt16LE(0x1d, 4)
  header[16] = command
  header[17] = 1
  const length = Buffer.alloc(4)
  length.writeUInt32LE(20 + attributes.length, 0)
  return Buffer.concat([length, header, attributes])
}

export function attribute(type: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content)
  const header = Buffer.alloc(4)
  header.writeUInt16LE(4 + body.length, 0)
  header.writeUInt16LE(type, 2)
  return Buffer.concat([header, body, Buffer.alloc(-body.length & 3)])
}

export const u16 = (value: number): Buffer => Buffer.from([value & 0xff, value >> 8])
export const u16be = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff])
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes
}
export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes
}
