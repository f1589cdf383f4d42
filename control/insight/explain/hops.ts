/** Next hops for whoever explains: those that are known, and those that the kernel is asked for. */
import { type NextHop, NextHopResolver } from '../../../linux/netlink/next-hop.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { addressToBytes, familyOf, type IpAddress } from '../../../net/address.ts'
import type { HopAsked } from '../../front/api/route.ts'
import type { RuleDirector } from '../../rules/director.ts'
import type { Host } from '../../rules/host.ts'

/** Of real servers, from memory: nobody waits for the kernel. */
export function* knownHops(
  director: Pick<RuleDirector, 'counted'>,
  { hops }: Pick<Host, 'hops'>,
): Generator<readonly [address: string, hop: NextHop]> {
  const told = new Set<IpAddress>()
  for (const { entry } of director.counted()) {
    for (const { value } of entry.servers) {
      const { address } = value.id
      if (told.has(address)) continue
      told.add(address)
      const hop = hops?.to(address) ?? null
      if (hop !== null) yield [address, { result: 'ok', ...hop }]
    }
  }
}

/** Asks the kernel, and has it resolve nobody for it. */
export function askedHops(): (asked: HopAsked) => NextHop {
  return ({ to, from, ifindex, tos }) => {
    const socket = new RequestSocket()
    try {
      const looking = {
        get: socket.get.bind(socket),
        dump: socket.dump.bind(socket),
        change: () => {},
      }
      const resolver = new NextHopResolver(looking, () => 0)
      if (ifindex === null) return resolver.nextHop(to, null, tos)
      return resolver.resolve({ family: familyOf(to), ifindex, tos, saddr: wide(from), daddr: wide(to) })
    } finally {
      socket.close()
    }
  }
}

function wide(address: IpAddress | null): Uint8Array {
  const bytes = new Uint8Array(16)
  if (address !== null) bytes.set(addressToBytes(address))
  return bytes
}
