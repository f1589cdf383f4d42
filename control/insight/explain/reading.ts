/** Rules as the packet program reads them: out of the maps, and nowhere else. */
import type { Dataplane } from '../../../dataplane/dataplane.ts'
import {
  LiveRecord,
  MemberRecord,
  Method,
  methodNames,
  PM_SCHEDULE_ACTIVE,
  RealRecord,
  ScheduleRecord,
  ServiceFlag,
  ServiceRecord,
  Slot,
  schedulerNames,
  tunnelNames,
} from '../../../dataplane/layout/layout.gen.ts'
import { type IpAddress, readAddress } from '../../../net/address.ts'
import { endpointText } from '../../../net/endpoint.ts'
import type { PacketKey } from '../../../net/packet/key.ts'
import { protocolOfNumber } from '../../../net/protocol.ts'
import { findService } from '../../compile/service-index.ts'

type Maps = Pick<Dataplane, 'map'>

export interface ServiceRead {
  readonly slot: number
  readonly family: 4 | 6
  readonly protocol: number
  readonly address: IpAddress
  readonly port: number
  readonly fwmark: number
  readonly flags: number
  readonly scheduler: string
  /** As it is typed: `tcp/192.0.2.10:80`. */
  readonly name: string
  readonly schedule: number
}

const WORDS = ServiceRecord.size / 4
const { offsets } = ServiceRecord

/** Slots of live services; of those with a mark, or of those without. */
export function* slotsOf(maps: Maps, withMark: boolean): Generator<number> {
  const { u32, entries } = maps.map('services')
  for (let slot = 0; slot < entries; slot++) {
    const at = slot * WORDS
    if (u32[at] !== Slot.Live) continue
    if ((u32[at + offsets.fwmark / 4] !== 0) === withMark) yield slot
  }
}

/** The service that packets to this port meet by their address; as the program, by the index. */
export function serviceOf(maps: Maps, key: PacketKey, port: number): ServiceRead | null {
  const image = new Uint32Array(WORDS)
  const bytes = new Uint8Array(image.buffer)
  const view = new DataView(image.buffer)
  ServiceRecord.setFamily(view, 0, key.family)
  ServiceRecord.setProtocol(view, 0, key.protocol)
  ServiceRecord.setPort(view, 0, port)
  bytes.set(key.destination, offsets.addr)
  const slot = findService(maps.map('service_index'), maps.map('services'), image)
  return slot < 0 ? null : serviceAt(maps, slot)
}

/** Whether the service in a slot has the address. */
export function hasAddress(maps: Maps, slot: number, { family, destination }: PacketKey): boolean {
  const { bytes, view } = maps.map('services')
  const at = slot * ServiceRecord.size
  if (ServiceRecord.getFamily(view, at) !== family) return false
  return destination.every((byte, i) => bytes[at + offsets.addr + i] === byte)
}

function readService(view: DataView, bytes: Uint8Array, slot: number): ServiceRead {
  const at = slot * ServiceRecord.size
  const family = ServiceRecord.getFamily(view, at) === 6 ? 6 : 4
  const protocol = ServiceRecord.getProtocol(view, at)
  const address = readAddress(bytes, at + ServiceRecord.offsets.addr, family)
  const port = ServiceRecord.getPort(view, at)
  const fwmark = ServiceRecord.getFwmark(view, at)
  const word = ServiceRecord.getSchedule(view, at)
  const name =
    fwmark !== 0
      ? `${family === 6 ? 'fwmark6' : 'fwmark'}/${fwmark}`
      : `${protocolOfNumber(protocol) ?? protocol}/${endpointText({ address, port })}`
  return {
    ...{ slot, family, protocol, address, port, fwmark, name },
    flags: ServiceRecord.getFlags(view, at),
    scheduler: schedulerNames[word & 0xff] ?? String(word & 0xff),
    schedule: slot * 2 + ((word & PM_SCHEDULE_ACTIVE) !== 0 ? 1 : 0),
  }
}

/** The service in a slot; null if there is none. */
export function serviceAt(maps: Maps, slot: number): ServiceRead | null {
  const { view, bytes, entries } = maps.map('services')
  if (slot >= entries || ServiceRecord.getSlot(view, slot * ServiceRecord.size) !== Slot.Live) return null
  return readService(view, bytes, slot)
}

export interface RealRead {
  readonly real: number
  readonly service: number
  readonly address: IpAddress
  readonly family: 4 | 6
  readonly port: number
  readonly method: number
  /** `nat`, `dr`, `tun ipip`, ... */
  readonly methodText: string
  readonly isGone: boolean
}

export function realAt(maps: Maps, real: number): RealRead | null {
  const { view, bytes, entries } = maps.map('reals')
  const at = real * RealRecord.size
  if (real >= entries || RealRecord.getSlot(view, at) === Slot.Free) return null
  const family = RealRecord.getFamily(view, at) === 6 ? 6 : 4
  const method = RealRecord.getMethod(view, at)
  const tunnel = tunnelNames[RealRecord.getTunnel(view, at)] ?? ''
  return {
    real,
    service: RealRecord.getService(view, at),
    address: readAddress(bytes, at + RealRecord.offsets.addr, family),
    family,
    port: RealRecord.getPort(view, at),
    method,
    methodText: method === Method.Tun ? `tun ${tunnel}` : (methodNames[method] ?? String(method)),
    isGone: RealRecord.getSlot(view, at) === Slot.Gone,
  }
}

export function realText({ address, port }: RealRead, servicePort: number): string {
  return endpointText({ address, port: port === 0 ? servicePort : port })
}

export interface MemberRead {
  readonly real: number
  readonly weight: number
  readonly active: number
  readonly inactive: number
  readonly overloaded: boolean
}

/** In the order in which schedulers walk them. */
export function membersOf(maps: Maps, service: ServiceRead): readonly MemberRead[] {
  const schedules = maps.map('schedules')
  const members = maps.map('members')
  const live = maps.map('live')
  const at = service.schedule * ScheduleRecord.size
  const first = ScheduleRecord.getFirst(schedules.view, at)
  const count = Math.min(ScheduleRecord.getCount(schedules.view, at), Math.max(0, members.entries - first))
  return Array.from({ length: count }, (_, i) => {
    const member = (first + i) * MemberRecord.size
    const real = MemberRecord.getReal(members.view, member)
    const counts = real < live.entries ? real * LiveRecord.size : 0
    return {
      real,
      weight: MemberRecord.getWeight(members.view, member),
      active: Math.max(0, LiveRecord.getActive(live.view, counts) | 0),
      inactive: Math.max(0, LiveRecord.getInactive(live.view, counts) | 0),
      overloaded: LiveRecord.getOverloaded(live.view, counts) !== 0,
    }
  })
}

export const isPersistent = ({ flags }: ServiceRead): boolean => (flags & ServiceFlag.Persistent) !== 0
export const isOnePacket = ({ flags }: ServiceRead): boolean => (flags & ServiceFlag.OnePacket) !== 0
