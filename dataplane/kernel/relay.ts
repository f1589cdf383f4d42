/**
 * Beside native XDP: the program of traffic control that sends what XDP has made ready and cannot send (bpf/relay.h),
 * by interfaces that take no frames of it, and to neighbours that have to be found. XDP is told of it when it is there,
 * and before it goes, so that it leaves nothing to nobody.
 */
import type { Links } from '../../linux/links.ts'
import type { Dataplane } from '../dataplane.ts'
import { publishRelayed } from '../egress-table.ts'
import type { AskFilter, Companion, IsPlace } from './companion.ts'

export class Relay {
  readonly #plane: Pick<Dataplane, 'map'>
  readonly #companion: Companion
  /** ifindex of the links beside whose XDP it is to be. */
  #wanted: ReadonlySet<number> = new Set()

  constructor(plane: Pick<Dataplane, 'map'>, companionAt: (isPlace: IsPlace) => Companion) {
    this.#plane = plane
    this.#companion = companionAt(({ ifindex }) => this.#wanted.has(ifindex))
  }

  adopt(): void {
    this.#companion.adopt()
  }

  look(askFilter: AskFilter): Promise<void> {
    return this.#companion.look(askFilter)
  }

  /** ifindex of the links that it is at. */
  at(): ReadonlySet<number> {
    return this.#companion.at()
  }

  /** Why it is not where it should be. */
  get refused(): readonly string[] {
    return this.#companion.state()?.refused ?? []
  }

  /**
   * Sees to it that it is beside these. `quiesce`: every frame has gone its way that XDP was about when it was told;
   * false: nobody wants it any more.
   */
  async bringInLine(
    wanted: ReadonlySet<number>,
    links: Links,
    quiesce: () => Promise<boolean>,
  ): Promise<void> {
    this.#wanted = wanted
    const before = this.at()
    const staying = new Set([...before].filter((ifindex) => wanted.has(ifindex)))
    publishRelayed(this.#plane.map('egress'), staying)
    if (staying.size < before.size && !(await quiesce())) return
    this.#companion.want(wanted.size > 0, () => links)
    publishRelayed(this.#plane.map('egress'), this.at())
  }

  remove(): void {
    publishRelayed(this.#plane.map('egress'), new Set())
    this.#companion.remove()
  }

  close(): void {
    this.#companion.close()
  }
}
