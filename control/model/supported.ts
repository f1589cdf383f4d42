/**
 * What the packet program can do. What it cannot yet is kept, listed and saved all the same; packets of
 * such a service go to the stack (`pass_unsupported`) and `pointsman status` says why. The one list to
 * change when the program learns more.
 */

import { type Family, familyOf, type IpAddress } from '../../net/address.ts'
import { endpointText } from '../../net/endpoint.ts'
import { type RealServer, translates } from './server.ts'
import type { VirtualService } from './service.ts'

export const SUPPORTED_TUNNELS: ReadonlySet<string> = new Set(['ipip', 'gue', 'gre'])

/**
 * Why the packet program cannot serve this service as asked; empty if it can. `whyNoAnswers`: the address is one
 * of this host's, and what is sent from there is not translated back, for this reason; else null. `isOwn`: it is one of
 * this host's: full NAT is NAT there. `lacksSource`: full NAT has no address of the family.
 */
export function unsupported(
  service: VirtualService,
  servers: Iterable<RealServer>,
  whyNoAnswers: (address: IpAddress) => string | null,
  isOwn: (address: IpAddress) => boolean,
  lacksSource: (family: Family) => boolean,
): string[] {
  const tunnels = new Set<string>()
  const locals: string[] = []
  const sourceless = new Set<Family>()
  for (const server of servers) {
    if (translates(server.method)) {
      const why = isItself(service, server) ? null : whyNoAnswers(server.id.address)
      if (why !== null) locals.push(`NAT to ${endpointText(server.id)}, an address of this host: ${why}`)
    }
    if (server.method === 'full-nat' && !isOwn(server.id.address)) {
      const family = familyOf(server.id.address)
      if (lacksSource(family)) sourceless.add(family)
    }
    if (server.method === 'tunnel' && !SUPPORTED_TUNNELS.has(server.tunnel.type))
      tunnels.add(server.tunnel.type)
  }
  const lacking = Array.from(
    sourceless,
    (family) => `full NAT has no IPv${family} address: pointsman full-nat add ADDRESS`,
  )
  return [...[...tunnels].map((type) => `tunnel ${type}`), ...locals, ...lacking]
}

/** Nothing to translate: the packet goes to the stack as it came, and so does its answer. */
function isItself({ id }: VirtualService, { id: server }: RealServer): boolean {
  return id.kind === 'address' && id.address === server.address && id.port === server.port
}
