/** Virtual services as attributes. */
import { AF_INET, AF_INET6 } from '../../../linux/abi.ts'
import type { NetlinkAttribute } from '../../../linux/netlink/message.ts'
import { type Family, unspecified } from '../../../net/address.ts'
import { PROTOCOL_NUMBERS, protocolOfNumber } from '../../../net/protocol.ts'
import { type Outcome, refuse, success } from '../../model/outcome.ts'
import type { ServiceId, ServiceListing, ServiceRequest, VirtualService } from '../../model/service.ts'
import { type Attributes, address, text, u16, u16BigEndian, u32, u32BigEndian } from './attributes.ts'
import { FLAG, SERVICE } from './family.ts'
import { stats } from './numbers.ts'

export const familyNumber = (family: Family): number => (family === 4 ? AF_INET : AF_INET6)

export function familyOfNumber(number: number): Family | null {
  if (number === AF_INET) return 4
  return number === AF_INET6 ? 6 : null
}

const incomplete = (what: string) => refuse('EINVAL', `Cannot read the request: ${what}`)

/** Which service a request is about. */
export function readServiceId(service: Attributes | null): Outcome<ServiceId> {
  const number = service?.u16(SERVICE.family) ?? null
  if (service === null || number === null) return incomplete('no service with an address family in it')
  const mark = service.u32(SERVICE.mark)
  const protocolNumber = service.u16(SERVICE.protocol)
  const port = service.u16BigEndian(SERVICE.port)
  if (mark === null && (protocolNumber === null || port === null || !service.has(SERVICE.address))) {
    return incomplete('a service needs a firewall mark, or protocol, address and port')
  }
  const family = familyOfNumber(number)
  if (family === null) {
    return refuse('EAFNOSUPPORT', `Cannot use address family ${number}: expected ${AF_INET} or ${AF_INET6}`)
  }
  // IPVS looks up mark 0 as the address service that is all zeros.
  if (mark === 0) {
    return success({ kind: 'address', protocol: 'tcp', address: unspecified(family), family, port: 0 })
  }
  if (mark !== null) return success({ kind: 'fwmark', mark, family })
  const protocol = protocolOfNumber(protocolNumber!)
  if (protocol === null) {
    return refuse(
      'EOPNOTSUPP',
      `Cannot balance IP protocol ${protocolNumber}: expected 6 (TCP), 17 (UDP) or 132 (SCTP)`,
    )
  }
  const where = service.address(SERVICE.address, family)!
  return success({ kind: 'address', protocol, address: where, family, port: port! })
}

/**
 * A whole service. `old`: what it is now, of which the flags outside the request's mask stay.
 */
export function readService(
  service: Attributes | null,
  id: ServiceId,
  old: VirtualService | null,
): Outcome<ServiceRequest> {
  const scheduler = service?.text(SERVICE.scheduler) ?? null
  const timeout = service?.u32(SERVICE.timeout) ?? null
  const mask = id.family === 4 ? service?.u32BigEndian(SERVICE.netmask) : service?.u32(SERVICE.netmask)
  const words = service?.flagWords(SERVICE.flags) ?? null
  if (scheduler === null || timeout === null || mask === null || mask === undefined || words === null) {
    return incomplete('a service needs scheduler, flags, timeout and netmask')
  }
  const before = old === null ? 0 : flagsOf(old)
  const flags = (before & ~words.mask) | (words.flags & words.mask)
  return success({
    id,
    scheduler,
    schedulerFlags: flags & FLAG.scheduler,
    onePacket: (flags & FLAG.onePacket) !== 0,
    // IPVS has no word for it: who edits by netlink leaves it as it is.
    untracked: old?.untracked ?? false,
    persistenceTimeoutS: (flags & FLAG.persistent) === 0 ? 0 : timeout,
    netmask: mask,
    persistenceEngine: service?.text(SERVICE.engine) || null,
  })
}

function flagsOf(service: VirtualService): number {
  return (
    FLAG.hashed |
    service.schedulerFlags |
    (service.onePacket ? FLAG.onePacket : 0) |
    (service.persistenceTimeoutS > 0 ? FLAG.persistent : 0)
  )
}

/** In the kernel's order: some clients read attributes by it. */
export function serviceAttributes(service: ServiceListing): readonly NetlinkAttribute[] {
  const { id } = service
  const key =
    id.kind === 'fwmark'
      ? [u32(SERVICE.mark, id.mark)]
      : [
          u16(SERVICE.protocol, PROTOCOL_NUMBERS[id.protocol]),
          address(SERVICE.address, id.address),
          u16BigEndian(SERVICE.port, id.port),
        ]
  const flags = new Uint8Array(8)
  const view = new DataView(flags.buffer)
  view.setUint32(0, flagsOf(service), true)
  view.setUint32(4, 0xffffffff, true)
  return [
    u16(SERVICE.family, familyNumber(id.family)),
    ...key,
    text(SERVICE.scheduler, service.scheduler),
    ...(service.persistenceEngine === null ? [] : [text(SERVICE.engine, service.persistenceEngine)]),
    { type: SERVICE.flags, value: flags },
    u32(SERVICE.timeout, service.persistenceTimeoutS),
    id.family === 4 ? u32BigEndian(SERVICE.netmask, service.netmask) : u32(SERVICE.netmask, service.netmask),
    ...stats({ narrow: SERVICE.stats, wide: SERVICE.stats64 }, service.counters, service.rates),
  ]
}
