/**
 * Intake by packet sockets; a program at the ingress and nftables drop what they took. Works wherever CAP_NET_RAW
 * and CAP_NET_ADMIN do.
 */
import type { Link } from '../../../linux/netlink/rtnetlink.ts'
import { EarlyDrop } from '../claims/early-drop.ts'
import {
  chainRemovalScript,
  changeScript,
  deleteScript,
  expireScript,
  runNft,
  tableScript,
} from '../claims/nftables.ts'
import type { Claim, ClaimChange } from '../claims/tracker.ts'
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
  /** The nftables table is ours and in force. */
  #claimed = false

  /** `ringBytes`: receive ring of every interface and worker. */
  constructor(plane: Plane, ringBytes: number) {
    this.#plane = plane
    this.#ringBytes = ringBytes
    this.#early = new EarlyDrop(plane.netlink, (message) => plane.log(message))
  }

  async claim(taps: readonly Tap[], claims: readonly Claim[]): Promise<void> {
    const taken = taps.map(({ link, more }) => ({ name: link.name, ifindex: link.ifindex, more }))
    await runNft(tableScript(taken, claims), 'keep the kernel from answering for virtual services')
    this.#claimed = true
    for (const at of taken) this.#early.open(at)
    this.#early.setClaims(claims)
  }

  async changeClaims(change: ClaimChange, claims: readonly Claim[]): Promise<void> {
    if (!this.#claimed) return
    await runNft(changeScript(change), 'change the nftables rules')
    this.#early.setClaims(claims)
  }

  async unclaim(): Promise<void> {
    this.#early.closeAll()
    await runNft(deleteScript(), 'remove the nftables rules')
    this.#claimed = false
  }

  async leave(_ports: readonly Tap[], claims: readonly Claim[], seconds: number): Promise<void> {
    await runNft(expireScript(claims, seconds), 'let the nftables rules run out')
    this.#early.closeAll()
    this.#claimed = false
  }

  async start(tap: Tap): Promise<void> {
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
    if (this.#claimed) {
      // The chain goes with its interface, if that is gone already.
      await runNft(chainRemovalScript(tap.link.ifindex), `release ${tap.link.name}`).catch(() => {})
    }
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
