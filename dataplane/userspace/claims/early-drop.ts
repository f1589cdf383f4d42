/**
 * Claimed frames are dropped before nftables sees them, by a program at the ingress of the interface, which
 * saves a lookup in its sets. These stay complete: where there can be no such program, nothing else changes.
 */
import type { RequestSocket } from '../../../linux/netlink/socket.ts'
import {
  closeIngress,
  ingressFilters,
  openIngress,
  openIngresses,
  setIngressProgram,
} from '../../../linux/netlink/traffic-control.ts'
import { claimProgram } from './program.ts'
import type { Claim } from './tracker.ts'

interface At {
  readonly name: string
  readonly ifindex: number
}

export class EarlyDrop {
  readonly #socket: RequestSocket
  readonly #log: (message: string) => void
  /** By ifindex. */
  readonly #open = new Map<number, At>()

  constructor(socket: RequestSocket, log: (message: string) => void) {
    this.#socket = socket
    this.#log = log
  }

  /** At one more interface; `setClaims` follows. */
  open(at: At): void {
    if (this.#open.has(at.ifindex)) return
    try {
      if (openIngress(this.#socket, at.ifindex)) this.#open.set(at.ifindex, at)
      else this.#without(at, 'somebody else filters at its ingress, see tc qdisc show')
    } catch (error) {
      this.#without(at, error instanceof Error ? error.message : String(error))
    }
  }

  setClaims(claims: readonly Claim[]): void {
    if (this.#open.size === 0) return
    const program = claimProgram(claims)
    for (const at of this.#open.values()) {
      try {
        setIngressProgram(this.#socket, at.ifindex, program)
      } catch (error) {
        this.close(at.ifindex)
        this.#without(at, error instanceof Error ? error.message : String(error))
      }
    }
  }

  /** What somebody has taken off is put back; `claims` as they were set last. */
  mend(claims: readonly Claim[]): void {
    const missing = [...this.#open.values()].filter(
      ({ ifindex }) => ingressFilters(this.#socket, ifindex) !== 'ours',
    )
    for (const at of missing) {
      this.#open.delete(at.ifindex)
      this.open(at)
    }
    if (missing.length > 0) this.setClaims(claims)
  }

  close(ifindex: number): void {
    if (this.#open.delete(ifindex)) closeIngress(this.#socket, ifindex)
  }

  closeAll(): void {
    for (const ifindex of [...this.#open.keys()]) this.close(ifindex)
  }

  #without({ name }: At, why: string): void {
    this.#log(`${name}: nftables alone keeps the kernel's hands off, which costs packets more: ${why}`)
  }
}

/** Removes what a crashed daemon left behind; how much there was. */
export function removeStaleEarlyDrops(socket: RequestSocket): number {
  const stale = openIngresses(socket)
  for (const ifindex of stale) closeIngress(socket, ifindex)
  return stale.length
}
