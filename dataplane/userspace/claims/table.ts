/**
 * The nftables table as the kernel has it against what it should hold. Others can take it away at any time
 * (a firewall that reloads begins with `flush ruleset`), so that every change of it is looked at, and every
 * failure ends with the whole table being written again.
 */
import { TableReader, watchTable } from '../../../linux/netlink/nftables.ts'
import type { EventSocket } from '../../../linux/netlink/socket.ts'
import {
  CLAIM_SETS,
  chainRemovalScript,
  changeScript,
  deleteScript,
  elementCounts,
  leaseScript,
  ruleCount,
  runNft,
  TABLE_NAME,
  type TakenInterface,
  tableScript,
} from './nftables.ts'
import type { Claim, ClaimChange } from './tracker.ts'

const ACTION = 'keep the kernel from answering for virtual services'

/** Calls follow one another: the caller waits for each. */
export class ClaimTable {
  readonly #reader = new TableReader(TABLE_NAME)
  readonly #events: EventSocket
  /** Of the table we wrote; null while there should be none. */
  #handle: bigint | null = null
  /** A change of ours is being made: what is heard of it is no news. */
  #writing = false

  /** `onStrange`: somebody else has changed the table. */
  constructor(onStrange: () => void) {
    this.#events = watchTable(TABLE_NAME, () => {
      if (!this.#writing) onStrange()
    })
  }

  get stands(): boolean {
    return this.#handle !== null
  }

  /** The whole table, whatever there is of it. */
  async write(interfaces: readonly TakenInterface[], claims: readonly Claim[]): Promise<void> {
    // Until it is known to have worked, nothing is known to stand.
    this.#handle = null
    await this.#run(tableScript(interfaces, claims), ACTION)
    this.#handle = this.#reader.read([])?.handle ?? null
  }

  async change(change: ClaimChange): Promise<void> {
    await this.#run(changeScript(change), 'change the nftables rules')
  }

  /** Another 30 seconds in which the kernel drops what is claimed. */
  async renewLease(): Promise<void> {
    await this.#run(leaseScript(), 'renew the lease of the nftables rules')
  }

  /** The chain goes with its interface, if that is gone already. */
  async release(ifindex: number, name: string): Promise<void> {
    await this.#run(chainRemovalScript(ifindex), `release ${name}`).catch(() => {})
  }

  async remove(): Promise<void> {
    this.#handle = null
    await this.#run(deleteScript(), 'remove the nftables rules')
  }

  /** Whether the kernel has what was written last; asked of the kernel. */
  isWhole(interfaces: readonly TakenInterface[], claims: readonly Claim[]): boolean {
    const state = this.#reader.read(CLAIM_SETS)
    if (state === null || state.handle !== this.#handle) return false
    if (state.rules !== ruleCount(interfaces, claims)) return false
    const wanted = elementCounts(claims)
    return CLAIM_SETS.every((set) => state.elements.get(set) === wanted.get(set))
  }

  async #run(script: string, action: string): Promise<void> {
    this.#writing = true
    try {
      await runNft(script, action)
    } finally {
      // What it did has been announced by the time it ends.
      this.#events.drain()
      this.#writing = false
    }
  }

  close(): void {
    this.#events.close()
    this.#reader.close()
  }
}
