/** What makes two services or two real servers the same one, and how messages name them. */
import { addressWords } from '../../net/address.ts'
import { endpointText } from '../../net/endpoint.ts'
import { PROTOCOL_NUMBERS } from '../../net/protocol.ts'
import type { ServerId } from './server.ts'
import type { ServiceId } from './service.ts'

/** Equal for equal services, e.g. `tcp 192.0.2.10 80` or `fwmark4 7`. */
export function serviceKey(id: ServiceId): string {
  return id.kind === 'fwmark' ? `fwmark${id.family} ${id.mark}` : `${id.protocol} ${id.address} ${id.port}`
}

/** Equal for equal real servers of one service. */
export function serverKey(id: ServerId): string {
  return `${id.address} ${id.port}`
}

/** For people: `tcp 192.0.2.10:80`, `tcp [2001:db8::1]:80`, `fwmark 7`, `fwmark 7 (IPv6)`. */
export function serviceText(id: ServiceId): string {
  if (id.kind === 'fwmark') return id.family === 6 ? `fwmark ${id.mark} (IPv6)` : `fwmark ${id.mark}`
  return `${id.protocol} ${endpointText(id)}`
}

function rank(id: ServiceId): number[] {
  if (id.kind === 'fwmark') return [1, id.mark, id.family, 0, 0, 0, 0, 0, 0]
  return [0, 0, id.family, PROTOCOL_NUMBERS[id.protocol], ...addressWords(id.address), id.port]
}

/** Order for people: addresses before marks, then family, protocol, address, port. */
export function compareServices(a: ServiceId, b: ServiceId): number {
  const [x, y] = [rank(a), rank(b)]
  for (let i = 0; i < x.length; i++) {
    const difference = x[i]! - y[i]!
    if (difference !== 0) return difference
  }
  return 0
}
