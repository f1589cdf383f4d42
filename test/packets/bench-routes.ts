/**
 * The routing and neighbour tables of the bench as a slow, obvious model: what `bpf_fib_lookup` answers in
 * the director's namespace, for planes that run without one.
 */
import type { FibRecord } from '../../dataplane/layout/layout.gen.ts'
import type { NextHop } from '../../dataplane/wasm/program.ts'
import { ADDRESSES, MAC, NEIGHBOURS, ROUTES } from './bench.ts'
import { ipBytes, ipText, macBytes } from './bytes.ts'

type Device = 'c0' | 'r0'

interface Link {
  readonly ifindex: number
  mtu: number
}

interface Prefix {
  readonly bytes: Uint8Array
  readonly length: number
  readonly device: Device
  /** Null on the link itself. */
  readonly via: string | null
}

function contains(prefix: Prefix, address: Uint8Array): boolean {
  if (prefix.bytes.length !== address.length) return false
  for (let bit = 0; bit < prefix.length; bit++) {
    const mask = 0x80 >> (bit & 7)
    if (((prefix.bytes[bit >> 3] ?? 0) & mask) !== ((address[bit >> 3] ?? 0) & mask)) return false
  }
  return true
}

/** An address with all bits behind its prefix zero. */
function lowest(address: Uint8Array, prefix: number): Uint8Array {
  return address.map((byte, i) => byte & ~(0xff >> Math.min(8, Math.max(0, prefix - i * 8))))
}

export class BenchRoutes {
  readonly links: Record<Device, Link>
  readonly #prefixes: readonly Prefix[]
  readonly #local = new Set<string>(ADDRESSES.map(({ address }) => address))
  /** A router answers for the lowest address of every IPv6 subnet (RFC 4291 §2.6.1). */
  readonly #anycasts: ReadonlySet<string>
  /** Not the lowest addresses of the subnets: since Linux 5.14 they are hosts like others. */
  readonly #broadcasts = new Set(['192.0.2.255', '10.0.2.255', '255.255.255.255'])
  readonly #neighbours = new Map<string, Uint8Array>()

  constructor(indices: Readonly<Record<Device, number>> = { c0: 2, r0: 3 }) {
    this.links = { c0: { ifindex: indices.c0, mtu: 1500 }, r0: { ifindex: indices.r0, mtu: 1500 } }
    const connected = ADDRESSES.filter(({ address, prefix }) => prefix < (address.includes(':') ? 128 : 32))
    const subnets = connected.filter(({ address }) => address.includes(':'))
    this.#anycasts = new Set(subnets.map(({ address, prefix }) => ipText(lowest(ipBytes(address), prefix))))
    this.#prefixes = [
      ...connected.map(({ device, address, prefix }) => ({
        bytes: ipBytes(address),
        length: prefix,
        device,
        via: null,
      })),
      ...ROUTES.map(({ prefix, via, device }) => {
        const [base = '', length = ''] = prefix.split('/')
        return { bytes: ipBytes(base), length: Number(length), device, via }
      }),
    ].sort((a, b) => b.length - a.length)
    for (const { device, mac, addresses } of NEIGHBOURS) {
      for (const address of addresses) this.#neighbours.set(`${device} ${address}`, macBytes(mac))
    }
  }

  reset(): void {
    this.links.c0.mtu = 1500
    this.links.r0.mtu = 1500
  }

  device(ifindex: number): Device | null {
    return ifindex === this.links.c0.ifindex ? 'c0' : ifindex === this.links.r0.ifindex ? 'r0' : null
  }

  /** Bound, so that it can be handed over as the callback of the wasm plane. */
  readonly lookup = (query: FibRecord): NextHop => {
    const address = query.daddr.subarray(0, query.family === 4 ? 4 : 16)
    const text = ipText(address)
    if (this.#isHere(address, text)) return { result: 'local' }
    const route = this.#prefixes.find((prefix) => contains(prefix, address))
    if (route === undefined) return { result: 'no-route' }
    const neighbour = this.#neighbours.get(`${route.device} ${route.via ?? text}`)
    if (neighbour === undefined) return { result: 'no-neighbour' }
    const { ifindex, mtu } = this.links[route.device]
    return { result: 'ok', ifindex, mtu, dmac: neighbour, smac: macBytes(MAC[route.device]) }
  }

  #isHere(address: Uint8Array, text: string): boolean {
    if ([this.#local, this.#broadcasts, this.#anycasts].some((known) => known.has(text))) return true
    if (address.length === 4) return address[0] === 127 || ((address[0] ?? 0) & 0xf0) === 0xe0
    return (
      text === '::1' || address[0] === 0xff || (address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80)
    )
  }
}
