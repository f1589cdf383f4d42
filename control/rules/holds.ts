/** The holds by hand, by service and real server. */
import type { Hold } from '../model/hold.ts'
import { serverKey, serviceKey } from '../model/identity.ts'
import type { ServerId } from '../model/server.ts'
import type { ServiceId } from '../model/service.ts'

export interface HeldServer {
  readonly service: ServiceId
  readonly server: ServerId
  readonly hold: Hold
}

export class HoldBook {
  readonly #held = new Map<string, Map<string, HeldServer>>()

  of(service: string, server: string): Hold | null {
    return this.#held.get(service)?.get(server)?.hold ?? null
  }

  put(held: HeldServer): void {
    const key = serviceKey(held.service)
    const servers = this.#held.get(key) ?? new Map<string, HeldServer>()
    this.#held.set(key, servers.set(serverKey(held.server), held))
  }

  drop(service: string, server: string): void {
    const servers = this.#held.get(service)
    servers?.delete(server)
    if (servers?.size === 0) this.#held.delete(service)
  }

  dropService(service: string): void {
    this.#held.delete(service)
  }

  *all(): Generator<HeldServer> {
    for (const servers of this.#held.values()) yield* servers.values()
  }

  copy(): HoldBook {
    const copy = new HoldBook()
    for (const held of this.all()) copy.put(held)
    return copy
  }
}
