/**
 * Expiry: walks the connection tables in slices, frees what has run out, settles the counts of its real
 * servers, and finds out which removed real servers no connection refers to any more, and whether the
 * counts are what the lines say (recount.ts for those of persistence templates).
 *
 * The packet program plays by the same rules (bpf/connection.h): what is done about a line is decided from
 * its head, and done by swapping exactly that head.
 */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import {
  ConnFlag,
  ConnKind,
  ConnRecord,
  ConnStatus,
  CountersRecord,
  LiveRecord,
  Method,
  PM_CONN_ACTIVE,
  PM_CONN_HELD,
  PM_CONN_STATE_SHIFT,
  PM_CONN_STATUS,
  PM_TEMPLATE_AGAIN,
  PM_VERDICT_MAX,
  RealRecord,
  Slot,
  TemplateState,
  Verdict,
} from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { type BracketMaps, challenge } from '../compile/bracket.ts'
import { REAL_WORDS } from '../compile/images.ts'
import type { PortsTaken } from '../model/ports-taken.ts'
import { overloadedAfterRelease } from '../rules/thresholds.ts'
import { PortsMet } from './ports-met.ts'
import { Recount } from './recount.ts'
import { hasStalled } from './stall.ts'
import { ConnectionTable, claimedHead, freedHead, type Head, isLive, liveWord, ticksUntil } from './table.ts'

const EXPIRES = ConnRecord.offsets.expires / 4
const LIVE_WORDS = LiveRecord.size / 4
const ACTIVE = LiveRecord.offsets.active / 4
const INACTIVE = LiveRecord.offsets.inactive / 4
const PERSISTENT = LiveRecord.offsets.persistent / 4
const OVERLOADED = LiveRecord.offsets.overloaded / 4
const COUNTER_WORDS = CountersRecord.size / 4
const CONNS = CountersRecord.offsets.conns / 4

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
  /** Lines in use of each table, whatever they stand for. */
  readonly lines4: number
  readonly lines6: number
  /** Lines freed because their time had run out. */
  readonly expired: number
  /** Lines someone had claimed and never finished. */
  readonly abandoned: number
  /** Real servers and templates whose counts were not what the lines say, and have been put right. */
  readonly repaired: number
  /**
   * Live lines per real server; not 0 while one is counted that the sweep has missed, because a packet moved
   * it to where the sweep had been. Valid until the next report but one.
   */
  readonly references: Uint32Array
  /** Of addresses that full NAT has given connections for a source. */
  readonly portsTaken: ReadonlyMap<IpAddress, PortsTaken>
}

/** A real server whose counts are not what a sweep met: all that must stay the same. */
interface Doubt {
  /** When it was first met so, in ticks. */
  readonly since: number
  readonly active: number
  readonly inactive: number
  readonly persistent: number
  readonly metActive: number
  readonly metInactive: number
  readonly metPersistent: number
  /** Of the lines it was met in: packets move lines, and one may be met twice or missed by it. */
  readonly places: number
  /** Connections it ever got, modulo 2^32. */
  readonly made: number
}

/** A line that somebody writes to: its head, and when it was first met with it, in ticks. */
interface Claim {
  readonly head: Head
  readonly since: number
}

export class Sweep {
  readonly tables: readonly [ConnectionTable, ConnectionTable]
  readonly lines: number
  readonly #dataplane: Dataplane
  readonly #reals: MapMemory
  readonly #live: MapMemory
  readonly #brackets: BracketMaps
  /** Counted now, and what the last report has: they take turns. */
  #references: Uint32Array
  #referencesSpare: Uint32Array
  /** Lines met of each table that were neither clean nor freed. */
  #inUse: [number, number] = [0, 0]
  #began = 0
  /** What `#touches` was when the last finished sweep began, if that sweep met no line in use. */
  #emptySince: number | null = null
  /** The table that is being walked, and the line there; behind the last, real servers whose counts are compared. */
  #table = 0
  #line = 0
  /** Lines of each table that the sweep under way looks at. */
  #ends: readonly number[] = [0, 0]
  #connections: [number, number] = [0, 0]
  #templates = 0
  #expired = 0
  #abandoned = 0
  #repaired = 0
  /** Connections and templates met in this sweep, by real server, as they are counted. */
  readonly #metActive: Uint32Array
  readonly #metInactive: Uint32Array
  readonly #metPersistent: Uint32Array
  readonly #places: Uint32Array
  /** Of the sweep before, and of this one. */
  #doubts = new Map<number, Doubt>()
  #doubtsMet = new Map<number, Doubt>()
  readonly #recounts: readonly [Recount, Recount]
  readonly #ports: PortsMet
  /** Claimed and held lines met in this sweep and in the one before. */
  #claimed = new Map<string, Claim>()
  #claimedBefore = new Map<string, Claim>()

  constructor(dataplane: Dataplane) {
    this.#dataplane = dataplane
    this.tables = [new ConnectionTable(dataplane, 4), new ConnectionTable(dataplane, 6)]
    this.lines = this.tables[0].lines + this.tables[1].lines
    this.#recounts = [new Recount(this.tables[0]), new Recount(this.tables[1])]
    this.#reals = dataplane.map('reals')
    this.#live = dataplane.map('live')
    this.#ports = new PortsMet(this.#reals, dataplane.map('services'))
    this.#brackets = {
      services: dataplane.map('services'),
      schedules: dataplane.map('schedules'),
      members: dataplane.map('members'),
      reals: this.#reals,
      live: this.#live,
    }
    this.#references = new Uint32Array(dataplane.sizes.reals)
    this.#referencesSpare = new Uint32Array(dataplane.sizes.reals)
    this.#metActive = new Uint32Array(dataplane.sizes.reals)
    this.#metInactive = new Uint32Array(dataplane.sizes.reals)
    this.#metPersistent = new Uint32Array(dataplane.sizes.reals)
    this.#places = new Uint32Array(dataplane.sizes.reals)
  }

  /** False while the tables are surely empty: a sweep found them so, and no packet since can have made a line. */
  due(): boolean {
    if (this.#table !== 0 || this.#line !== 0 || this.#doubts.size > 0) return true
    if (this.#recounts.some(({ doubts }) => doubts > 0)) return true
    if (this.tables.some(({ levels }) => !levels.isSettled)) return true
    return this.#emptySince !== this.#touches()
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

  /** Looks at up to `lines` lines, and then counts; the report when that completes a sweep of both tables. */
  slice(lines: number, options: SweepOptions): SweepReport | null {
    let left = lines
    if (this.#table === 0 && this.#line === 0) this.#begin()
    while (left > 0) {
      if (this.#table === this.tables.length) {
        const reals = this.#metActive.length
        const stop = Math.min(reals, this.#line + left)
        this.#compareCounts(this.#line, stop)
        this.#line = stop
        if (stop < reals) return null
        this.#line = 0
        this.#table = 0
        return this.#report()
      }
      const table = this.tables[this.#table]!
      const end = this.#ends[this.#table]!
      const stop = Math.min(end, this.#line + left)
      left -= stop - this.#line
      this.#walk(table, this.#line, stop, options)
      this.#line = stop
      if (stop < end) return null
      table.levels.end()
      this.#line = 0
      this.#table++
    }
    return null
  }

  #begin(): void {
    this.#began = this.#touches()
    for (const { levels } of this.tables) levels.begin()
    this.#ends = this.tables.map(({ levels }) => levels.inUse)
    for (const [i, recount] of this.#recounts.entries()) recount.begin(this.#ends[i]!)
  }

  /** A whole sweep at once. */
  run(options: SweepOptions): SweepReport {
    for (;;) {
      const report = this.slice(this.lines, options)
      if (report !== null) return report
    }
  }

  #report(): SweepReport {
    this.#doubts = this.#doubtsMet
    this.#doubtsMet = new Map()
    for (const recount of this.#recounts) this.#repaired += recount.compare(this.#dataplane.nowTicks())
    // No CPU counts this one, so that a row of theirs can be written to.
    if (this.#repaired > 0)
      Atomics.add(this.#dataplane.map('verdicts').u64, Verdict.RepairedCount, BigInt(this.#repaired))
    const report: SweepReport = {
      connections4: this.#connections[0],
      connections6: this.#connections[1],
      templates: this.#templates,
      lines4: this.#inUse[0],
      lines6: this.#inUse[1],
      expired: this.#expired,
      abandoned: this.#abandoned,
      repaired: this.#repaired,
      references: this.#references,
      portsTaken: this.#ports.report(),
    }
    this.#references = this.#referencesSpare
    this.#referencesSpare = report.references
    this.#references.fill(0)
    this.#emptySince = this.#inUse[0] + this.#inUse[1] === 0 ? this.#began : null
    this.#inUse = [0, 0]
    this.#connections = [0, 0]
    this.#templates = 0
    this.#expired = 0
    this.#abandoned = 0
    this.#repaired = 0
    this.#metActive.fill(0)
    this.#metInactive.fill(0)
    this.#metPersistent.fill(0)
    this.#places.fill(0)
    this.#claimedBefore = this.#claimed
    this.#claimed = new Map()
    return report
  }

  #walk(table: ConnectionTable, from: number, to: number, options: SweepOptions): void {
    const { u32, stride } = table
    const now = this.#dataplane.nowTicks()
    const family = table.family === 4 ? 0 : 1
    for (let line = from, at = from * stride; line < to; line++, at += stride) {
      const word = u32[at]!
      const status = word & PM_CONN_STATUS
      if (status < ConnStatus.Claimed) continue
      this.#inUse[family]++
      table.levels.meet(line, () => (status === ConnStatus.Live ? table.place(line) : null))
      if (status === ConnStatus.Claimed) this.#meetClaimed(table, line)
      // Of nearly every line there is nothing to be done, and a look is enough: what is done takes the whole head.
      else if ((word & PM_CONN_HELD) === 0 && ticksUntil(now, u32[at + EXPIRES]!) >= 0 && !options.expireGone)
        this.#count(table, line, word, table.real(line))
      else this.#meetLive(table, line, now, options)
    }
  }

  #meetLive(table: ConnectionTable, line: number, now: number, options: SweepOptions): void {
    const head = table.head(line)
    if (!isLive(head.word)) return
    const real = table.real(line)
    const over = table.remaining(line, now) < 0 || (options.expireGone && this.#isGone(real))
    if (over && this.#end(table, line, head, now)) return
    if ((head.word & PM_CONN_HELD) !== 0) this.#meetHeld(table, line, head)
    this.#count(table, line, head.word, real)
  }

  /** A live line that stays. */
  #count(table: ConnectionTable, line: number, word: number, real: number): void {
    if (real < this.#references.length) this.#references[real]!++
    const kind = table.kind(line)
    if (kind === ConnKind.In) {
      const flags = table.flags(line)
      if ((flags & ConnFlag.Check) === 0) this.#connections[table.family === 4 ? 0 : 1]++
      if ((flags & ConnFlag.Controlled) !== 0) this.#recounts[table.family === 4 ? 0 : 1].meet(line)
      if (real < this.#metActive.length) {
        if ((word & PM_CONN_ACTIVE) !== 0) this.#metActive[real]!++
        else this.#metInactive[real]!++
        this.#places[real]! += Math.imul(line, line) + line
      }
    } else if (kind === ConnKind.Reply) {
      if (table.method(line) === Method.FullNat) this.#ports.meet(table, line)
    } else if (kind === ConnKind.Template) {
      if (!table.isSource(line)) this.#templates++
      this.#recounts[table.family === 4 ? 0 : 1].meetTemplate(line)
      if (real < this.#metPersistent.length) {
        this.#metPersistent[real]!++
        this.#places[real]! += Math.imul(line, line) + line
      }
    }
  }

  #isGone(real: number): boolean {
    return real < this.#reals.entries && this.#reals.u32[real * REAL_WORDS] === Slot.Gone
  }

  /** Frees a connection, both lines, if its head is still this one; false if a packet came first. */
  #end(table: ConnectionTable, line: number, head: Head, now: number): boolean {
    const kind = table.kind(line)
    const peer = table.peer(line)
    if (kind === ConnKind.Reply && peer >= 0) {
      const other = table.head(peer)
      const isOurs = isLive(other.word) && table.kind(peer) === ConnKind.In && table.leadsTo(peer, line)
      return isOurs && this.#end(table, peer, other, now)
    }
    if ((head.word & PM_CONN_HELD) !== 0) return false
    if (kind === ConnKind.Template) return this.#endTemplate(table, line, head, now)
    const real = table.real(line)
    const template = table.template(line)
    const claimed = claimedHead(head.word, now)
    if (!table.swapHead(line, head, claimed)) return false
    if (kind === ConnKind.In && real < this.#reals.entries) this.#settle(real, head.word)
    if (template >= 0) table.uncontrol(template)
    if (peer >= 0) {
      const other = table.head(peer)
      const taken = claimedHead(other.word, now)
      const isOurs = isLive(other.word) && table.kind(peer) === ConnKind.Reply && table.leadsTo(peer, line)
      if (isOurs && (other.word & PM_CONN_HELD) === 0 && table.swapHead(peer, other, taken))
        this.#free(table, peer, taken)
    }
    this.#free(table, line, claimed)
    return true
  }

  /** The same of a persistence template, which stays as long as it controls a connection (bpf/connection.h). */
  #endTemplate(table: ConnectionTable, line: number, head: Head, now: number): boolean {
    const isOver = ticksUntil(now, head.until) < 0
    const prolonged = (head.word | (TemplateState.Prolonged << PM_CONN_STATE_SHIFT)) >>> 0
    const next = isOver ? { word: prolonged, until: (now + PM_TEMPLATE_AGAIN) >>> 0 } : head
    if (table.controlled(line) > 0) {
      if (isOver) table.swapHead(line, head, next)
      return false
    }
    const real = table.real(line)
    const claimed = claimedHead(head.word, now)
    if (!table.swapHead(line, head, claimed)) return false
    if (!table.close(line)) {
      // It has got a connection just now, and goes on as its own next owner.
      table.swapHead(line, claimed, { word: liveWord(claimed.word, next.word), until: next.until })
      return false
    }
    if (real < this.#reals.entries) this.#subtract(real, PERSISTENT)
    this.#free(table, line, claimed)
    return true
  }

  #free(table: ConnectionTable, line: number, claimed: Head): void {
    if (table.swapHead(line, claimed, freedHead(claimed.word))) this.#expired++
  }

  #subtract(real: number, word: number): void {
    Atomics.sub(this.#live.u32, real * LIVE_WORDS + word, 1)
  }

  /** A connection with this word is gone. */
  #settle(real: number, word: number): void {
    this.#subtract(real, (word & PM_CONN_ACTIVE) !== 0 ? ACTIVE : INACTIVE)
    challenge(this.#brackets, real, this.#weigh(real))
  }

  /**
   * Takes the overload flag back when the count has fallen far enough. Flag and count are two words: after
   * the one is written the other is looked at again, as bpf/connection.h does.
   * @returns whether it has been written
   */
  #weigh(real: number): boolean {
    const { u32 } = this.#live
    const base = real * LIVE_WORDS
    const record = real * REAL_WORDS
    const upper = this.#reals.u32[record + RealRecord.offsets.upper / 4]!
    const lower = this.#reals.u32[record + RealRecord.offsets.lower / 4]!
    const total = () => (Atomics.load(u32, base + ACTIVE) + Atomics.load(u32, base + INACTIVE)) >>> 0
    if (Atomics.load(u32, base + OVERLOADED) === 0) return false
    if (overloadedAfterRelease(true, upper, lower, total())) return false
    Atomics.store(u32, base + OVERLOADED, 0)
    if (upper !== 0 && total() >= upper) Atomics.store(u32, base + OVERLOADED, 1)
    return true
  }

  /**
   * A claimed line is being written, for nanoseconds. One that still has the same head after the longest
   * stall was left behind by a process that died: nobody else will free it.
   */
  #meetClaimed(table: ConnectionTable, line: number): void {
    const head = table.head(line)
    if ((head.word & PM_CONN_STATUS) !== ConnStatus.Claimed) return
    if (this.#isAbandoned(table, line, head)) {
      if (table.swapHead(line, head, freedHead(head.word))) this.#abandoned++
      return
    }
    const real = table.real(line)
    if (real < this.#references.length) this.#references[real]!++
  }

  /** The same of a line whose next hop is being written, or that is being moved. */
  #meetHeld(table: ConnectionTable, line: number, head: Head): void {
    if (!this.#isAbandoned(table, line, head)) return
    const released = { word: (head.word & ~PM_CONN_HELD) >>> 0, until: head.until }
    if (table.swapHead(line, head, released)) this.#abandoned++
  }

  #isAbandoned(table: ConnectionTable, line: number, head: Head): boolean {
    const key = `${table.family} ${line}`
    const now = this.#dataplane.nowTicks()
    const before = this.#claimedBefore.get(key)
    const isSame = before !== undefined && before.head.word === head.word && before.head.until === head.until
    const since = isSame ? before.since : now
    if (hasStalled(since, now)) return true
    this.#claimed.set(key, { head, since })
    return false
  }

  /**
   * Puts right what sweeps agree on for longer than anybody stalls. Lines and counts move while a sweep is
   * under way, and a packet may be held up between the two, so a difference means something only of a real
   * server about which nothing changes meanwhile, and whose connections are met in the very same lines. A
   * correct program never needs this: each repair is counted (`repaired_count`).
   */
  #compareCounts(from: number, to: number): void {
    const { u32 } = this.#live
    const now = this.#dataplane.nowTicks()
    for (let real = from; real < to; real++) {
      const base = real * LIVE_WORDS
      const active = u32[base + ACTIVE]!
      const inactive = u32[base + INACTIVE]!
      const metActive = this.#metActive[real]!
      const metInactive = this.#metInactive[real]!
      const persistent = u32[base + PERSISTENT]!
      const metPersistent = this.#metPersistent[real]!
      if (active + inactive + persistent > 0 && this.#references[real] === 0) this.#references[real] = 1
      if (active === metActive && inactive === metInactive && persistent === metPersistent) continue
      const places = this.#places[real]!
      const made = this.#made(real)
      const counted = { active, inactive, persistent }
      const met = { metActive, metInactive, metPersistent }
      const doubt: Doubt = { since: now, ...counted, ...met, places, made }
      const before = this.#doubts.get(real)
      if (before === undefined || !sameDoubt(before, doubt)) {
        this.#doubtsMet.set(real, doubt)
        continue
      }
      if (!hasStalled(before.since, now)) {
        this.#doubtsMet.set(real, before)
        continue
      }
      Atomics.add(u32, base + ACTIVE, metActive - active)
      Atomics.add(u32, base + INACTIVE, metInactive - inactive)
      Atomics.add(u32, base + PERSISTENT, metPersistent - persistent)
      challenge(this.#brackets, real, this.#weigh(real))
      this.#repaired++
    }
  }

  #made(real: number): number {
    const { u32 } = this.#dataplane.map('counters')
    const { cpus } = this.#dataplane.sizes
    let sum = 0
    for (let cpu = 0; cpu < cpus; cpu++) sum = (sum + u32[(real * cpus + cpu) * COUNTER_WORDS + CONNS]!) >>> 0
    return sum
  }
}

function sameDoubt(one: Doubt, other: Doubt): boolean {
  return (
    one.active === other.active &&
    one.inactive === other.inactive &&
    one.persistent === other.persistent &&
    one.metActive === other.metActive &&
    one.metInactive === other.metInactive &&
    one.metPersistent === other.metPersistent &&
    one.places === other.places &&
    one.made === other.made
  )
}
