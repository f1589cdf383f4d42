/**
 * Next hops that packets waited for in vain. In XDP nothing asks for a neighbour: a connection whose next
 * hop the kernel does not know drops its packets (`drop_next_hop_unresolved`), and its line keeps none.
 * Whenever that verdict grows, the tables are searched for such lines, a slice at a
 * time, and the kernel is asked to resolve where they want to go.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { ConnKind, HopRecord, Method, RealRecord, Verdict } from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { serverIdOfImage } from '../compile/images.ts'
import { countVerdict } from '../counting/verdicts.ts'
import { ConnectionTable } from './table.ts'

/** Whom answers of a line go to: by full NAT the client's line knows, which may have gone. */
function clientOf(table: ConnectionTable, line: number): IpAddress | null {
  if (table.method(line) !== Method.FullNat) return table.addresses(line).destination
  const peer = table.peer(line)
  return peer < 0 ? null : table.addresses(peer).source
}

/** At most so many addresses from one search: each costs questions to the kernel. */
const FOUND_MAX = 64
const INTERFACE = HopRecord.offsets.ifindex / 4

export class UnresolvedHops {
  readonly #dataplane: Dataplane
  readonly #tables: readonly ConnectionTable[]
  #dropped: bigint
  /** Where the search under way goes on; null when there is none. */
  #at: { table: number; line: number } | null = null
  #found = new Set<IpAddress>()

  constructor(dataplane: Dataplane) {
    this.#dataplane = dataplane
    this.#tables = [new ConnectionTable(dataplane, 4), new ConnectionTable(dataplane, 6)]
    this.#dropped = this.#countDropped()
  }

  /** Begins a search if packets were dropped since the last one; true while there is one to go on with. */
  due(): boolean {
    if (this.#at !== null) return true
    const dropped = this.#countDropped()
    if (dropped === this.#dropped) return false
    this.#dropped = dropped
    this.#at = { table: 0, line: 0 }
    this.#found = new Set()
    return true
  }

  /** Looks at up to `lines` lines; the addresses to resolve once the search is through, else null. */
  slice(lines: number): ReadonlySet<IpAddress> | null {
    for (let left = lines; left > 0 && this.#at !== null; ) {
      const table = this.#tables[this.#at.table]
      if (table === undefined || this.#found.size >= FOUND_MAX) {
        this.#at = null
        return this.#found
      }
      const { inUse } = table.levels
      const stop = Math.max(this.#at.line, Math.min(inUse, this.#at.line + left))
      for (let line = this.#at.line; line < stop; line++) this.#look(table, line)
      left -= stop - this.#at.line
      this.#at = stop < inUse ? { ...this.#at, line: stop } : { table: this.#at.table + 1, line: 0 }
    }
    return null
  }

  #look(table: ConnectionTable, line: number): void {
    if (!table.isLive(line) || table.neighbour(line) !== 0) return
    if (this.#found.size >= FOUND_MAX) return
    const kind = table.kind(line)
    if (kind === ConnKind.Reply) {
      const client = clientOf(table, line)
      if (client !== null) this.#found.add(client)
    } else if (kind === ConnKind.In && !this.#isKept(table.real(line)))
      this.#found.add(this.#server(table.real(line)))
  }

  /** Whether the next hop of a real server is written down for all of its connections. */
  #isKept(real: number): boolean {
    return this.#dataplane.map('hops').u32[(real * HopRecord.size) / 4 + INTERFACE] !== 0
  }

  #server(real: number): IpAddress {
    return serverIdOfImage(this.#dataplane.map('reals').view, real * RealRecord.size).address
  }

  #countDropped(): bigint {
    return countVerdict(this.#dataplane, Verdict.DropNextHopUnresolved)
  }
}
