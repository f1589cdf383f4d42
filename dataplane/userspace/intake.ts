/**
 * How frames get from interfaces to the workers instead of the kernel. Two ways: packet sockets, while the
 * kernel drops its own copies of claimed frames; and AF_XDP sockets, to which a small XDP program
 * steers claimed frames.
 */
import type { Link } from '../../linux/netlink/rtnetlink.ts'
import type { RequestSocket } from '../../linux/netlink/socket.ts'
import type { Region } from '../wasm/region.ts'
import type { Claim } from './claims/tracker.ts'
import type { TapNumbers } from './tap-numbers.ts'
import type { WorkerThread } from './worker/thread.ts'

/** An interface of the director that is taken. */
export interface Tap {
  link: Link
  /** Further MAC addresses under which frames that arrive there are for this host. */
  more: readonly Uint8Array[]
  /** Interface that leads to the kernel's stack. */
  readonly stackIfindex: number
}

/** What an intake may use of the plane. */
export interface Plane {
  /** Address of the linear memory in this process. */
  readonly memory: bigint
  /** Linear memory, a multiple of 64 KiB long and aligned, given back by `free`. */
  allocate(bytes: number): Region
  free(region: Region): void
  /** By their row in the per-CPU maps. */
  workers(): readonly WorkerThread[]
  readonly tapNumbers: TapNumbers
  readonly netlink: RequestSocket
  log(message: string): void
}

export interface Intake {
  /**
   * These and no others are claimed from now on. That the kernel leaves them alone is for the nftables table;
   * here is what is quicker than that.
   */
  setClaims(claims: readonly Claim[]): void
  /** Puts back what somebody else has taken off. */
  mend(claims: readonly Claim[]): void
  /** Hands frames of an interface to the workers. */
  start(tap: Tap): Promise<void>
  /** Ends that, also when the interface or a worker is gone. */
  stop(tap: Tap): Promise<void>
  /** A worker is a new thread and knows nothing. */
  restartWorker(tap: Tap, cpu: number): Promise<void>
  /** `tap.link` has another MTU or MAC address than before. */
  follow(tap: Tap, before: Link): Promise<void>
  /** All taps have been stopped, the workers too. */
  close(): void
}
