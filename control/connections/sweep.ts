/**
 * Expiry: walks the connection tables in slices, frees what has run out, settles the counts of its real
 * servers, and finds out which removed real servers no connection refers to any more.
 *
 * The packet program plays by the same rules (bpf/connection.h): whoever swaps a line's word from live to
 * claimed owns it and its accounting.
 */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import {
  ConnKind,
  ConnStatus,
  LiveRecord,
  PM_CONN_GENERATION,
  PM_CONN_STATUS,
  PM_VERDICT_MAX,
  RealRecord,
  Slot,
  Verdict,
} from '../../dataplane/layout/layout.gen.ts'
import { REAL_WORDS } from '../compile/images.ts'
import { overloadedAfterRelease } from '../rules/thresholds.ts'
import { ConnectionTable, isActive } from './table.ts'

const LIVE_WORDS = LiveRecord.size / 4
const ACTIVE = LiveRecord.offsets.active / 4
const INACTIVE = LiveRecord.offsets.inactive / 4
const PERSISTENT = LiveRecord.offsets.persistent / 4
const OVERLOADED = LiveRecord.offsets.overloaded / 4

export interface SweepOptions {
  /** Connections of removed real servers end at once (sysctl expire_nodest_conn). */
  readonly expireGone: boolean
}

/** What a finished sweep saw. */
export interface SweepReport {
  /** Live connections (not lines), by family. */
  readonly connections4: number
  readonly connections6: number
  readonly templates: number
  /** Lines freed because their time had run out. */
  readonly expired: number
  /** Lines someone had claimed and never finished. */
  readonly abandoned: number
  /** Live lines per real server; valid until the next report but one. */
  readonly references: Uint32Array
}

export class Sweep {
  readonly tables: readonly [ConnectionTable, ConnectionTable]
  readonly lines: number
  readonly #dataplane: Dataplane
  readonly #reals: MapMemory
  readonly #live: MapMemory
  /** Counted now, and what the last report has: they take turns. */
  #references: Uint32Array
  #referencesSpare: Uint32Array
  /** Lines met that were neither clean nor freed. */
  #inUse = 0
  #began = 0
  /** What `#touches` was when the last finished sweep began, if that sweep met no line in use. */
  #emptySince: number | null = null
  #table = 0
  #line = 0
  #connections: [number, number] = [0, 0]
  #templates = 0
  #expired = 0
  #abandoned = 0
  /** Claimed lines met in this sweep and in the one before, with their words. */
  #claimed = new Map<string, number>()
  #claimedBefore = new Map<string, number>()

  constructor(dataplane: Dataplane) {
    this.#dataplane = dataplane
    this.tables = [new ConnectionTable(dataplane, 4), new ConnectionTable(dataplane, 6)]
    this.lines = this.tables[0].lines + this.tables[1].lines
    this.#reals = dataplane.map('reals')
    this.#live = dataplane.map('live')
    this.#references = new Uint32Array(dataplane.sizes.reals)
    this.#referencesSpare = new Uint32Array(dataplane.sizes.reals)
  }

  /** False while the tables are surely empty: a sweep found them so, and no packet since can have made a line. */
  due(): boolean {
    return this.#table !== 0 || this.#line !== 0 || this.#emptySince !== this.#touches()
  }

  /** Packets with a verdict that a packet with a connection may get, modulo 2^32. */
  #touches(): number {
    const { u32 } = this.#dataplane.map('verdicts')
    const { cpus } = this.#dataplane.sizes
    let sum = 0
    for (let verdict = Verdict.PassFtpData + 1; verdict < PM_VERDICT_MAX; verdict++) {
      for (let cpu = 0; cpu < cpus; cpu++) sum = (sum + u32[(cpu * PM_VERDICT_MAX + verdict) * 2]!) >>> 0
    }
    return sum
  }

  /** Looks at up to `lines` lines; the report when that completes a sweep of both tables. */
  slice(lines: number, options: SweepOptions): SweepReport | null {
    let left = lines
    if (this.#table === 0 && this.#line === 0) this.#began = this.#touches()
    while (left > 0) {
      const table = this.tables[this.#table]!
      const stop = Math.min(table.lines, this.#line + left)
      left -= stop - this.#line
      this.#walk(table, this.#line, stop, options)
      this.#line = stop
      if (stop < table.lines) return null
      this.#line = 0
      this.#table++
      if (this.#table === this.tables.length) {
        this.#table = 0
        return this.#report()
      }
    }
    return null
  }

  /** A whole sweep at once. */
  run(options: SweepOptions): SweepReport {
    for (;;) {
      const report = this.slice(this.lines, options)
      if (report !== null) return report
    }
  }

  #report(): SweepReport {
    const report: SweepReport = {
      connections4: this.#connections[0],
      connections6: this.#connections[1],
      templates: this.#templates,
      expired: this.#expired,
      abandoned: this.#abandoned,
      references: this.#references,
    }
    this.#references = this.#referencesSpare
    this.#referencesSpare = report.references
    this.#references.fill(0)
    this.#emptySince = this.#inUse === 0 ? this.#began : null
    this.#inUse = 0
    this.#connections = [0, 0]
    this.#templates = 0
    this.#expired = 0
    this.#abandoned = 0
    this.#claimedBefore = this.#claimed
    this.#claimed = new Map()
    return report
  }

  #walk(table: ConnectionTable, from: number, to: number, options: SweepOptions): void {
    const { u32, stride } = table
    const now = this.#dataplane.nowTicks()
    for (let line = from, at = from * stride; line < to; line++, at += stride) {
      const status = u32[at]! & PM_CONN_STATUS
      if (status < ConnStatus.Claimed) continue
      this.#inUse++
      if (status === ConnStatus.Claimed) this.#meetClaimed(table, line)
      else this.#meetLive(table, line, now, options)
    }
  }

  #meetLive(table: ConnectionTable, line: number, now: number, options: SweepOptions): void {
    const real = table.real(line)
    const over = table.remaining(line, now) < 0 || (options.expireGone && this.#isGone(real))
    if (over && this.#forget(table, line, now, options)) return
    if (real < this.#references.length) this.#references[real]!++
    const kind = table.kind(line)
    if (kind === ConnKind.In) this.#connections[table.family === 4 ? 0 : 1]++
    else if (kind === ConnKind.Template) this.#templates++
  }

  #isGone(real: number): boolean {
    return real < this.#reals.entries && this.#reals.u32[real * REAL_WORDS] === Slot.Gone
  }

  /** Frees a connection, both lines; false if a packet came first. */
  #forget(table: ConnectionTable, line: number, now: number, options: SweepOptions): boolean {
    const word = table.word(line)
    if ((word & PM_CONN_STATUS) !== ConnStatus.Live) return false
    const peer = table.peer(line)
    const claimed = claimedWord(word)
    if (!table.swapWord(line, word, claimed)) return false
    // A packet may have restarted the timer between the look and the swap: then the line goes back.
    const late = peer >= 0 ? table.expires(peer) : table.expires(line)
    const alive = Math.max((table.expires(line) - now) | 0, (late - now) | 0) >= 0
    if (alive && !(options.expireGone && this.#isGone(table.real(line)))) {
      table.storeWord(line, (claimed & ~PM_CONN_STATUS) | ConnStatus.Live)
      return false
    }
    if (peer >= 0) {
      const peerWord = table.word(peer)
      if (
        (peerWord & PM_CONN_STATUS) === ConnStatus.Live &&
        table.swapWord(peer, peerWord, claimedWord(peerWord))
      ) {
        this.#release(table, peer, claimedWord(peerWord))
      }
    }
    this.#release(table, line, claimed)
    return true
  }

  /** Frees a line this sweep has claimed, and settles the counts it stood for. */
  #release(table: ConnectionTable, line: number, claimed: number): void {
    const kind = table.kind(line)
    const real = table.real(line)
    if (real < this.#reals.entries) {
      if (kind === ConnKind.In) this.#unbind(real, isActive(table.protocol(line), table.state(line)))
      else if (kind === ConnKind.Template) this.#subtract(real, PERSISTENT)
    }
    table.storeWord(line, (claimed & ~PM_CONN_STATUS) | ConnStatus.Freed)
    this.#expired++
  }

  #subtract(real: number, word: number): void {
    Atomics.sub(this.#live.u32, real * LIVE_WORDS + word, 1)
  }

  #unbind(real: number, active: boolean): void {
    this.#subtract(real, active ? ACTIVE : INACTIVE)
    const { u32 } = this.#live
    const base = real * LIVE_WORDS
    if (u32[base + OVERLOADED] === 0) return
    const total = u32[base + ACTIVE]! + u32[base + INACTIVE]!
    const record = real * REAL_WORDS
    const upper = this.#reals.u32[record + RealRecord.offsets.upper / 4]!
    const lower = this.#reals.u32[record + RealRecord.offsets.lower / 4]!
    if (!overloadedAfterRelease(true, upper, lower, total)) Atomics.store(u32, base + OVERLOADED, 0)
  }

  /**
   * A claimed line is being written, for nanoseconds. One that still carries the same word a whole sweep
   * later was left behind by a process that died: nobody else will free it.
   */
  #meetClaimed(table: ConnectionTable, line: number): void {
    const key = `${table.family} ${line}`
    const word = table.word(line)
    if ((word & PM_CONN_STATUS) !== ConnStatus.Claimed) return
    const before = this.#claimedBefore.get(key)
    if (before !== word) {
      this.#claimed.set(key, word)
      const real = table.real(line)
      if (real < this.#references.length) this.#references[real]!++
      return
    }
    if (table.swapWord(line, word, (word & ~PM_CONN_STATUS) | ConnStatus.Freed)) this.#abandoned++
  }
}

function claimedWord(word: number): number {
  return (((word & ~PM_CONN_STATUS) + PM_CONN_GENERATION) | ConnStatus.Claimed) >>> 0
}
