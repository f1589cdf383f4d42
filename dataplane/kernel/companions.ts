/** All companions of the packet program in one data plane: each comes and goes by itself, all go with the plane. */
import type { Links } from '../../linux/links.ts'
import type { Dataplane } from '../dataplane.ts'
import { type AskFilter, Companion, type IsPlace, sends } from './companion.ts'
import { Cutting, type CuttingFacts } from './cutting.ts'
import { OwnClients } from './own-clients.ts'
import type { OpenedPrograms } from './pinned-program.ts'
import type { CompanionHook, Pins } from './pins.ts'
import { Relay } from './relay.ts'

export interface CompanionFacts extends CuttingFacts {
  readonly plane: Pick<Dataplane, 'map'>
  readonly pins: Pins | null
  readonly opened: OpenedPrograms
  readonly tcLinks: boolean
}

export class Companions {
  /** Sees answers of real servers that are this host. */
  readonly outgoing: Companion
  /** Leads what the host's own sockets send to virtual services. */
  readonly own: OwnClients
  /** Cuts what is larger than its path, and was taken by XDP. */
  readonly cutting: Cutting
  /** Sends what XDP cannot. */
  readonly relay: Relay

  constructor(facts: CompanionFacts) {
    const { plane, pins, opened, tcLinks } = facts
    const companion = (hook: CompanionHook, isPlace: IsPlace) =>
      new Companion(hook, isPlace, pins, opened, tcLinks)
    this.outgoing = companion('out', sends)
    this.own = new OwnClients(
      plane,
      companion('own', (link) => link.loopback),
    )
    const isReceiving: IsPlace = ({ ifindex }, links) => facts.receiving(links).has(ifindex)
    this.cutting = new Cutting(companion('cut', isReceiving), opened, facts)
    this.relay = new Relay(plane, (isPlace) => companion('relay', isPlace))
  }

  get #all(): readonly (Companion | OwnClients | Cutting | Relay)[] {
    return [this.outgoing, this.own, this.cutting, this.relay]
  }

  /** Go on with what an earlier process has left. */
  adopt(): void {
    for (const one of this.#all) one.adopt()
  }

  /** Those whose places do not hang on where packets are taken. */
  bringSendingInLine(links: Links): void {
    this.outgoing.bringInLine(links)
    this.own.bringInLine(links)
  }

  async look(askFilter: AskFilter): Promise<void> {
    await Promise.all(this.#all.map((one) => one.look(askFilter)))
  }

  remove(): void {
    for (const one of this.#all) one.remove()
  }

  /** Let go of this process's handles. */
  close(): void {
    for (const one of this.#all) one.close()
  }
}
