/**
 * Services on their way from the reading thread, as text: to take values over from another thread by
 * themselves (structured clone) takes three times as long as to read JSON and make them, and what many of
 * them share (checks, policies) is made once.
 */
import type { Family, IpAddress } from '../../../net/address.ts'
import type { Check } from '../../model/check.ts'
import type { ServerPolicy } from '../../model/health-policy.ts'
import type { ForwardingMethod, Tunnel } from '../../model/server.ts'
import type { SiteServer, SiteService } from '../../model/site.ts'

/** A service as it stood at a place of the last answer about this source and path, or a new one. */
export type SentService = { readonly same: number; readonly at: SiteService['at'] } | SiteService

/** Index of a shared value; values are told when they are needed first. */
type Shared = number

type PackedServer = readonly [
  address: IpAddress,
  family: Family,
  port: number,
  method: ForwardingMethod,
  tunnel: Shared,
  weight: number,
  upperThreshold: number,
  lowerThreshold: number,
  checks: Shared,
  policy: Shared,
  pool: Shared,
]

type PackedService = readonly [
  file: Shared,
  line: number,
  column: number,
  /** Place in the last answer, or the service itself. */
  what:
    | number
    | {
        readonly rest: Omit<SiteService, 'servers' | 'health' | 'at'>
        readonly health: Shared
        readonly servers: readonly PackedServer[]
      },
]

interface Packed {
  readonly values: readonly unknown[]
  readonly services: readonly PackedService[]
}

/** For all messages of one answer. */
export class Packer {
  readonly #byText = new Map<string, Shared>()
  readonly #byValue = new Map<unknown, Shared>()
  #fresh: unknown[] = []

  pack(services: readonly SentService[]): string {
    this.#fresh = []
    const packed = services.map((service): PackedService => this.#service(service))
    return JSON.stringify({ values: this.#fresh, services: packed } satisfies Packed)
  }

  #service(service: SentService): PackedService {
    const { file, line, column } = service.at
    const shared = this.#share(file)
    if ('same' in service) return [shared, line, column, service.same]
    const { servers, health, at: _, ...rest } = service
    const packed = servers.map((server) => this.#server(server))
    return [shared, line, column, { rest, health: this.#share(health), servers: packed }]
  }

  #server({ real, checks, policy, pool }: SiteServer): PackedServer {
    const { id, method, tunnel, weight, upperThreshold, lowerThreshold } = real
    const { address, family, port } = id
    const words = [address, family, port, method, this.#share(tunnel)] as const
    const numbers = [weight, upperThreshold, lowerThreshold] as const
    return [...words, ...numbers, this.#share(checks), this.#share(policy), this.#share(pool)]
  }

  /** Equal values become one, whoever made them. */
  #share(value: unknown): Shared {
    const known = this.#byValue.get(value)
    if (known !== undefined) return known
    const text = JSON.stringify(value)
    const index = this.#byText.get(text) ?? this.#byText.size
    if (index === this.#byText.size) {
      this.#byText.set(text, index)
      this.#fresh.push(value)
    }
    this.#byValue.set(value, index)
    return index
  }
}

/** The other end of a packer's messages, in their order. */
export class Unpacker {
  readonly #values: unknown[] = []

  unpack(text: string): SentService[] {
    const { values, services } = JSON.parse(text) as Packed
    this.#values.push(...values)
    return services.map((service): SentService => this.#service(service))
  }

  #service([file, line, column, what]: PackedService): SentService {
    const at = { file: this.#shared<string>(file), line, column }
    if (typeof what === 'number') return { same: what, at }
    const servers = what.servers.map((server) => this.#server(server))
    return { ...what.rest, servers, health: this.#shared<SiteService['health']>(what.health), at }
  }

  #server(packed: PackedServer): SiteServer {
    const [address, family, port, method, tunnel, weight, upperThreshold, lowerThreshold] = packed
    const [, , , , , , , , checks, policy, pool] = packed
    const id = { address, family, port }
    return {
      real: { id, method, tunnel: this.#shared<Tunnel>(tunnel), weight, upperThreshold, lowerThreshold },
      checks: this.#shared<readonly Check[]>(checks),
      policy: this.#shared<ServerPolicy>(policy),
      pool: this.#shared<string | null>(pool),
    }
  }

  #shared<T>(index: Shared): T {
    return this.#values[index] as T
  }
}
