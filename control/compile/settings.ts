/** The one record of settings: timeouts and sysctls as the packet program reads them. */

import type { MapMemory } from '../../dataplane/dataplane.ts'
import {
  PM_LAYOUT_VERSION,
  PM_TICK_SHIFT,
  PM_TIMEOUT_INITIAL,
  PM_TIMEOUT_LBLC,
  PM_TIMEOUT_LBLCR,
  PM_TIMEOUT_UDP,
  Setting,
  SettingsRecord,
  TcpState,
} from '../../dataplane/layout/layout.gen.ts'
import type { Family } from '../../net/address.ts'
import type { Timeouts } from '../model/timeouts.ts'
import type { Host } from '../rules/host.ts'
import type { ServiceKinds } from '../rules/rules.ts'
import { anyMarks } from './marks.ts'

const TICK_MS = 2 ** PM_TICK_SHIFT / 1e6

export function ticksOfSeconds(seconds: number): number {
  return Math.round((seconds * 1000) / TICK_MS)
}

export function secondsOfTicks(ticks: number): number {
  return Math.round((ticks * TICK_MS) / 1000)
}

export function msOfTicks(ticks: number): number {
  return ticks * TICK_MS
}

/** Seconds by TCP state (Linux 6.1); ESTABLISHED and FIN_WAIT are what `ipvsadm --set` changes. */
const TCP_TIMEOUTS_S: readonly (readonly [number, number])[] = [
  [TcpState.None, 2],
  [TcpState.SynSent, 120],
  [TcpState.SynRecv, 60],
  [TcpState.TimeWait, 120],
  [TcpState.Close, 10],
  [TcpState.CloseWait, 60],
  [TcpState.LastAck, 30],
  [TcpState.Listen, 120],
  [TcpState.Synack, 120],
]
/** Before the first state change. */
const INITIAL_S = 3

/** Half of what ticks can tell apart. */
const REMEMBERED_MAX_S = Math.floor(secondsOfTicks(2 ** 31 - 1))

/** What the defence sysctls come to under the memory there is. */
export interface Defence {
  /** Every n-th new connection is dropped, 0: none. */
  readonly dropRate: number
  readonly secureTcp: boolean
}

/**
 * The defence modes: 1 and 2 act when memory is low, 3 always. Evaluated once a second, as IPVS does.
 * @param availablePages null where it is unknown: then it counts as enough.
 */
export function defence(sysctls: Readonly<Record<string, number>>, availablePages: number | null): Defence {
  const threshold = sysctls.amemthresh ?? 0
  const low = availablePages !== null && availablePages < threshold
  const auto = (mode: number): boolean => (mode === 1 || mode === 2) && low
  const dropPacket = sysctls.drop_packet ?? 0
  const secureTcp = sysctls.secure_tcp ?? 0
  let dropRate = 0
  if (dropPacket === 3) dropRate = sysctls.am_droprate ?? 0
  else if (auto(dropPacket)) dropRate = Math.floor(threshold / (threshold - (availablePages ?? 0)))
  return { dropRate, secureTcp: secureTcp === 3 || auto(secureTcp) }
}

/** What else packets are asked for, because somebody uses it. */
export interface InUse {
  /** Which half of the marking rules is in use. */
  readonly marks: number
  /**
   * The maps hold a service of a mark, at least for its connections: marking rules are about prefixes, so the
   * filter of endpoints knows neither end of their packets.
   */
  readonly marksHeld: boolean
  /** Some prefix is denied or allowed. */
  readonly filters: boolean
  /** Some service has a limit for each source. */
  readonly limits: boolean
  /** The program sees what real servers on this host send. */
  readonly answers: boolean
  /** Something beside the program cuts what it cannot. */
  readonly cuts: boolean
  /** Traffic control keeps fragments until their datagram is whole. */
  readonly gathers: boolean
  /** Index in `reals` of what connections have that go on to where they are for; null: there are none. */
  readonly bypass: number | null
  /** The host's own sockets are led to the program. */
  readonly own: boolean
  /** Some service is tracked just enough, or was until lately. */
  readonly untracked: boolean
  /** How many addresses of each family full NAT has. */
  readonly fullNat: number
}

/** Words of the record that the daemon owns, by index. */
export function settingsWords(
  timeouts: Timeouts,
  sysctls: Readonly<Record<string, number>>,
  kinds: ServiceKinds,
  state: Defence,
  host: Pick<Host, 'sysctl'>,
  use: InUse,
): ReadonlyMap<number, number> {
  const { offsets } = SettingsRecord
  const words = new Map<number, number>()
  const set = (offset: number, value: number): void => void words.set(offset / 4, value >>> 0)
  const timeout = (index: number, seconds: number): void =>
    set(offsets.timeouts + index * 4, ticksOfSeconds(seconds))

  set(offsets.layout, PM_LAYOUT_VERSION)
  for (const [tcpState, seconds] of TCP_TIMEOUTS_S) timeout(tcpState, seconds)
  timeout(TcpState.Established, timeouts.tcp)
  timeout(TcpState.FinWait, timeouts.tcpFin)
  timeout(PM_TIMEOUT_UDP, timeouts.udp)
  timeout(PM_TIMEOUT_INITIAL, INITIAL_S)
  const remembered = (seconds = 86_400): number => Math.min(seconds, REMEMBERED_MAX_S)
  timeout(PM_TIMEOUT_LBLC, remembered(sysctls.lblc_expiration))
  timeout(PM_TIMEOUT_LBLCR, remembered(sysctls.lblcr_expiration))

  const on = (condition: boolean | number | undefined, bit: number): number => (condition ? bit : 0)
  set(
    offsets.flags,
    Setting.Ready |
      on(!use.marksHeld, Setting.Interest) |
      on(kinds.v4, Setting.V4) |
      on(kinds.v6, Setting.V6) |
      on(kinds.port0, Setting.Port0) |
      on(kinds.ftp, Setting.Ftp) |
      on(sysctls.sloppy_tcp, Setting.SloppyTcp) |
      on(sysctls.sloppy_sctp, Setting.SloppySctp) |
      on(sysctls.expire_nodest_conn, Setting.ExpireNodest) |
      on(sysctls.expire_quiescent_template, Setting.ExpireQuiescent) |
      on(sysctls.pmtu_disc === 0, Setting.NoPmtuDisc) |
      on(sysctls.nat_icmp_send, Setting.NatIcmpSend) |
      on(sysctls.schedule_icmp, Setting.ScheduleIcmp) |
      on(kinds.fwmark > 0 && anyMarks(use.marks), Setting.Marks) |
      on(use.filters, Setting.Filters) |
      on(use.limits, Setting.Limits) |
      on(use.answers, Setting.Answers) |
      on(use.own, Setting.Own) |
      on(use.cuts, Setting.Cuts) |
      on(use.untracked, Setting.Untracked) |
      on(use.gathers, Setting.Datagrams) |
      on(use.bypass !== null, Setting.Bypass) |
      on(kinds.engines, Setting.Engines) |
      on(state.secureTcp, Setting.SecureTcp),
  )
  set(offsets.marks, use.marks)
  set(offsets.bypass, use.bypass ?? 0)
  set(offsets.fullNat, use.fullNat)
  set(offsets.reuseMode, sysctls.conn_reuse_mode ?? 1)
  set(offsets.dropRate, state.dropRate)
  set(offsets.unprivilegedPort, host.sysctl('net/ipv4/ip_unprivileged_port_start') ?? 1024)
  set(offsets.answerIntervals, (answerInterval(host, 4) | (answerInterval(host, 6) << 16)) >>> 0)
  // The budget the kernel gives itself for ICMP errors; 0 means none there, without limit here.
  set(offsets.icmpPerSecond, Math.max(1, host.sysctl('net/ipv4/icmp_msgs_per_sec') ?? 1000))
  return words
}

/**
 * Ticks between two ICMP errors to one destination; 0: any number. By IPv6 the kernel gives those by a default route,
 * as clients of the Internet are, sixteen times as many.
 */
function answerInterval(host: Pick<Host, 'sysctl'>, family: Family): number {
  const ms = host.sysctl(family === 4 ? 'net/ipv4/icmp_ratelimit' : 'net/ipv6/icmp/ratelimit') ?? 1000
  const ticks = ((family === 4 ? ms : ms / 16) * 1e6) / 2 ** PM_TICK_SHIFT
  return ms <= 0 ? 0 : Math.min(0xffff, Math.max(1, Math.round(ticks)))
}

/** Stores what differs; flags last, they say that the rest may be relied on. */
export function publishSettings(map: MapMemory, words: ReadonlyMap<number, number>): void {
  const flags = SettingsRecord.offsets.flags / 4
  for (const [word, value] of words) {
    if (word !== flags && map.u32[word] !== value) Atomics.store(map.u32, word, value)
  }
  const value = words.get(flags)
  if (value !== undefined && map.u32[flags] !== value) Atomics.store(map.u32, flags, value)
}

/** Timeouts in force in the maps; null while nothing was ever published. */
export function publishedTimeouts(map: MapMemory): Timeouts | null {
  const at = (index: number): number => secondsOfTicks(map.u32[SettingsRecord.offsets.timeouts / 4 + index]!)
  if ((map.u32[SettingsRecord.offsets.flags / 4]! & Setting.Ready) === 0) return null
  return { tcp: at(TcpState.Established), tcpFin: at(TcpState.FinWait), udp: at(PM_TIMEOUT_UDP) }
}

/** Whether the packet program looks for NAT real servers, as published. */
export function publishedNatSenders(map: MapMemory): boolean {
  return (map.u32[SettingsRecord.offsets.flags / 4]! & (Setting.NatIcmpSend | Setting.Engines)) !== 0
}

/** Routes or neighbours have changed: cached next hops are looked up again. */
export function bumpNextHopEpoch(map: MapMemory): void {
  Atomics.add(map.u32, SettingsRecord.offsets.nextHopEpoch / 4, 1)
}
