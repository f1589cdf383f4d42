/** Where packets are explained, and what their way depends on is asked for. */
import type { NextHop } from '../../../linux/netlink/next-hop.ts'
import type { IpAddress } from '../../../net/address.ts'
import type { Explainer, HopQuestion } from './explain.ts'
import { PacketError, type PacketInWords } from './packet.ts'
import type { Explanation } from './told.ts'

/** The way to an address; of a packet, if it is said where that came in. */
export interface WayQuestion {
  readonly to: IpAddress
  readonly from: IpAddress | null
  readonly ifindex: number | null
  readonly tos: number
}

/** Questions for the way of one packet, one after the other. */
const HOPS_MAX = 4

export class Desk {
  readonly explainer: Explainer
  /** null: nobody knows more than the copy of the maps. */
  readonly #way: ((question: WayQuestion) => Promise<NextHop>) | null

  constructor(explainer: Explainer, way: ((question: WayQuestion) => Promise<NextHop>) | null) {
    this.explainer = explainer
    this.#way = way
  }

  /** @param again lets the packet through from where the last one has left the copy, not from the beginning */
  async explain(frame: Uint8Array, ifindex: number, again: 'restored' | 'as it is'): Promise<Explanation> {
    for (let round = 0; round < HOPS_MAX; round++) {
      const answer = this.explainer.explain({ frame, ifindex })
      if (!('asks' in answer)) return answer
      for (const question of answer.asks) this.explainer.learn(question, await this.#hop(question))
      if (again === 'restored') this.explainer.restore()
    }
    throw new PacketError('Cannot find the way of this packet: the routes change all the time; try again')
  }

  async #hop({ destination, source, ifindex, tos }: HopQuestion): Promise<NextHop> {
    // What the copy does not know nobody does any more.
    if (this.#way === null) return { result: 'no-neighbour' }
    return await this.#way({ to: destination, from: source, ifindex, tos })
  }

  /** The one that was named; else the one that the sender is behind, if packets are taken from it. */
  async interfaceOf(name: string | undefined, { from }: PacketInWords): Promise<number> {
    const interfaces = this.explainer.interfaces()
    const [first] = interfaces
    if (first === undefined)
      throw new PacketError('No packets are taken from any interface: pointsmand --interface NAME')
    if (name !== undefined) {
      const found = interfaces.find((one) => one.name === name)
      if (found !== undefined) return found.ifindex
      const names = interfaces.map((one) => one.name).join(', ')
      throw new PacketError(`No packets are taken from interface "${name}": expected ${names}`)
    }
    if (interfaces.length === 1 || this.#way === null) return first.ifindex
    const way = await this.#way({ to: from.address, from: null, ifindex: null, tos: 0 })
    const behind = way.result === 'ok' ? way.ifindex : first.ifindex
    return interfaces.some(({ ifindex }) => ifindex === behind) ? behind : first.ifindex
  }

  macOf(ifindex: number): Uint8Array {
    return this.explainer.interfaces().find((one) => one.ifindex === ifindex)?.mac ?? new Uint8Array(6)
  }

  /** By whose address the frame was sent to; else as if it had come in by the first. */
  interfaceOfFrame(frame: Uint8Array, name: string | undefined): number | null {
    const interfaces = this.explainer.interfaces()
    const named = interfaces.find((one) => one.name === name)
    if (name !== undefined) return named?.ifindex ?? null
    const to = interfaces.find(({ mac }) => mac.every((byte, i) => byte === frame[i]))
    return (to ?? interfaces[0])?.ifindex ?? null
  }
}
