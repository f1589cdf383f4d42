/** Just enough tracking: what it cannot be had with, and why. */
import { endpointText } from '../../net/endpoint.ts'
import { type RealServer, translates } from './server.ts'
import type { VirtualService } from './service.ts'

/** Why connections of such a service have to be in the table, all of them; null if they need not. */
export function needsTracking(service: VirtualService): string | null {
  const { id, scheduler, persistenceTimeoutS, onePacket, persistenceEngine } = service
  if (scheduler !== 'sh' && scheduler !== 'dh' && scheduler !== 'mh') {
    return `scheduler ${scheduler} chooses by more than the packet; use sh, dh or mh, or leave out --untracked`
  }
  if (id.kind === 'fwmark') return 'which packets have its mark may change; name an address and port'
  if (id.protocol === 'sctp') return 'expected tcp or udp'
  if (persistenceTimeoutS > 0 || persistenceEngine !== null) {
    return 'persistence remembers clients; leave out -p (sh and mh lead a client to the same real server without)'
  }
  if (onePacket) return 'one-packet scheduling chooses anew for each datagram; leave out -o'
  return null
}

/** The same of a service with these real servers. */
export function needsTrackingFor(servers: readonly RealServer[]): string | null {
  for (const { id, method, upperThreshold } of servers) {
    if (translates(method)) {
      return `answers of real server "${endpointText(id)}" are translated back; use -g or -i`
    }
    if (upperThreshold > 0) {
      return `connections of real server "${endpointText(id)}" are not counted; leave out -x and -y`
    }
  }
  return null
}
