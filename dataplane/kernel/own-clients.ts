/**
 * The host's own sockets as clients: a pair of links of ours, and a program at the egress of `lo` that leads there
 * what they send to virtual services (bpf/own-way.h). All of it goes on without this process, as the pins do, and
 * goes with them.
 */
import type { Links } from '../../linux/links.ts'
import { MachineError } from '../../linux/machine-error.ts'
import {
  findOwnPair,
  isOwnPairLeft,
  makeOwnPair,
  OWN_MAC,
  OWN_MTU,
  type OwnPair,
  removeOwnPair,
} from '../../linux/netlink/own-pair.ts'
import { RequestSocket } from '../../linux/netlink/socket.ts'
import type { AttachResult, Dataplane, OwnClients as State } from '../dataplane.ts'
import { forgetOwnHops, giveHop } from '../given-hops.ts'
import { PM_NEIGHBOUR_OWN, PM_NEIGHBOUR_SERVE } from '../layout/layout.gen.ts'
import type { AskFilter, Companion } from './companion.ts'

export class OwnClients {
  readonly #plane: Pick<Dataplane, 'map'>
  readonly #leading: Companion
  #serve: number | null = null
  /** Why there is no pair; null while there is, or nobody wants one. */
  #refused: string | null = null
  /** Why no packets are taken from it. */
  #untaken: string | null = null
  #wanted = false

  constructor(plane: Pick<Dataplane, 'map'>, leading: Companion) {
    this.#plane = plane
    this.#leading = leading
  }

  /** Goes on with what an earlier process has left. */
  adopt(): void {
    this.#leading.adopt()
    this.#wanted = this.#leading.state() !== null || withSocket(isOwnPairLeft)
  }

  want(): void {
    this.#wanted = true
  }

  /** ifindex of the program's end; null while there is none. */
  get serve(): number | null {
    return this.#serve
  }

  /** What became of the program's end of the pair. */
  taken(result: AttachResult): void {
    this.#untaken = 'refused' in result ? result.refused : null
  }

  /** Puts back what has gone: the pair, and the program at `lo`. */
  bringInLine(links: Links): void {
    if (!this.#wanted) return
    try {
      this.#lead(withSocket((socket) => findOwnPair(socket) ?? makeOwnPair(socket)))
      this.#refused = null
    } catch (error) {
      if (!(error instanceof MachineError)) throw error
      this.#refused = error.message
      this.#serve = null
      forgetOwnHops(this.#plane)
      return
    }
    this.#leading.want(true, () => links)
  }

  /** null: it is not wanted. */
  state(): State | null {
    if (!this.#wanted) return null
    const { interfaces, refused } = this.#leading.state() ?? { interfaces: [], refused: [] }
    const why = [this.#refused, this.#untaken, ...refused].filter((one) => one !== null)
    return { served: interfaces.length > 0 && why.length === 0, refused: why }
  }

  look(askFilter: AskFilter): Promise<void> {
    return this.#leading.look(askFilter)
  }

  remove(): void {
    const wasWanted = this.#wanted
    this.#wanted = false
    this.#refused = null
    this.#untaken = null
    this.#serve = null
    this.#leading.remove()
    if (!wasWanted) return
    forgetOwnHops(this.#plane)
    withSocket(removeOwnPair)
  }

  close(): void {
    this.#leading.close()
  }

  #lead({ own, serve }: OwnPair): void {
    this.#serve = serve
    const hop = { smac: OWN_MAC, dmac: OWN_MAC, mtu: OWN_MTU }
    giveHop(this.#plane, PM_NEIGHBOUR_OWN, { ...hop, ifindex: serve })
    giveHop(this.#plane, PM_NEIGHBOUR_SERVE, { ...hop, ifindex: own })
  }
}

function withSocket<T>(use: (socket: RequestSocket) => T): T {
  const socket = new RequestSocket()
  try {
    return use(socket)
  } finally {
    socket.close()
  }
}
