/** The bench's director as the control side sees its machine: links, addresses, sources of routes. */

import type { Host, HostChange, HostInterface } from '../../control/rules/host.ts'
import type { IpAddress } from '../../net/address.ts'
import { parseAddress } from '../../net/address.ts'
import { ADDRESSES, MAC } from './bench.ts'
import type { BenchRoutes } from './bench-routes.ts'
import { ipBytes, macBytes } from './bytes.ts'

export const DEVICES = ['c0', 'r0'] as const

/** The machine as the director's control side sees it. */
export class BenchHost implements Host {
  readonly #routes: BenchRoutes
  readonly #listeners = new Set<(change: HostChange) => void>()
  #interfaces: readonly HostInterface[] = []

  constructor(routes: BenchRoutes) {
    this.#routes = routes
    this.changed()
  }

  interfaces(): readonly HostInterface[] {
    return this.#interfaces
  }

  resolveSource(destination: string): IpAddress | null {
    const bytes = new Uint8Array(16)
    bytes.set(ipBytes(destination))
    const query = {
      family: destination.includes(':') ? 6 : 4,
      protocol: 0,
      tos: 0,
      ifindex: 0,
      saddr: new Uint8Array(16),
      daddr: bytes,
      smac: new Uint8Array(6),
      dmac: new Uint8Array(6),
      mtu: 0,
      gateway: 0,
    }
    const hop = this.#routes.lookup(query)
    if (hop.result !== 'ok') return null
    const device = this.#routes.device(hop.ifindex)
    const six = destination.includes(':')
    const own = ADDRESSES.find((entry) => entry.device === device && entry.address.includes(':') === six)
    return own === undefined ? null : parseAddress(own.address)
  }

  resolve(): void {}

  keepResolved(): void {}
  keepAlso(): void {}

  sysctl(path: string): number | null {
    // As SYSCTLS of bench.ts.
    if (path.endsWith('ratelimit')) return 0
    return path.endsWith('forward') || path.endsWith('forwarding') ? 1 : null
  }

  availablePages(): number | null {
    return null
  }

  onChange(listener: (change: HostChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  changed(): void {
    this.#interfaces = DEVICES.map((name) => ({
      name,
      ...this.#routes.links[name],
      mac: macBytes(MAC[name]),
      up: true,
      addresses: ADDRESSES.filter(({ device }) => device === name).flatMap(({ address, prefix }) => {
        const parsed = parseAddress(address)
        return parsed === null
          ? []
          : [
              {
                address: parsed,
                family: address.includes(':') ? (6 as const) : (4 as const),
                prefixLength: prefix,
              },
            ]
      }),
    }))
    this.#interfaces = [...this.#interfaces, LOOPBACK]
    for (const listener of this.#listeners)
      listener({ links: true, addresses: true, routes: true, neighbours: true })
  }
}

const LOOPBACK: HostInterface = {
  name: 'lo',
  ifindex: 1,
  mac: null,
  mtu: 65_536,
  up: true,
  addresses: [
    ['127.0.0.1', 8],
    ['::1', 128],
  ].flatMap(([text, prefixLength]) => {
    const address = parseAddress(String(text))
    return address === null
      ? []
      : [
          {
            address,
            family: String(text).includes(':') ? (6 as const) : (4 as const),
            prefixLength: Number(prefixLength),
          },
        ]
  }),
}
