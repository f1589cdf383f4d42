/**
 * Intake by packet sockets; a program at the ingress and nftables drop what they took. Works wherever CAP_NET_RAW
 * and CAP_NET_ADMIN do.
 */
import type { Link } from '../../../linux/netlink/rtnetlink.ts'
import { EarlyDrop } from '../claims/early-drop.ts'
import type { Claim } from '../claims/tracker.ts'
import type { Intake, Plane, Tap } from '../intake.ts'
import {
  closeRing,
  joinFanout,
  letIn,
  openReceiveRing,
  type ReceiveRing,
  ringGeometry,
  startReceiving,
} from './rings.ts'

interface Open {
  readonly number: number
  /** One for every worker. */
  readonly rings: ReceiveRing[]
  /** Number of the fanout group, null with one worker. */
  group: number | null
}

export class PacketIntake implements Intake {
  readonly #plane: Plane
  readonly #ringBytes: number
  /** By ifindex, which stays when an interface is renamed. */
  readonly #open = new Map<number, Open>()
  readonly #early: EarlyDrop
  #claims: readonly Claim[] = []

  /** `ringBytes`: receive ring of every interface and worker. */
  constructor(plane: Plane, ringBytes: number) {
    this.#plane = plane
    this.#ringBytes = ringBytes
    this.#early = new EarlyDrop(plane.netlink, (message) => plane.log(message))
  }

  setClaims(claims: readonly Claim[]): void {
    this.#claims = claims
    this.#early.setClaims(claims)
  }

  mend(claims: readonly Claim[]): void {
    this.#early.mend(claims)
  }

  async start(tap: Tap): Promise<void> {
    this.#early.open(tap.link)
    this.#early.setClaims(this.#claims)
    const open: Open = { number: this.#plane.tapNumbers.take(), rings: [], group: null }
    this.#open.set(tap.link.ifindex, open)
    const workers = this.#plane.workers()
    for (let cpu = 0; cpu < workers.length; cpu++) await this.#openRing(tap, open, cpu)
  }

  async #openRing(tap: Tap, open: Open, cpu: number): Promise<void> {
    const { memory } = this.#plane
    const workers = this.#plane.workers()
    const geometry = ringGeometry(tap.link.mtu, this.#ringBytes)
    const region = this.#plane.allocate(geometry.bytes)
    const ring = openReceiveRing(memory, region.base, geometry, tap.link.ifindex)
    open.rings[cpu] = ring
    startReceiving(ring)
    if (workers.length > 1) open.group = joinFanout(ring, open.group)
    letIn(ring)
    const { stackIfindex } = tap
    await workers[cpu]!.order({
      kind: 'add-tap',
      tap: open.number,
      source: { kind: 'packet', ring },
      stackIfindex,
    })
  }

  async stop(tap: Tap): Promise<void> {
    this.#early.close(tap.link.ifindex)
    await this.#close(tap)
  }

  async #close(tap: Tap): Promise<void> {
    const open = this.#open.get(tap.link.ifindex)
    if (open === undefined) return
    this.#open.delete(tap.link.ifindex)
    for (const worker of this.#plane.workers()) {
      await worker.order({ kind: 'remove-tap', tap: open.number }).catch(() => {})
    }
    this.#plane.tapNumbers.give(open.number)
    for (const ring of open.rings) this.#closeRing(ring)
  }

  /** No worker may be reading it any more. */
  #closeRing(ring: ReceiveRing): void {
    const { base, fd, geometry } = ring
    closeRing(this.#plane.memory, { fd, base, bytes: geometry.bytes })
    this.#plane.free({ base, bytes: geometry.bytes })
  }

  /** Another ring: where the old thread was in its ring nobody knows. */
  async restartWorker(tap: Tap, cpu: number): Promise<void> {
    const open = this.#open.get(tap.link.ifindex)
    if (open === undefined) return
    const ring = open.rings[cpu]
    if (ring !== undefined) this.#closeRing(ring)
    await this.#openRing(tap, open, cpu)
  }

  async follow(tap: Tap, before: Link): Promise<void> {
    // Larger slots for a larger MTU.
    if (ringGeometry(before.mtu, 0).slotBytes >= ringGeometry(tap.link.mtu, 0).slotBytes) return
    await this.#close(tap)
    await this.start(tap)
  }

  close(): void {}
}
