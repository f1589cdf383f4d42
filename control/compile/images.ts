/**
 * Rules as records of the maps, and back. An image is the record as 32-bit words: easy to compare with
 * live memory and to store word by word.
 */
import {
  Engine,
  Method,
  PM_NONE,
  RealFlag,
  RealRecord,
  Scheduler,
  ServiceFlag,
  ServiceRecord,
  Slot,
  schedulerNames,
  Tunnel,
  TunnelFlag,
} from '../../dataplane/layout/layout.gen.ts'
import type { Family, IpAddress } from '../../net/address.ts'
import { readAddress, writeAddress } from '../../net/address.ts'
import { PROTOCOL_NUMBERS, protocolOfNumber } from '../../net/protocol.ts'
import type { SchedulerName } from '../model/scheduler.ts'
import { SCHEDULERS } from '../model/scheduler.ts'
import type { ForwardingMethod, RealServer, Tunnel as TunnelSettings } from '../model/server.ts'
import type { ServiceId, VirtualService } from '../model/service.ts'

export const SERVICE_WORDS = ServiceRecord.size / 4
export const REAL_WORDS = RealRecord.size / 4

const METHODS: Readonly<Record<ForwardingMethod, number>> = {
  nat: Method.Nat,
  'full-nat': Method.FullNat,
  'direct-routing': Method.Dr,
  tunnel: Method.Tun,
}
const METHOD_NAMES: ReadonlyMap<number, ForwardingMethod> = new Map([
  [Method.Nat, 'nat'],
  [Method.FullNat, 'full-nat'],
  [Method.Dr, 'direct-routing'],
  [Method.Tun, 'tunnel'],
])
const SCHEDULER_FLAGS = ServiceFlag.Sched1 | ServiceFlag.Sched2 | ServiceFlag.Sched3

const NUMBER_OF_SCHEDULER: ReadonlyMap<string, number> = new Map(
  Object.entries(schedulerNames).map(([number, name]) => [name, Number(number)]),
)

export function schedulerNumber(name: SchedulerName): number {
  return NUMBER_OF_SCHEDULER.get(name) ?? Scheduler.None
}

function schedulerName(number: number): SchedulerName | null {
  const name = schedulerNames[number]
  return SCHEDULERS.find((known) => known === name) ?? null
}

const scratch = new Uint8Array(16)
const source = new Uint8Array(16)

/**
 * Where images are written, to be copied: of an array whose bytes nobody has looked at from the side V8 keeps
 * the contents with the object, and a hundred thousand buffers besides are what collecting garbage costs.
 */
const desk = new Uint32Array(Math.max(SERVICE_WORDS, REAL_WORDS))
const deskView = new DataView(desk.buffer)

/**
 * The record of a service.
 * @param schedule the word of scheduler and active schedule
 */
export function serviceImage(service: VirtualService, order: number, schedule: number): Uint32Array {
  const { id } = service
  scratch.fill(0)
  if (id.kind === 'address') writeAddress(id.address, scratch, 0)
  ServiceRecord.write(deskView, 0, {
    slot: Slot.Live,
    family: id.family,
    protocol: id.kind === 'address' ? PROTOCOL_NUMBERS[id.protocol] : 0,
    port: id.kind === 'address' ? id.port : 0,
    addr: scratch,
    fwmark: id.kind === 'fwmark' ? id.mark : 0,
    flags:
      (service.persistenceTimeoutS > 0 ? ServiceFlag.Persistent : 0) |
      (service.onePacket ? ServiceFlag.OnePacket : 0) |
      (service.untracked ? ServiceFlag.Untracked : 0) |
      (service.schedulerFlags & SCHEDULER_FLAGS),
    schedule,
    timeoutS: service.persistenceTimeoutS,
    netmask: service.netmask >>> 0,
    pe: service.persistenceEngine === 'sip' ? Engine.Sip : Engine.None,
    order,
  })
  return desk.slice(0, SERVICE_WORDS)
}

/** The rule a service record was made from; null when it is none of ours. */
export function serviceOfImage(
  view: DataView,
  base: number,
): { service: VirtualService; order: number } | null {
  const record = ServiceRecord.read(view, base)
  const family = familyOfNumber(record.family)
  const scheduler = schedulerName(record.schedule & 0xff)
  if (family === null || scheduler === null) return null
  const protocol = protocolOfNumber(record.protocol)
  let id: ServiceId
  if (protocol !== null) {
    const address = readAddress(record.addr, 0, family)
    id = { kind: 'address', protocol, address, family, port: record.port }
  } else if (record.fwmark !== 0) {
    id = { kind: 'fwmark', mark: record.fwmark, family }
  } else {
    return null
  }
  const service: VirtualService = {
    id,
    scheduler,
    schedulerFlags: record.flags & SCHEDULER_FLAGS,
    onePacket: (record.flags & ServiceFlag.OnePacket) !== 0,
    untracked: (record.flags & ServiceFlag.Untracked) !== 0,
    persistenceTimeoutS: (record.flags & ServiceFlag.Persistent) !== 0 ? record.timeoutS : 0,
    netmask: record.netmask,
    persistenceEngine: record.pe === Engine.Sip ? 'sip' : null,
  }
  return { service, order: record.order }
}

function familyOfNumber(number: number): Family | null {
  return number === 4 || number === 6 ? number : null
}

const CHECKSUM_FLAGS = {
  none: TunnelFlag.Nocsum,
  csum: TunnelFlag.Csum,
  remcsum: TunnelFlag.Remcsum,
} as const

function tunnelNumbers(tunnel: TunnelSettings): { type: number; port: number; flags: number } {
  switch (tunnel.type) {
    case 'ipip':
      return { type: Tunnel.Ipip, port: 0, flags: 0 }
    case 'gue':
      return { type: Tunnel.Gue, port: tunnel.port, flags: CHECKSUM_FLAGS[tunnel.checksum] }
    case 'gre':
      return { type: Tunnel.Gre, port: 0, flags: CHECKSUM_FLAGS[tunnel.checksum] }
    default:
      return tunnel satisfies never
  }
}

/** What the network adds to a real server. */
export interface Placement {
  /**
   * Our address towards the real server: outer source of tunnels; with NAT, of the errors that nat_icmp_send
   * asks for. Null while there is no route, and where nobody asks.
   */
  readonly source: IpAddress | null
  /** The address is this host's own. */
  readonly local: boolean
}

const FTP_PORT = 21

/** Whether connections may go to ports of its real servers that no rule names: all ports of an address, FTP's data. */
export function takesAnyPort(id: ServiceId): boolean {
  return id.kind === 'fwmark' || id.port === 0 || id.port === FTP_PORT
}

/** Where a real server stands: its service's record, and whether that is for any port. */
export interface Standing {
  readonly slot: number
  readonly anyPort: boolean
}

/** The record of a real server. */
export function realImage(server: RealServer, standing: Standing, placement: Placement): Uint32Array {
  const tunnel = tunnelNumbers(server.tunnel)
  writeAddress(server.id.address, scratch, 0)
  if (placement.source === null) source.fill(0)
  else writeAddress(placement.source, source, 0)
  RealRecord.write(deskView, 0, {
    slot: Slot.Live,
    service: standing.slot,
    addr: scratch,
    port: server.id.port,
    family: server.id.family,
    method: METHODS[server.method],
    tunnel: tunnel.type,
    tunnelFlags: tunnel.flags,
    tunnelPort: tunnel.port,
    weight: server.weight,
    upper: server.upperThreshold,
    lower: server.lowerThreshold,
    source,
    flags: (placement.local ? RealFlag.Local : 0) | (standing.anyPort ? RealFlag.AnyPort : 0),
  })
  return desk.slice(0, REAL_WORDS)
}

/** What connections have that go on to where they are for. */
export function bypassImage(): Uint32Array {
  scratch.fill(0)
  source.fill(0)
  RealRecord.write(deskView, 0, {
    ...{ slot: Slot.Live, service: PM_NONE, addr: scratch, port: 0, family: 4, method: Method.Dr },
    ...{ tunnel: 0, tunnelFlags: 0, tunnelPort: 0, weight: 1, upper: 0, lower: 0, source },
    flags: RealFlag.Bypass,
  })
  return desk.slice(0, REAL_WORDS)
}

function tunnelOfNumbers(type: number, port: number, flags: number): TunnelSettings {
  if (type === Tunnel.Gue) {
    const checksum = flags === TunnelFlag.Remcsum ? 'remcsum' : flags === TunnelFlag.Csum ? 'csum' : 'none'
    return { type: 'gue', port, checksum }
  }
  if (type === Tunnel.Gre) return { type: 'gre', checksum: flags === TunnelFlag.Csum ? 'csum' : 'none' }
  return { type: 'ipip' }
}

const IPIP: TunnelSettings = { type: 'ipip' }

/** The rule a real server's record was made from; null when it is none of ours. */
export function serverOfImage(view: DataView, base: number): RealServer | null {
  const family = familyOfNumber(RealRecord.getFamily(view, base))
  const method = METHOD_NAMES.get(RealRecord.getMethod(view, base))
  if (family === null || method === undefined) return null
  const tunnel = RealRecord.getTunnel(view, base)
  return {
    id: serverIdOfImage(view, base),
    method,
    tunnel:
      tunnel === Tunnel.Ipip
        ? IPIP
        : tunnelOfNumbers(
            tunnel,
            RealRecord.getTunnelPort(view, base),
            RealRecord.getTunnelFlags(view, base),
          ),
    weight: RealRecord.getWeight(view, base),
    upperThreshold: RealRecord.getUpper(view, base),
    lowerThreshold: RealRecord.getLower(view, base),
  }
}

/** The identity of a real server's record, for real servers that are gone. */
export function serverIdOfImage(view: DataView, base: number): RealServer['id'] {
  const family: Family = RealRecord.getFamily(view, base) === 6 ? 6 : 4
  const bytes = new Uint8Array(view.buffer, view.byteOffset + base + RealRecord.offsets.addr, 16)
  return { address: readAddress(bytes, 0, family), family, port: RealRecord.getPort(view, base) }
}
