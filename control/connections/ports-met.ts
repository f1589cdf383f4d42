/** Ports of full NAT that are taken, as a sweep meets the lines that take them: those for answers. */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import { RealRecord, ServiceRecord } from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { endpointText } from '../../net/endpoint.ts'
import { serverIdOfImage } from '../compile/images.ts'
import type { PortsTaken } from '../model/ports-taken.ts'
import type { ConnectionTable } from './table.ts'

export class PortsMet {
  readonly #reals: MapMemory
  readonly #services: MapMemory
  /** Lines by address, and by index in `reals`. */
  #lines = new Map<IpAddress, Map<number, number>>()
  readonly #source = new Uint32Array(4)
  readonly #destination = new Uint32Array(4)
  /** The one that was met last, of IPv4: mostly it is met again. */
  #last: { readonly word: number; readonly byReal: Map<number, number> } | null = null

  constructor(reals: MapMemory, services: MapMemory) {
    this.#reals = reals
    this.#services = services
  }

  meet(table: ConnectionTable, line: number): void {
    const byReal = this.#of(table, line)
    const real = table.real(line)
    byReal.set(real, (byReal.get(real) ?? 0) + 1)
  }

  #of(table: ConnectionTable, line: number): Map<number, number> {
    if (table.family === 6) return this.#named(table.addresses(line).destination)
    table.addressWords(line, this.#source, this.#destination)
    const word = this.#destination[0]!
    if (this.#last?.word !== word)
      this.#last = { word, byReal: this.#named(table.addresses(line).destination) }
    return this.#last.byReal
  }

  #named(address: IpAddress): Map<number, number> {
    const known = this.#lines.get(address) ?? new Map<number, number>()
    this.#lines.set(address, known)
    return known
  }

  /** What has been met since the last report. */
  report(): ReadonlyMap<IpAddress, PortsTaken> {
    const taken = new Map<IpAddress, PortsTaken>()
    for (const [address, byReal] of this.#lines) {
      // Two services may have one real server, or one service another record of it: its ports are the same.
      const byServer = new Map<string, number>()
      let connections = 0
      let most = 0
      for (const [real, lines] of byReal) {
        const name = this.#serverOf(real)
        const ports = (byServer.get(name) ?? 0) + lines
        byServer.set(name, ports)
        connections += lines
        most = Math.max(most, ports)
      }
      taken.set(address, { connections, most })
    }
    this.#lines = new Map()
    this.#last = null
    return taken
  }

  #serverOf(real: number): string {
    if (real >= this.#reals.entries) return String(real)
    const base = real * RealRecord.size
    const service = RealRecord.getService(this.#reals.view, base)
    const protocol =
      service < this.#services.entries
        ? ServiceRecord.getProtocol(this.#services.view, service * ServiceRecord.size)
        : 0
    return `${protocol} ${endpointText(serverIdOfImage(this.#reals.view, base))}`
  }
}
