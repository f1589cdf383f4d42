/**
 * What field by field does not say about maps of earlier versions: fields that changed their meaning,
 * records that stand elsewhere now, fields that are forgotten on purpose.
 *
 * A change of layout that only adds, moves, widens or reorders fields needs nothing here; what is new
 * starts as zero. When a field changes its meaning or its place in a map depends on something new:
 *
 * 1. raise PM_LAYOUT_VERSION, npm run generate: the old layout joins layout/versions.gen.ts;
 * 2. add an entry below under the *old* number. It is given records of that version and writes records of
 *    the present one, so the entries of still older versions are to be looked at again, too: all of them
 *    lead straight to the present layout;
 * 3. test/dataplane/migrate.test.ts fails while a field of any earlier version is neither carried nor
 *    named in `forgets`.
 */
import type { MapMemory } from './dataplane.ts'
import {
  ConnClass,
  ConnFlag,
  ConnKind,
  ConnRecord,
  ConnStatus,
  type MapName,
  Method,
  PM_CONN_ACTIVE,
  PM_CONN_CLASS_SHIFT,
  PM_CONN_EPOCHS,
  PM_CONN_GENERATION,
  PM_CONN_GENERATIONS,
  PM_CONN_HELD,
  PM_CONN_HOLDS,
  PM_CONN_INPUT_ONLY,
  PM_CONN_METHOD_SHIFT,
  PM_CONN_STATE_SHIFT,
  PM_CONN_STATUS,
  SettingsRecord,
  TcpState,
} from './layout/layout.gen.ts'

/** A record of an earlier layout; fields of nested records by path, `c.expires`. */
export interface OldRecord {
  /** 0 where that layout has no such field; `element` for arrays. */
  number(path: string, element?: number): number
  bigint(path: string, element?: number): bigint
}

export interface NewMaps {
  map(name: MapName): MapMemory
}

export interface Conversion {
  /** After field by field, for a record that stays at its index: writes to `view` at `base`. */
  readonly records?: { readonly [map in MapName]?: (old: OldRecord, view: DataView, base: number) => void }
  /**
   * Instead of field by field, for records that find another place (another hash, several records made of
   * one). Called once for each record that is not zero, and again when the old program has changed it:
   * putting the same one twice must be as good as once.
   */
  readonly place?: { readonly [map in MapName]?: (old: OldRecord, index: number, to: NewMaps) => void }
  /** `pm_conn.mtu`: fields, and constants of placing (`PM_WAYS`), that are not carried. */
  readonly forgets?: readonly string[]
}

const PROTO_TCP = 6
const ACTIVE_STATES: readonly number[] = [
  TcpState.Established,
  TcpState.SynSent,
  TcpState.SynRecv,
  TcpState.Synack,
]

/** Of a line before version 10: its kind, method and flags stood apart. */
function traits(old: OldRecord, view: DataView, base: number): void {
  const [oldOnePacket, oldCheck] = [0x08, 0x20]
  const flags = old.number('c.flags')
  ConnRecord.setTraits(
    view,
    base,
    old.number('c.kind') |
      (old.number('c.method') << PM_CONN_METHOD_SHIFT) |
      ((flags & oldOnePacket) !== 0 ? ConnFlag.OnePacket : 0) |
      ((flags & oldCheck) !== 0 ? ConnFlag.Check : 0),
  )
}

/**
 * Before version 10 a word's upper bits said how often a next hop was written to the line, and counted its
 * owners further; a new one keeps none, and is held by nobody.
 */
function connection(old: OldRecord, view: DataView, base: number): void {
  ConnRecord.setWord(
    view,
    base,
    (old.number('c.word') & ~(PM_CONN_EPOCHS | PM_CONN_HOLDS | PM_CONN_HELD)) >>> 0,
  )
  traits(old, view, base)
}

/**
 * Before version 7 a line's word held status and generation only; state and what is known of the two ends
 * stood beside it. A line that is being written when it is looked at is taken as free: if it comes to
 * live, that is a change, and it is looked at again.
 */
function connectionWord(old: OldRecord, view: DataView, base: number): void {
  const oldNoOutput = 0x02
  const oldAssured = 0x04
  const word = old.number('c.word')
  if (word === 0) return
  const generation = ((word >>> 2) * PM_CONN_GENERATION) & PM_CONN_GENERATIONS
  const flags = old.number('c.flags')
  const state = old.number('c.state')
  const isIn = old.number('c.kind') === ConnKind.In
  const active = old.number('c.protocol') === PROTO_TCP && ACTIVE_STATES.includes(state)
  const isLive = (word & PM_CONN_STATUS) === ConnStatus.Live
  traits(old, view, base)
  ConnRecord.setWord(
    view,
    base,
    (!isLive
      ? generation | ConnStatus.Freed
      : generation |
        (state << PM_CONN_STATE_SHIFT) |
        ((flags & oldAssured) === 0 ? ConnClass.New : ConnClass.Answered << PM_CONN_CLASS_SHIFT) |
        (active && isIn ? PM_CONN_ACTIVE : 0) |
        (isIn && old.number('c.method') !== Method.Nat && (flags & oldNoOutput) !== 0
          ? PM_CONN_INPUT_ONLY
          : 0) |
        ConnStatus.Live) >>> 0,
  )
}

/** Before version 10 all of a table was in use: that is what 0 says, in the settings and in every line. */
function wholeTables(_: OldRecord, view: DataView, base: number): void {
  SettingsRecord.setLevels4(view, base, 0)
  SettingsRecord.setLevels6(view, base, 0)
}

/** Next hops are looked up anew; where packets are translated to, other records say. */
const GONE = ['new_port', 'mtu', 'hop_epoch', 'dmac', 'smac', 'ifindex', 'gateway']
const BEFORE_10: Conversion = {
  records: { settings: wholeTables, connections4: connection, connections6: connection },
  forgets: [
    ...['pm_conn4', 'pm_conn6'].flatMap((record) => [
      ...GONE.map((field) => `${record}.c.${field}`),
      ...['kind', 'method', 'flags'].map((field) => `${record}.c.${field}`),
      `${record}.new_addr`,
    ]),
    // Nothing is placed by it: there are more schedulers now.
    'PM_SCHEDULER_MAX',
    'PM_CONN_GENERATIONS',
    'PM_CONN_HOP',
    'PM_CONN_HOPS',
  ],
}

const BEFORE_7: Conversion = {
  records: { ...BEFORE_10.records, connections4: connectionWord, connections6: connectionWord },
  forgets: [
    ...BEFORE_10.forgets!,
    // Their meaning is in the word now; how many packets a line has seen was asked for by nobody.
    'pm_conn4.c.state',
    'pm_conn6.c.state',
    'pm_conn4.c.packets',
    'pm_conn6.c.packets',
    // A second's budget of ICMP errors begins anew.
    'pm_settings.icmp_second',
    'pm_settings.icmp_sent',
    'PM_CONN_GENERATION',
  ],
}

/** By PM_LAYOUT_VERSION of the maps that are carried over. */
export const CONVERSIONS: { readonly [version: number]: Conversion } = {
  4: BEFORE_7,
  5: BEFORE_7,
  6: BEFORE_7,
  7: BEFORE_10,
  8: BEFORE_10,
  9: BEFORE_10,
}

/**
 * Two programs may have changed one record while a running director is moved to new maps: the old one
 * since the record was copied, the new one since it took over. Where only one of them has changed a field,
 * its value counts; these fields know more.
 */
export const MERGES = {
  /** What happened on both sides adds up. */
  sums: new Set([
    'counters conns',
    'counters in_packets',
    'counters in_bytes',
    'counters out_packets',
    'counters out_bytes',
    'verdicts value',
    'live active',
    'live inactive',
    'live persistent',
  ]),
  /** Times: the later one. */
  later: new Set(['connections4 c.expires', 'connections6 c.expires']),
  /** Changed by both, the record is two different things by now: the new program's stays. */
  identities: new Set(['connections4 c.word', 'connections6 c.word']),
} as const
