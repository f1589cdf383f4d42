/**
 * The way of a health check through the packet program: a record of the real server that no service has, and
 * the two lines of the connection (control/connections/prepared.ts), for as long as the question takes.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { Method, PM_NONE } from '../../dataplane/layout/layout.gen.ts'
import type { Family, IpAddress } from '../../net/address.ts'
import { PROTOCOL_NUMBERS } from '../../net/protocol.ts'
import type { Placement } from '../compile/images.ts'
import { realImage } from '../compile/images.ts'
import { markReal } from '../compile/interest.ts'
import { type FixedHop, type Prepared, PreparedConnections } from '../connections/prepared.ts'
import type { ConnectionTable } from '../connections/table.ts'
import { type ForwardingMethod, type RealServer, translates } from '../model/server.ts'
import type { Ledger } from '../plan/ledger.ts'
import { execute, type RuleMaps } from '../plan/operations.ts'
import type { HopSource } from '../rules/host.ts'
import { writeHop } from './hop-record.ts'

const METHODS: Readonly<Record<ForwardingMethod, number>> = {
  nat: Method.Nat,
  // What comes back is for the director as it is: it has asked, and from an address of its own.
  'full-nat': Method.Nat,
  'direct-routing': Method.Dr,
  tunnel: Method.Tun,
}

/** Records of no service. */
const NOWHERE = { slot: PM_NONE, anyPort: false }

export interface ProbeWish {
  readonly real: RealServer
  readonly protocol: 'tcp' | 'udp'
  readonly virtual: { readonly address: IpAddress; readonly family: Family; readonly port: number }
  readonly source: { readonly address: IpAddress; readonly port: number }
  /** To where the question came from. */
  readonly hop: FixedHop
  readonly lifeMs: number
}

export interface ProbeWay {
  /** False: an answer says nothing, because the way was taken away meanwhile. */
  isOpen(): boolean
  close(): void
}

const UNPLACED: Placement = { source: null, local: false }
/** Ticks of `expires` (PM_TICK_SHIFT) are 8.39 ms. */
const TICK_MS = 2 ** 23 / 1e6

export class ProbeWays {
  readonly #dataplane: Dataplane
  readonly #maps: RuleMaps
  readonly #ledger: Ledger
  readonly #connections: PreparedConnections
  readonly #place: (server: RealServer) => Placement
  readonly #hops: HopSource | null
  /** Each with the virtual address and port it goes to, as an image of a real server. */
  readonly #open = new Map<Prepared, Uint32Array>()
  #closed = false

  constructor(
    dataplane: Dataplane,
    maps: RuleMaps,
    ledger: Ledger,
    tables: readonly [ConnectionTable, ConnectionTable],
    place: (server: RealServer) => Placement,
    hops: HopSource | null,
  ) {
    this.#dataplane = dataplane
    this.#hops = hops
    this.#maps = maps
    this.#ledger = ledger
    this.#connections = new PreparedConnections(dataplane, tables)
    this.#place = place
  }

  /** A sentence: why there is no way just now. */
  open(wish: ProbeWish): ProbeWay | string {
    if (this.#closed) return 'the data plane is being exchanged'
    const index = this.#ledger.borrowReal()
    if (index === null) return 'all real servers of the table are in use: start with a larger --real-servers'
    const { virtual, real } = wish
    // A weight, since expire_nodest_conn ends connections of those without; and no bounds.
    const method = real.method === 'full-nat' ? 'nat' : real.method
    const record = { ...real, method, weight: 1, upperThreshold: 0, lowerThreshold: 0 } as const
    const image = realImage(record, NOWHERE, this.#place(real))
    execute(this.#maps, { op: 'fill-real', real: index, image })
    // Known, it is asked of nobody; and the first packet is not lost while a neighbour is being found.
    writeHop(this.#dataplane, index, this.#hops?.to(real.id.address) ?? null)
    // Also a port that no service has.
    const endpoint = realImage({ ...record, id: virtual }, NOWHERE, UNPLACED)
    markReal(this.#maps.interest, endpoint)
    const target = { address: real.id.address, port: real.id.port || virtual.port }
    const prepared = this.#connections.prepare({
      there: { protocol: PROTOCOL_NUMBERS[wish.protocol], from: wish.source, to: virtual },
      back: {
        protocol: PROTOCOL_NUMBERS[wish.protocol],
        from: translates(real.method) ? target : virtual,
        to: wish.source,
      },
      real: index,
      method: METHODS[real.method],
      hop: wish.hop,
      ticks: Math.ceil(wish.lifeMs / TICK_MS),
    })
    if (prepared === null) {
      this.#free(index)
      return 'the connection table has no room'
    }
    this.#open.set(prepared, endpoint)
    return {
      isOpen: () => this.#open.has(prepared) && this.#connections.isThere(prepared),
      close: () => this.#close(prepared),
    }
  }

  /** What packets of questions under way are sent to: perhaps ports that no service has. */
  endpoints(): Uint32Array[] {
    return [...this.#open.values()]
  }

  /** The maps are about to go: what is under way says nothing any more. */
  stop(): void {
    for (const prepared of [...this.#open.keys()]) this.#close(prepared)
    this.#closed = true
  }

  #close(prepared: Prepared): void {
    if (!this.#open.delete(prepared)) return
    this.#connections.free(prepared)
    this.#free(prepared.real)
  }

  #free(index: number): void {
    execute(this.#maps, { op: 'free-real', real: index })
    this.#ledger.returnReal(index)
  }
}
