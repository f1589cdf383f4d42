/** Whether two rules say the same. */
import type { RealServer, Tunnel } from './server.ts'
import type { VirtualService } from './service.ts'

export function sameTunnel(a: Tunnel, b: Tunnel): boolean {
  if (a.type === 'ipip' || b.type === 'ipip') return a.type === b.type
  if (a.type === 'gue' && b.type === 'gue') return a.port === b.port && a.checksum === b.checksum
  return a.type === b.type && a.checksum === b.checksum
}

/** Apart from identity and weight. */
export function sameButForWeight(a: RealServer, b: RealServer): boolean {
  return (
    a.method === b.method &&
    a.upperThreshold === b.upperThreshold &&
    a.lowerThreshold === b.lowerThreshold &&
    sameTunnel(a.tunnel, b.tunnel)
  )
}

/** Apart from identity. */
export function sameServer(a: RealServer, b: RealServer): boolean {
  return a.weight === b.weight && sameButForWeight(a, b)
}

/** Apart from identity. */
export function sameService(a: VirtualService, b: VirtualService): boolean {
  return (
    a.scheduler === b.scheduler &&
    a.schedulerFlags === b.schedulerFlags &&
    a.onePacket === b.onePacket &&
    a.untracked === b.untracked &&
    a.persistenceTimeoutS === b.persistenceTimeoutS &&
    a.netmask === b.netmask &&
    a.persistenceEngine === b.persistenceEngine
  )
}
