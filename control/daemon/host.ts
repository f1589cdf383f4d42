/** This machine as the `Host` of a director: netlink, /proc/sys, /proc/meminfo. */
import { readFileSync } from 'node:fs'
import { localPorts } from '../../linux/local-ports.ts'
import { Network } from '../../linux/netlink/network.ts'
import type { IpAddress } from '../../net/address.ts'
import type { LinkSource } from '../apply/attachments.ts'
import type { Host } from '../rules/host.ts'

const PAGE_KIB = 4

export interface LiveHost extends Host, LinkSource {
  /** What the kernel has too little room for, in sentences with what mends it. */
  warnings(): readonly string[]
  close(): void
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

/** Follows the network namespace of this process. */
export function openHost(): LiveHost {
  const network = new Network()
  return {
    interfaces: () => network.interfaces(),
    links: () => network.links(),
    onLinkChange: (listener) =>
      network.onChange((change) => {
        if (change.links) listener()
      }),
    resolveSource: (destination) => {
      try {
        return network.resolveSource(destination)
      } catch {
        // No route is an answer; a question the kernel refuses is no worse.
        return null
      }
    },
    keepResolved: (addresses: Iterable<IpAddress>) => network.keepResolved(addresses),
    keepAlso: (added, dropped) => network.keepAlso(added, dropped),
    resolve: (address) => void network.resolve(address),
    hops: {
      generation: () => network.hopGeneration,
      takeLearnt: () => network.takeHopsLearnt(),
      to: (destination) => network.hopTo(destination),
    },
    sysctl: (path) => {
      const text = read(`/proc/sys/${path}`)
      return text !== null && /^-?\d+\s*$/.test(text) ? Number(text) : null
    },
    localPorts,
    availablePages: () => {
      const text = read('/proc/meminfo')
      if (text === null) return null
      const kib = (name: string): number =>
        Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0)
      return Math.floor((kib('MemFree') + kib('Buffers')) / PAGE_KIB)
    },
    warnings: () => neighbourWarnings(network.neighboursKept),
    onChange: (listener) => network.onChange(listener),
    close: () => network.close(),
  }
}

/** Entries of ours are not collected, but those of clients and gateways beside them are counted and are. */
function neighbourWarnings(kept: number): string[] {
  return (['ipv4', 'ipv6'] as const).flatMap((family) => {
    const limit = Number(read(`/proc/sys/net/${family}/neigh/default/gc_thresh3`) ?? Number.NaN)
    if (!(kept > limit / 2)) return []
    const path = `net.${family}.neigh.default.gc_thresh3`
    return [
      `${kept} next hops of real servers are kept resolved, and the kernel's table has room for ${limit} neighbours: sysctl -w ${path}=${4 * kept}`,
    ]
  })
}
