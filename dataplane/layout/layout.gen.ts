/**
 * Generated from the packet program's BTF by scripts/generate.ts: do not edit. After a change of
 * bpf/types.h or bpf/maps.h: npm run generate.
 *
 * Multi-byte fields are in host order (little-endian) unless the C type is __be16 or __be32, which
 * are read as the number on the wire. 64-bit fields are bigints, byte arrays are copies. Padding is
 * left out of decoded records and written as zero.
 */
import type { RecordLayout } from './record.ts'

export const PM_LAYOUT_VERSION = 12
export const PM_NONE = 0xffffffff
export const PM_TICK_SHIFT = 23
export const PM_SERVICE_SCHED = 0x38
export const PM_TIMEOUTS = 16
export const PM_TIMEOUT_UDP = 11
export const PM_TIMEOUT_INITIAL = 12
export const PM_TIMEOUT_LBLC = 14
export const PM_TIMEOUT_LBLCR = 15
export const PM_FULL_NATS = 64
export const PM_FULL_NAT_COUNT = 0xff
export const PM_FULL_NAT_SHIFT = 8
export const PM_INTERFACES = 64
export const PM_INTERFACE_PROBES = 4
export const PM_INTERFACE_MACS = 14
export const PM_MAC_BUCKETS = 1024
export const PM_MAC_BUCKET = 8
export const PM_EGRESSES = 1024
export const PM_EGRESS_PROBES = 8
export const PM_SCHEDULE_ACTIVE = 0x100
export const PM_BRACKET_MAX = 17
export const PM_BRACKET_CHALLENGES_SHIFT = 12
export const PM_SEAT_STEADY = 0x80000000
export const PM_NEIGHBOURS = 32768
export const PM_NEIGHBOUR_BUCKET = 8
export const PM_NEIGHBOUR_CHECK4 = 1
export const PM_NEIGHBOUR_CHECK6 = 2
export const PM_NEIGHBOUR_OWN = 3
export const PM_NEIGHBOUR_SERVE = 4
export const PM_LOCALITIES = 16384
export const PM_LOCALITY_REALS = 8
export const PM_BUCKET = 8
export const PM_LOCALS = 128
export const PM_FRAGMENTS = 4096
export const PM_NOTES = 4
export const PM_INTEREST_BITS = 524288
export const PM_INTEREST_WORDS = 8192
export const PM_MARK_HALF = 1
export const PM_MARK_KINDS4_SHIFT = 8
export const PM_MARK_KINDS6_SHIFT = 16
export const PM_MARK_KINDS = 128
export const PM_MARK_RULES = 10240
export const PM_MARK_BUCKETS = 2048
export const PM_MARK_SPANS = 20480
export const PM_FILTER_BUCKET = 4
export const PM_ANSWER_BUCKET = 8
export const PM_ANSWER_BUCKETS = 2048
export const PM_CALL_IDS = 8192
export const PM_CALL_ID_MAX = 255
export const PM_CALL_ID_IPV6 = 0x80000000
export const PM_SOURCES = 32768
export const PM_CONN_STATUS = 3
export const PM_CONN_STATE_SHIFT = 2
export const PM_CONN_STATE_MASK = 15
export const PM_CONN_CLASS_SHIFT = 6
export const PM_CONN_CLASS_MASK = 3
export const PM_CONN_ACTIVE = 0x100
export const PM_CONN_INPUT_ONLY = 0x200
export const PM_CONN_HELD = 0x400
export const PM_CONN_GENERATION = 0x800
export const PM_CONN_GENERATIONS = 0x00fff800
export const PM_CONN_EPOCHS = 0x1f000000
export const PM_CONN_EPOCH_SHIFT = 24
export const PM_CONN_HOLD = 0x20000000
export const PM_CONN_HOLDS = 0xe0000000
export const PM_CONN_KIND_MASK = 3
export const PM_CONN_METHOD_SHIFT = 2
export const PM_CONN_METHOD_MASK = 3
export const PM_TEMPLATE_STAYS = 0x80000000
export const PM_TEMPLATE_AGAIN = 7153
export const PM_WAYS = 4
export const PM_CONTROL_OPEN = 0x80000000
export const PM_LEVEL = 31
export const PM_LEVELS_SHIFT = 5
export const PM_LEVELS = 27
export const PM_LEVEL_STEP = 2
export const PM_LINES_LEAST = 16384
export const PM_HEADROOM = 128
export const PM_XSK_ENTRIES = 2048
export const PM_CHUNK = 4096
export const PM_VERDICT_MAX = 128
export const PM_SCHEDULER_MAX = 17
export const PM_TCP_STATE_MAX = 11
export const PM_SCTP_STATE_MAX = 14

/** enum pm_verdict */
export const Verdict = {
  Continue: 0,
  PassNotIp: 1,
  PassNotForHost: 2,
  PassVlan: 3,
  PassMalformed: 4,
  PassProtocol: 5,
  PassIcmp: 6,
  PassFragment: 7,
  PassNoService: 8,
  PassNotFirst: 9,
  PassMartianSource: 10,
  PassFtpData: 11,
  PassLocalNode: 12,
  PassReplyTtl: 13,
  PassReplyMtu: 14,
  PassReply: 15,
  PassNotConfigured: 16,
  PassNoRouteReply: 17,
  PassUnsupported: 18,
  PassEgress: 19,
  ForwardNat: 32,
  ForwardNatReply: 33,
  ForwardDr: 34,
  ForwardTun: 35,
  ForwardIcmp: 36,
  ForwardIcmpReply: 37,
  ForwardReply: 38,
  AnswerPortUnreachable: 40,
  AnswerTimeExceeded: 41,
  AnswerTooBig: 42,
  AnswerHostUnreachable: 43,
  DropAnswerLimit: 48,
  DropRealServerGone: 49,
  DropTableFull: 50,
  DropNextHopUnresolved: 51,
  DropForwardingOff: 52,
  DropNoRoute: 53,
  DropHeadroom: 54,
  DropFragmentation: 55,
  DropDefence: 56,
  DropMap: 57,
  DropNoTunnelSource: 58,
  DropAnswerFailed: 59,
  DropTx: 60,
  DropRing: 61,
  WantPayload: 62,
  WantDatagram: 63,
  DropIcmpChecksum: 64,
  DropIcmpTtl: 65,
  DropEgress: 66,
  DropChecksumLimit: 67,
  DropConnectionBusy: 68,
  DropIcmpTaken: 80,
  DropFragmentEarly: 82,
  DropFragmentOverlap: 83,
  DropFragmentShort: 84,
  DropFragmentRefused: 85,
  DropFragmentAlone: 86,
  DropFragmentTable: 87,
  DropFragmentIncomplete: 88,
  DropNoRealServer: 81,
  WantCut: 71,
  DropDenied: 72,
  DropRate: 73,
  DropConnections: 74,
  DropPortsTaken: 76,
  DropNoCallId: 77,
  EvictedEnded: 96,
  EvictedHalfOpen: 97,
  EvictedUnanswered: 98,
  EvictedIdle: 99,
  ExpiredByPacket: 100,
  ForgotSource: 102,
  RepairedCount: 101,
} as const
export type Verdict = (typeof Verdict)[keyof typeof Verdict]

export const verdictNames: { readonly [value: number]: string } = {
  0: 'continue',
  1: 'pass_not_ip',
  2: 'pass_not_for_host',
  3: 'pass_vlan',
  4: 'pass_malformed',
  5: 'pass_protocol',
  6: 'pass_icmp',
  7: 'pass_fragment',
  8: 'pass_no_service',
  9: 'pass_not_first',
  10: 'pass_martian_source',
  11: 'pass_ftp_data',
  12: 'pass_local_node',
  13: 'pass_reply_ttl',
  14: 'pass_reply_mtu',
  15: 'pass_reply',
  16: 'pass_not_configured',
  17: 'pass_no_route_reply',
  18: 'pass_unsupported',
  19: 'pass_egress',
  32: 'forward_nat',
  33: 'forward_nat_reply',
  34: 'forward_dr',
  35: 'forward_tun',
  36: 'forward_icmp',
  37: 'forward_icmp_reply',
  38: 'forward_reply',
  40: 'answer_port_unreachable',
  41: 'answer_time_exceeded',
  42: 'answer_too_big',
  43: 'answer_host_unreachable',
  48: 'drop_answer_limit',
  49: 'drop_real_server_gone',
  50: 'drop_table_full',
  51: 'drop_next_hop_unresolved',
  52: 'drop_forwarding_off',
  53: 'drop_no_route',
  54: 'drop_headroom',
  55: 'drop_fragmentation',
  56: 'drop_defence',
  57: 'drop_map',
  58: 'drop_no_tunnel_source',
  59: 'drop_answer_failed',
  60: 'drop_tx',
  61: 'drop_ring',
  62: 'want_payload',
  63: 'want_datagram',
  64: 'drop_icmp_checksum',
  65: 'drop_icmp_ttl',
  66: 'drop_egress',
  67: 'drop_checksum_limit',
  68: 'drop_connection_busy',
  80: 'drop_icmp_taken',
  82: 'drop_fragment_early',
  83: 'drop_fragment_overlap',
  84: 'drop_fragment_short',
  85: 'drop_fragment_refused',
  86: 'drop_fragment_alone',
  87: 'drop_fragment_table',
  88: 'drop_fragment_incomplete',
  81: 'drop_no_real_server',
  71: 'want_cut',
  72: 'drop_denied',
  73: 'drop_rate',
  74: 'drop_connections',
  76: 'drop_ports_taken',
  77: 'drop_no_call_id',
  96: 'evicted_ended',
  97: 'evicted_half_open',
  98: 'evicted_unanswered',
  99: 'evicted_idle',
  100: 'expired_by_packet',
  102: 'forgot_source',
  101: 'repaired_count',
}

/** enum pm_action */
export const Action = {
  Pass: 0,
  Drop: 1,
  Send: 2,
  Again: 3,
} as const
export type Action = (typeof Action)[keyof typeof Action]

export const actionNames: { readonly [value: number]: string } = {
  0: 'pass',
  1: 'drop',
  2: 'send',
  3: 'again',
}

/** enum pm_method */
export const Method = {
  Nat: 0,
  FullNat: 1,
  Tun: 2,
  Dr: 3,
  Bypass: 4,
} as const
export type Method = (typeof Method)[keyof typeof Method]

export const methodNames: { readonly [value: number]: string } = {
  0: 'nat',
  1: 'full_nat',
  2: 'tun',
  3: 'dr',
  4: 'bypass',
}

/** enum pm_tunnel */
export const Tunnel = {
  Ipip: 0,
  Gue: 1,
  Gre: 2,
} as const
export type Tunnel = (typeof Tunnel)[keyof typeof Tunnel]

export const tunnelNames: { readonly [value: number]: string } = {
  0: 'ipip',
  1: 'gue',
  2: 'gre',
}

/** enum pm_tunnel_flag */
export const TunnelFlag = {
  Nocsum: 0,
  Csum: 1,
  Remcsum: 2,
} as const
export type TunnelFlag = (typeof TunnelFlag)[keyof typeof TunnelFlag]

export const tunnelFlagNames: { readonly [value: number]: string } = {
  0: 'nocsum',
  1: 'csum',
  2: 'remcsum',
}

/** enum pm_scheduler */
export const Scheduler = {
  None: 0,
  Rr: 1,
  Wrr: 2,
  Lc: 3,
  Wlc: 4,
  Lblc: 5,
  Lblcr: 6,
  Dh: 7,
  Sh: 8,
  Sed: 9,
  Nq: 10,
  Fo: 11,
  Ovf: 12,
  Mh: 13,
  Twos: 14,
  Random: 15,
  Wrandom: 16,
} as const
export type Scheduler = (typeof Scheduler)[keyof typeof Scheduler]

export const schedulerNames: { readonly [value: number]: string } = {
  0: 'none',
  1: 'rr',
  2: 'wrr',
  3: 'lc',
  4: 'wlc',
  5: 'lblc',
  6: 'lblcr',
  7: 'dh',
  8: 'sh',
  9: 'sed',
  10: 'nq',
  11: 'fo',
  12: 'ovf',
  13: 'mh',
  14: 'twos',
  15: 'random',
  16: 'wrandom',
}

/** enum pm_service_flag */
export const ServiceFlag = {
  Persistent: 1,
  OnePacket: 4,
  Sched1: 8,
  Sched2: 16,
  Sched3: 32,
  Untracked: 65536,
} as const
export type ServiceFlag = (typeof ServiceFlag)[keyof typeof ServiceFlag]

export const serviceFlagNames: { readonly [value: number]: string } = {
  1: 'persistent',
  4: 'one_packet',
  8: 'sched_1',
  16: 'sched_2',
  32: 'sched_3',
  65536: 'untracked',
}

/** enum pm_engine */
export const Engine = {
  None: 0,
  Sip: 1,
} as const
export type Engine = (typeof Engine)[keyof typeof Engine]

export const engineNames: { readonly [value: number]: string } = {
  0: 'none',
  1: 'sip',
}

/** enum pm_slot */
export const Slot = {
  Free: 0,
  Live: 1,
  Gone: 2,
} as const
export type Slot = (typeof Slot)[keyof typeof Slot]

export const slotNames: { readonly [value: number]: string } = {
  0: 'free',
  1: 'live',
  2: 'gone',
}

/** enum pm_tcp_state */
export const TcpState = {
  None: 0,
  Established: 1,
  SynSent: 2,
  SynRecv: 3,
  FinWait: 4,
  TimeWait: 5,
  Close: 6,
  CloseWait: 7,
  LastAck: 8,
  Listen: 9,
  Synack: 10,
} as const
export type TcpState = (typeof TcpState)[keyof typeof TcpState]

export const tcpStateNames: { readonly [value: number]: string } = {
  0: 'none',
  1: 'established',
  2: 'syn_sent',
  3: 'syn_recv',
  4: 'fin_wait',
  5: 'time_wait',
  6: 'close',
  7: 'close_wait',
  8: 'last_ack',
  9: 'listen',
  10: 'synack',
}

/** enum pm_sctp_state */
export const SctpState = {
  None: 0,
  Init1: 1,
  Init: 2,
  CSent: 3,
  CReplied: 4,
  CWait: 5,
  Cookie: 6,
  CEchoed: 7,
  Established: 8,
  SSent: 9,
  SReceived: 10,
  SAckSent: 11,
  Rejected: 12,
  Closed: 13,
} as const
export type SctpState = (typeof SctpState)[keyof typeof SctpState]

export const sctpStateNames: { readonly [value: number]: string } = {
  0: 'none',
  1: 'init1',
  2: 'init',
  3: 'c_sent',
  4: 'c_replied',
  5: 'c_wait',
  6: 'cookie',
  7: 'c_echoed',
  8: 'established',
  9: 's_sent',
  10: 's_received',
  11: 's_ack_sent',
  12: 'rejected',
  13: 'closed',
}

/** enum pm_setting */
export const Setting = {
  Ready: 1,
  Port0: 2,
  SloppyTcp: 4,
  ExpireNodest: 8,
  SecureTcp: 16,
  NoPmtuDisc: 32,
  Ftp: 64,
  V4: 128,
  V6: 256,
  NatIcmpSend: 1024,
  ScheduleIcmp: 4096,
  Interest: 2048,
  Marks: 8192,
  ExpireQuiescent: 16384,
  Filters: 32768,
  SloppySctp: 262144,
  Limits: 65536,
  Answers: 131072,
  Cuts: 1048576,
  Own: 524288,
  Untracked: 2097152,
  Datagrams: 4194304,
  Bypass: 8388608,
  Engines: 16777216,
} as const
export type Setting = (typeof Setting)[keyof typeof Setting]

export const settingNames: { readonly [value: number]: string } = {
  1: 'ready',
  2: 'port0',
  4: 'sloppy_tcp',
  8: 'expire_nodest',
  16: 'secure_tcp',
  32: 'no_pmtu_disc',
  64: 'ftp',
  128: 'v4',
  256: 'v6',
  1024: 'nat_icmp_send',
  4096: 'schedule_icmp',
  2048: 'interest',
  8192: 'marks',
  16384: 'expire_quiescent',
  32768: 'filters',
  262144: 'sloppy_sctp',
  65536: 'limits',
  131072: 'answers',
  1048576: 'cuts',
  524288: 'own',
  2097152: 'untracked',
  4194304: 'datagrams',
  8388608: 'bypass',
  16777216: 'engines',
}

/** enum pm_egress_flag */
export const EgressFlag = {
  NoRedirect: 1,
  NoTurn: 2,
  NoEthernet: 4,
  Generic: 8,
  Relay: 16,
} as const
export type EgressFlag = (typeof EgressFlag)[keyof typeof EgressFlag]

export const egressFlagNames: { readonly [value: number]: string } = {
  1: 'no_redirect',
  2: 'no_turn',
  4: 'no_ethernet',
  8: 'generic',
  16: 'relay',
}

/** enum pm_real_flag */
export const RealFlag = {
  Local: 1,
  AnyPort: 2,
  Bypass: 4,
} as const
export type RealFlag = (typeof RealFlag)[keyof typeof RealFlag]

export const realFlagNames: { readonly [value: number]: string } = {
  1: 'local',
  2: 'any_port',
  4: 'bypass',
}

/** enum pm_fate */
export const Fate = {
  None: 0,
  Follow: 1,
  Done: 2,
  Pass: 3,
  Refused: 4,
  Spoiled: 5,
} as const
export type Fate = (typeof Fate)[keyof typeof Fate]

export const fateNames: { readonly [value: number]: string } = {
  0: 'none',
  1: 'follow',
  2: 'done',
  3: 'pass',
  4: 'refused',
  5: 'spoiled',
}

/** enum pm_mark_field */
export const MarkField = {
  Protocol: 1,
  Interface: 2,
} as const
export type MarkField = (typeof MarkField)[keyof typeof MarkField]

export const markFieldNames: { readonly [value: number]: string } = {
  1: 'protocol',
  2: 'interface',
}

/** enum pm_filter_verdict */
export const FilterVerdict = {
  Allow: 1,
  Deny: 2,
} as const
export type FilterVerdict = (typeof FilterVerdict)[keyof typeof FilterVerdict]

export const filterVerdictNames: { readonly [value: number]: string } = {
  1: 'allow',
  2: 'deny',
}

/** enum pm_conn_status */
export const ConnStatus = {
  Clean: 0,
  Freed: 1,
  Claimed: 2,
  Live: 3,
} as const
export type ConnStatus = (typeof ConnStatus)[keyof typeof ConnStatus]

export const connStatusNames: { readonly [value: number]: string } = {
  0: 'clean',
  1: 'freed',
  2: 'claimed',
  3: 'live',
}

/** enum pm_conn_class */
export const ConnClass = {
  New: 0,
  Returned: 1,
  Answered: 2,
} as const
export type ConnClass = (typeof ConnClass)[keyof typeof ConnClass]

export const connClassNames: { readonly [value: number]: string } = {
  0: 'new',
  1: 'returned',
  2: 'answered',
}

/** enum pm_conn_kind */
export const ConnKind = {
  In: 0,
  Reply: 1,
  Template: 2,
} as const
export type ConnKind = (typeof ConnKind)[keyof typeof ConnKind]

export const connKindNames: { readonly [value: number]: string } = {
  0: 'in',
  1: 'reply',
  2: 'template',
}

/** enum pm_conn_flag */
export const ConnFlag = {
  OtherPort: 16,
  OnePacket: 32,
  Controlled: 64,
  Check: 128,
} as const
export type ConnFlag = (typeof ConnFlag)[keyof typeof ConnFlag]

export const connFlagNames: { readonly [value: number]: string } = {
  16: 'other_port',
  32: 'one_packet',
  64: 'controlled',
  128: 'check',
}

/** enum pm_template_state */
export const TemplateState = {
  Assured: 1,
  Lapsed: 2,
  Prolonged: 4,
  Source: 8,
} as const
export type TemplateState = (typeof TemplateState)[keyof typeof TemplateState]

export const templateStateNames: { readonly [value: number]: string } = {
  1: 'assured',
  2: 'lapsed',
  4: 'prolonged',
  8: 'source',
}

/** enum pm_job_flag */
export const JobFlag = {
  PartialCsum: 1,
  Resumed: 2,
  Connected: 4,
  Waits: 8,
  Cuts: 16,
} as const
export type JobFlag = (typeof JobFlag)[keyof typeof JobFlag]

export const jobFlagNames: { readonly [value: number]: string } = {
  1: 'partial_csum',
  2: 'resumed',
  4: 'connected',
  8: 'waits',
  16: 'cuts',
}

/** enum pm_fib_result */
export const FibResult = {
  Ok: 0,
  Local: 1,
  NoRoute: 2,
  NoNeighbour: 3,
  ForwardingOff: 4,
  StackOnly: 5,
  Old: 6,
} as const
export type FibResult = (typeof FibResult)[keyof typeof FibResult]

export const fibResultNames: { readonly [value: number]: string } = {
  0: 'ok',
  1: 'local',
  2: 'no_route',
  3: 'no_neighbour',
  4: 'forwarding_off',
  5: 'stack_only',
  6: 'old',
}

/** struct pm_settings, 192 bytes. */
export interface SettingsRecord {
  readonly layout: number
  readonly flags: number
  readonly nextHopEpoch: number
  readonly reuseMode: number
  readonly timeouts: readonly number[]
  readonly dropRate: number
  readonly unprivilegedPort: number
  readonly icmpPerSecond: number
  readonly hashSeed: number
  readonly swept: number
  readonly levels4: number
  readonly levels6: number
  readonly fingerprint: readonly number[]
  readonly pathsLearnt: number
  readonly marks: number
  readonly answerIntervals: number
  readonly icmpBudget: bigint
  readonly dropCount: number
  readonly moves: number
  readonly bypass: number
  readonly fullNat: number
}

export const SettingsRecord = {
  size: 192,
  offsets: {
    layout: 0,
    flags: 4,
    nextHopEpoch: 8,
    reuseMode: 12,
    timeouts: 16,
    dropRate: 80,
    unprivilegedPort: 84,
    icmpPerSecond: 88,
    hashSeed: 92,
    swept: 96,
    levels4: 100,
    levels6: 104,
    fingerprint: 108,
    pathsLearnt: 116,
    marks: 120,
    answerIntervals: 124,
    icmpBudget: 128,
    dropCount: 136,
    moves: 140,
    bypass: 144,
    fullNat: 148,
  },
  read(view: DataView, base: number): SettingsRecord {
    return {
      layout: view.getUint32(base + 0, true),
      flags: view.getUint32(base + 4, true),
      nextHopEpoch: view.getUint32(base + 8, true),
      reuseMode: view.getUint32(base + 12, true),
      timeouts: Array.from({ length: 16 }, (_, index) => view.getUint32(base + 16 + index * 4, true)),
      dropRate: view.getUint32(base + 80, true),
      unprivilegedPort: view.getUint32(base + 84, true),
      icmpPerSecond: view.getUint32(base + 88, true),
      hashSeed: view.getUint32(base + 92, true),
      swept: view.getUint32(base + 96, true),
      levels4: view.getUint32(base + 100, true),
      levels6: view.getUint32(base + 104, true),
      fingerprint: Array.from({ length: 2 }, (_, index) => view.getUint32(base + 108 + index * 4, true)),
      pathsLearnt: view.getUint32(base + 116, true),
      marks: view.getUint32(base + 120, true),
      answerIntervals: view.getUint32(base + 124, true),
      icmpBudget: view.getBigUint64(base + 128, true),
      dropCount: view.getUint32(base + 136, true),
      moves: view.getUint32(base + 140, true),
      bypass: view.getUint32(base + 144, true),
      fullNat: view.getUint32(base + 148, true),
    }
  },
  write(view: DataView, base: number, value: SettingsRecord): void {
    view.setUint32(base + 0, value.layout, true)
    view.setUint32(base + 4, value.flags, true)
    view.setUint32(base + 8, value.nextHopEpoch, true)
    view.setUint32(base + 12, value.reuseMode, true)
    elements('SettingsRecord.timeouts', 16, value.timeouts, (item, index) => view.setUint32(base + 16 + index * 4, item, true))
    view.setUint32(base + 80, value.dropRate, true)
    view.setUint32(base + 84, value.unprivilegedPort, true)
    view.setUint32(base + 88, value.icmpPerSecond, true)
    view.setUint32(base + 92, value.hashSeed, true)
    view.setUint32(base + 96, value.swept, true)
    view.setUint32(base + 100, value.levels4, true)
    view.setUint32(base + 104, value.levels6, true)
    elements('SettingsRecord.fingerprint', 2, value.fingerprint, (item, index) => view.setUint32(base + 108 + index * 4, item, true))
    view.setUint32(base + 116, value.pathsLearnt, true)
    view.setUint32(base + 120, value.marks, true)
    view.setUint32(base + 124, value.answerIntervals, true)
    view.setBigUint64(base + 128, value.icmpBudget, true)
    view.setUint32(base + 136, value.dropCount, true)
    view.setUint32(base + 140, value.moves, true)
    view.setUint32(base + 144, value.bypass, true)
    view.setUint32(base + 148, value.fullNat, true)
    clear(view, base + 152, 40)
  },
  getLayout: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setLayout: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getFlags: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setFlags: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getNextHopEpoch: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setNextHopEpoch: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getReuseMode: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setReuseMode: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getTimeouts: (view: DataView, base: number, index: number): number => view.getUint32(base + 16 + element('SettingsRecord.timeouts', 16, index) * 4, true),
  setTimeouts: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 16 + element('SettingsRecord.timeouts', 16, index) * 4, value, true),
  getDropRate: (view: DataView, base: number): number => view.getUint32(base + 80, true),
  setDropRate: (view: DataView, base: number, value: number): void => view.setUint32(base + 80, value, true),
  getUnprivilegedPort: (view: DataView, base: number): number => view.getUint32(base + 84, true),
  setUnprivilegedPort: (view: DataView, base: number, value: number): void => view.setUint32(base + 84, value, true),
  getIcmpPerSecond: (view: DataView, base: number): number => view.getUint32(base + 88, true),
  setIcmpPerSecond: (view: DataView, base: number, value: number): void => view.setUint32(base + 88, value, true),
  getHashSeed: (view: DataView, base: number): number => view.getUint32(base + 92, true),
  setHashSeed: (view: DataView, base: number, value: number): void => view.setUint32(base + 92, value, true),
  getSwept: (view: DataView, base: number): number => view.getUint32(base + 96, true),
  setSwept: (view: DataView, base: number, value: number): void => view.setUint32(base + 96, value, true),
  getLevels4: (view: DataView, base: number): number => view.getUint32(base + 100, true),
  setLevels4: (view: DataView, base: number, value: number): void => view.setUint32(base + 100, value, true),
  getLevels6: (view: DataView, base: number): number => view.getUint32(base + 104, true),
  setLevels6: (view: DataView, base: number, value: number): void => view.setUint32(base + 104, value, true),
  getFingerprint: (view: DataView, base: number, index: number): number => view.getUint32(base + 108 + element('SettingsRecord.fingerprint', 2, index) * 4, true),
  setFingerprint: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 108 + element('SettingsRecord.fingerprint', 2, index) * 4, value, true),
  getPathsLearnt: (view: DataView, base: number): number => view.getUint32(base + 116, true),
  setPathsLearnt: (view: DataView, base: number, value: number): void => view.setUint32(base + 116, value, true),
  getMarks: (view: DataView, base: number): number => view.getUint32(base + 120, true),
  setMarks: (view: DataView, base: number, value: number): void => view.setUint32(base + 120, value, true),
  getAnswerIntervals: (view: DataView, base: number): number => view.getUint32(base + 124, true),
  setAnswerIntervals: (view: DataView, base: number, value: number): void => view.setUint32(base + 124, value, true),
  getIcmpBudget: (view: DataView, base: number): bigint => view.getBigUint64(base + 128, true),
  setIcmpBudget: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 128, value, true),
  getDropCount: (view: DataView, base: number): number => view.getUint32(base + 136, true),
  setDropCount: (view: DataView, base: number, value: number): void => view.setUint32(base + 136, value, true),
  getMoves: (view: DataView, base: number): number => view.getUint32(base + 140, true),
  setMoves: (view: DataView, base: number, value: number): void => view.setUint32(base + 140, value, true),
  getBypass: (view: DataView, base: number): number => view.getUint32(base + 144, true),
  setBypass: (view: DataView, base: number, value: number): void => view.setUint32(base + 144, value, true),
  getFullNat: (view: DataView, base: number): number => view.getUint32(base + 148, true),
  setFullNat: (view: DataView, base: number, value: number): void => view.setUint32(base + 148, value, true),
} as const

/** struct pm_full_nat, 32 bytes. */
export interface FullNatRecord {
  readonly version: number
  readonly first: number
  readonly ports: number
  readonly addr: readonly number[]
}

export const FullNatRecord = {
  size: 32,
  offsets: {
    version: 0,
    first: 4,
    ports: 6,
    addr: 8,
  },
  read(view: DataView, base: number): FullNatRecord {
    return {
      version: view.getUint32(base + 0, true),
      first: view.getUint16(base + 4, true),
      ports: view.getUint16(base + 6, true),
      addr: Array.from({ length: 4 }, (_, index) => view.getUint32(base + 8 + index * 4, false)),
    }
  },
  write(view: DataView, base: number, value: FullNatRecord): void {
    view.setUint32(base + 0, value.version, true)
    view.setUint16(base + 4, value.first, true)
    view.setUint16(base + 6, value.ports, true)
    elements('FullNatRecord.addr', 4, value.addr, (item, index) => view.setUint32(base + 8 + index * 4, item, false))
    clear(view, base + 24, 8)
  },
  getVersion: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setVersion: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getFirst: (view: DataView, base: number): number => view.getUint16(base + 4, true),
  setFirst: (view: DataView, base: number, value: number): void => view.setUint16(base + 4, value, true),
  getPorts: (view: DataView, base: number): number => view.getUint16(base + 6, true),
  setPorts: (view: DataView, base: number, value: number): void => view.setUint16(base + 6, value, true),
  getAddr: (view: DataView, base: number, index: number): number => view.getUint32(base + 8 + element('FullNatRecord.addr', 4, index) * 4, false),
  setAddr: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 8 + element('FullNatRecord.addr', 4, index) * 4, value, false),
} as const

/** struct pm_cpu_state, 64 bytes. */
export interface CpuStateRecord {
  readonly icmpSecond: number
  readonly icmpLeft: number
  readonly swept: number
  readonly sweep4: number
  readonly sweep6: number
}

export const CpuStateRecord = {
  size: 64,
  offsets: {
    icmpSecond: 0,
    icmpLeft: 4,
    swept: 8,
    sweep4: 12,
    sweep6: 16,
  },
  read(view: DataView, base: number): CpuStateRecord {
    return {
      icmpSecond: view.getUint32(base + 0, true),
      icmpLeft: view.getUint32(base + 4, true),
      swept: view.getUint32(base + 8, true),
      sweep4: view.getUint32(base + 12, true),
      sweep6: view.getUint32(base + 16, true),
    }
  },
  write(view: DataView, base: number, value: CpuStateRecord): void {
    view.setUint32(base + 0, value.icmpSecond, true)
    view.setUint32(base + 4, value.icmpLeft, true)
    view.setUint32(base + 8, value.swept, true)
    view.setUint32(base + 12, value.sweep4, true)
    view.setUint32(base + 16, value.sweep6, true)
    clear(view, base + 20, 44)
  },
  getIcmpSecond: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setIcmpSecond: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getIcmpLeft: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setIcmpLeft: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getSwept: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setSwept: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getSweep4: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setSweep4: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getSweep6: (view: DataView, base: number): number => view.getUint32(base + 16, true),
  setSweep6: (view: DataView, base: number, value: number): void => view.setUint32(base + 16, value, true),
} as const

/** struct pm_interface, 128 bytes. */
export interface InterfaceRecord {
  readonly ifindex: number
  readonly mac: Uint8Array
  readonly macs: number
  readonly mtu: number
  readonly more: readonly bigint[]
}

export const InterfaceRecord = {
  size: 128,
  offsets: {
    ifindex: 0,
    mac: 4,
    macs: 10,
    mtu: 12,
    more: 16,
  },
  read(view: DataView, base: number): InterfaceRecord {
    return {
      ifindex: view.getUint32(base + 0, true),
      mac: copyOf(view, base + 4, 6),
      macs: view.getUint16(base + 10, true),
      mtu: view.getUint32(base + 12, true),
      more: Array.from({ length: 14 }, (_, index) => view.getBigUint64(base + 16 + index * 8, true)),
    }
  },
  write(view: DataView, base: number, value: InterfaceRecord): void {
    view.setUint32(base + 0, value.ifindex, true)
    store(view, base + 4, 6, value.mac, 'InterfaceRecord.mac')
    view.setUint16(base + 10, value.macs, true)
    view.setUint32(base + 12, value.mtu, true)
    elements('InterfaceRecord.more', 14, value.more, (item, index) => view.setBigUint64(base + 16 + index * 8, item, true))
  },
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getMacs: (view: DataView, base: number): number => view.getUint16(base + 10, true),
  setMacs: (view: DataView, base: number, value: number): void => view.setUint16(base + 10, value, true),
  getMtu: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setMtu: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getMore: (view: DataView, base: number, index: number): bigint => view.getBigUint64(base + 16 + element('InterfaceRecord.more', 14, index) * 8, true),
  setMore: (view: DataView, base: number, index: number, value: bigint): void => view.setBigUint64(base + 16 + element('InterfaceRecord.more', 14, index) * 8, value, true),
} as const

/** struct pm_mac_bucket, 64 bytes. */
export interface MacBucketRecord {
  readonly entry: readonly bigint[]
}

export const MacBucketRecord = {
  size: 64,
  offsets: {
    entry: 0,
  },
  read(view: DataView, base: number): MacBucketRecord {
    return {
      entry: Array.from({ length: 8 }, (_, index) => view.getBigUint64(base + 0 + index * 8, true)),
    }
  },
  write(view: DataView, base: number, value: MacBucketRecord): void {
    elements('MacBucketRecord.entry', 8, value.entry, (item, index) => view.setBigUint64(base + 0 + index * 8, item, true))
  },
  getEntry: (view: DataView, base: number, index: number): bigint => view.getBigUint64(base + 0 + element('MacBucketRecord.entry', 8, index) * 8, true),
  setEntry: (view: DataView, base: number, index: number, value: bigint): void => view.setBigUint64(base + 0 + element('MacBucketRecord.entry', 8, index) * 8, value, true),
} as const

/** struct pm_egress, 8 bytes. */
export interface EgressRecord {
  readonly ifindex: number
  readonly flags: number
}

export const EgressRecord = {
  size: 8,
  offsets: {
    ifindex: 0,
    flags: 4,
  },
  read(view: DataView, base: number): EgressRecord {
    return {
      ifindex: view.getUint32(base + 0, true),
      flags: view.getUint32(base + 4, true),
    }
  },
  write(view: DataView, base: number, value: EgressRecord): void {
    view.setUint32(base + 0, value.ifindex, true)
    view.setUint32(base + 4, value.flags, true)
  },
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getFlags: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setFlags: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
} as const

/** struct pm_service, 64 bytes. */
export interface ServiceRecord {
  readonly slot: number
  readonly family: number
  readonly protocol: number
  readonly port: number
  readonly addr: Uint8Array
  readonly fwmark: number
  readonly flags: number
  readonly schedule: number
  readonly timeoutS: number
  readonly netmask: number
  readonly pe: number
  readonly order: number
}

export const ServiceRecord = {
  size: 64,
  offsets: {
    slot: 0,
    family: 4,
    protocol: 5,
    port: 6,
    addr: 8,
    fwmark: 24,
    flags: 28,
    schedule: 32,
    timeoutS: 36,
    netmask: 40,
    pe: 44,
    order: 48,
  },
  read(view: DataView, base: number): ServiceRecord {
    return {
      slot: view.getUint32(base + 0, true),
      family: view.getUint8(base + 4),
      protocol: view.getUint8(base + 5),
      port: view.getUint16(base + 6, false),
      addr: copyOf(view, base + 8, 16),
      fwmark: view.getUint32(base + 24, true),
      flags: view.getUint32(base + 28, true),
      schedule: view.getUint32(base + 32, true),
      timeoutS: view.getUint32(base + 36, true),
      netmask: view.getUint32(base + 40, true),
      pe: view.getUint32(base + 44, true),
      order: view.getUint32(base + 48, true),
    }
  },
  write(view: DataView, base: number, value: ServiceRecord): void {
    view.setUint32(base + 0, value.slot, true)
    view.setUint8(base + 4, value.family)
    view.setUint8(base + 5, value.protocol)
    view.setUint16(base + 6, value.port, false)
    store(view, base + 8, 16, value.addr, 'ServiceRecord.addr')
    view.setUint32(base + 24, value.fwmark, true)
    view.setUint32(base + 28, value.flags, true)
    view.setUint32(base + 32, value.schedule, true)
    view.setUint32(base + 36, value.timeoutS, true)
    view.setUint32(base + 40, value.netmask, true)
    view.setUint32(base + 44, value.pe, true)
    view.setUint32(base + 48, value.order, true)
    clear(view, base + 52, 12)
  },
  getSlot: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setSlot: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getFamily: (view: DataView, base: number): number => view.getUint8(base + 4),
  setFamily: (view: DataView, base: number, value: number): void => view.setUint8(base + 4, value),
  getProtocol: (view: DataView, base: number): number => view.getUint8(base + 5),
  setProtocol: (view: DataView, base: number, value: number): void => view.setUint8(base + 5, value),
  getPort: (view: DataView, base: number): number => view.getUint16(base + 6, false),
  setPort: (view: DataView, base: number, value: number): void => view.setUint16(base + 6, value, false),
  getFwmark: (view: DataView, base: number): number => view.getUint32(base + 24, true),
  setFwmark: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, true),
  getFlags: (view: DataView, base: number): number => view.getUint32(base + 28, true),
  setFlags: (view: DataView, base: number, value: number): void => view.setUint32(base + 28, value, true),
  getSchedule: (view: DataView, base: number): number => view.getUint32(base + 32, true),
  setSchedule: (view: DataView, base: number, value: number): void => view.setUint32(base + 32, value, true),
  getTimeoutS: (view: DataView, base: number): number => view.getUint32(base + 36, true),
  setTimeoutS: (view: DataView, base: number, value: number): void => view.setUint32(base + 36, value, true),
  getNetmask: (view: DataView, base: number): number => view.getUint32(base + 40, true),
  setNetmask: (view: DataView, base: number, value: number): void => view.setUint32(base + 40, value, true),
  getPe: (view: DataView, base: number): number => view.getUint32(base + 44, true),
  setPe: (view: DataView, base: number, value: number): void => view.setUint32(base + 44, value, true),
  getOrder: (view: DataView, base: number): number => view.getUint32(base + 48, true),
  setOrder: (view: DataView, base: number, value: number): void => view.setUint32(base + 48, value, true),
} as const

/** struct pm_schedule, 128 bytes. */
export interface ScheduleRecord {
  readonly first: number
  readonly count: number
  readonly tableFirst: number
  readonly tableCount: number
  readonly weightMax: number
  readonly weightStep: number
  readonly bracket: number
  readonly how: number
  readonly beforeFirst: number
  readonly beforeCount: number
  readonly beforeMembers: number
  readonly beforeHow: number
  readonly settles: number
  readonly lines: number
  readonly cursor: bigint
  readonly unplayed: number
  readonly released: number
  readonly nobody: number
}

export const ScheduleRecord = {
  size: 128,
  offsets: {
    first: 0,
    count: 4,
    tableFirst: 8,
    tableCount: 12,
    weightMax: 16,
    weightStep: 20,
    bracket: 24,
    how: 28,
    beforeFirst: 32,
    beforeCount: 36,
    beforeMembers: 40,
    beforeHow: 44,
    settles: 48,
    lines: 52,
    cursor: 64,
    unplayed: 72,
    released: 76,
    nobody: 80,
  },
  read(view: DataView, base: number): ScheduleRecord {
    return {
      first: view.getUint32(base + 0, true),
      count: view.getUint32(base + 4, true),
      tableFirst: view.getUint32(base + 8, true),
      tableCount: view.getUint32(base + 12, true),
      weightMax: view.getInt32(base + 16, true),
      weightStep: view.getInt32(base + 20, true),
      bracket: view.getUint32(base + 24, true),
      how: view.getUint32(base + 28, true),
      beforeFirst: view.getUint32(base + 32, true),
      beforeCount: view.getUint32(base + 36, true),
      beforeMembers: view.getUint32(base + 40, true),
      beforeHow: view.getUint32(base + 44, true),
      settles: view.getUint32(base + 48, true),
      lines: view.getUint32(base + 52, true),
      cursor: view.getBigUint64(base + 64, true),
      unplayed: view.getUint32(base + 72, true),
      released: view.getUint32(base + 76, true),
      nobody: view.getUint32(base + 80, true),
    }
  },
  write(view: DataView, base: number, value: ScheduleRecord): void {
    view.setUint32(base + 0, value.first, true)
    view.setUint32(base + 4, value.count, true)
    view.setUint32(base + 8, value.tableFirst, true)
    view.setUint32(base + 12, value.tableCount, true)
    view.setInt32(base + 16, value.weightMax, true)
    view.setInt32(base + 20, value.weightStep, true)
    view.setUint32(base + 24, value.bracket, true)
    view.setUint32(base + 28, value.how, true)
    view.setUint32(base + 32, value.beforeFirst, true)
    view.setUint32(base + 36, value.beforeCount, true)
    view.setUint32(base + 40, value.beforeMembers, true)
    view.setUint32(base + 44, value.beforeHow, true)
    view.setUint32(base + 48, value.settles, true)
    view.setUint32(base + 52, value.lines, true)
    clear(view, base + 56, 8)
    view.setBigUint64(base + 64, value.cursor, true)
    view.setUint32(base + 72, value.unplayed, true)
    view.setUint32(base + 76, value.released, true)
    view.setUint32(base + 80, value.nobody, true)
    clear(view, base + 84, 44)
  },
  getFirst: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setFirst: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getCount: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setCount: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getTableFirst: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setTableFirst: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getTableCount: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setTableCount: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getWeightMax: (view: DataView, base: number): number => view.getInt32(base + 16, true),
  setWeightMax: (view: DataView, base: number, value: number): void => view.setInt32(base + 16, value, true),
  getWeightStep: (view: DataView, base: number): number => view.getInt32(base + 20, true),
  setWeightStep: (view: DataView, base: number, value: number): void => view.setInt32(base + 20, value, true),
  getBracket: (view: DataView, base: number): number => view.getUint32(base + 24, true),
  setBracket: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, true),
  getHow: (view: DataView, base: number): number => view.getUint32(base + 28, true),
  setHow: (view: DataView, base: number, value: number): void => view.setUint32(base + 28, value, true),
  getBeforeFirst: (view: DataView, base: number): number => view.getUint32(base + 32, true),
  setBeforeFirst: (view: DataView, base: number, value: number): void => view.setUint32(base + 32, value, true),
  getBeforeCount: (view: DataView, base: number): number => view.getUint32(base + 36, true),
  setBeforeCount: (view: DataView, base: number, value: number): void => view.setUint32(base + 36, value, true),
  getBeforeMembers: (view: DataView, base: number): number => view.getUint32(base + 40, true),
  setBeforeMembers: (view: DataView, base: number, value: number): void => view.setUint32(base + 40, value, true),
  getBeforeHow: (view: DataView, base: number): number => view.getUint32(base + 44, true),
  setBeforeHow: (view: DataView, base: number, value: number): void => view.setUint32(base + 44, value, true),
  getSettles: (view: DataView, base: number): number => view.getUint32(base + 48, true),
  setSettles: (view: DataView, base: number, value: number): void => view.setUint32(base + 48, value, true),
  getLines: (view: DataView, base: number): number => view.getUint32(base + 52, true),
  setLines: (view: DataView, base: number, value: number): void => view.setUint32(base + 52, value, true),
  getCursor: (view: DataView, base: number): bigint => view.getBigUint64(base + 64, true),
  setCursor: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 64, value, true),
  getUnplayed: (view: DataView, base: number): number => view.getUint32(base + 72, true),
  setUnplayed: (view: DataView, base: number, value: number): void => view.setUint32(base + 72, value, true),
  getReleased: (view: DataView, base: number): number => view.getUint32(base + 76, true),
  setReleased: (view: DataView, base: number, value: number): void => view.setUint32(base + 76, value, true),
  getNobody: (view: DataView, base: number): number => view.getUint32(base + 80, true),
  setNobody: (view: DataView, base: number, value: number): void => view.setUint32(base + 80, value, true),
} as const

/** struct pm_member, 8 bytes. */
export interface MemberRecord {
  readonly real: number
  readonly weight: number
}

export const MemberRecord = {
  size: 8,
  offsets: {
    real: 0,
    weight: 4,
  },
  read(view: DataView, base: number): MemberRecord {
    return {
      real: view.getUint32(base + 0, true),
      weight: view.getInt32(base + 4, true),
    }
  },
  write(view: DataView, base: number, value: MemberRecord): void {
    view.setUint32(base + 0, value.real, true)
    view.setInt32(base + 4, value.weight, true)
  },
  getReal: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setReal: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getWeight: (view: DataView, base: number): number => view.getInt32(base + 4, true),
  setWeight: (view: DataView, base: number, value: number): void => view.setInt32(base + 4, value, true),
} as const

/** struct pm_real, 64 bytes. */
export interface RealRecord {
  readonly slot: number
  readonly service: number
  readonly addr: Uint8Array
  readonly port: number
  readonly family: number
  readonly method: number
  readonly tunnel: number
  readonly tunnelFlags: number
  readonly tunnelPort: number
  readonly weight: number
  readonly upper: number
  readonly lower: number
  readonly source: Uint8Array
  readonly flags: number
}

export const RealRecord = {
  size: 64,
  offsets: {
    slot: 0,
    service: 4,
    addr: 8,
    port: 24,
    family: 26,
    method: 27,
    tunnel: 28,
    tunnelFlags: 29,
    tunnelPort: 30,
    weight: 32,
    upper: 36,
    lower: 40,
    source: 44,
    flags: 60,
  },
  read(view: DataView, base: number): RealRecord {
    return {
      slot: view.getUint32(base + 0, true),
      service: view.getUint32(base + 4, true),
      addr: copyOf(view, base + 8, 16),
      port: view.getUint16(base + 24, false),
      family: view.getUint8(base + 26),
      method: view.getUint8(base + 27),
      tunnel: view.getUint8(base + 28),
      tunnelFlags: view.getUint8(base + 29),
      tunnelPort: view.getUint16(base + 30, false),
      weight: view.getInt32(base + 32, true),
      upper: view.getUint32(base + 36, true),
      lower: view.getUint32(base + 40, true),
      source: copyOf(view, base + 44, 16),
      flags: view.getUint32(base + 60, true),
    }
  },
  write(view: DataView, base: number, value: RealRecord): void {
    view.setUint32(base + 0, value.slot, true)
    view.setUint32(base + 4, value.service, true)
    store(view, base + 8, 16, value.addr, 'RealRecord.addr')
    view.setUint16(base + 24, value.port, false)
    view.setUint8(base + 26, value.family)
    view.setUint8(base + 27, value.method)
    view.setUint8(base + 28, value.tunnel)
    view.setUint8(base + 29, value.tunnelFlags)
    view.setUint16(base + 30, value.tunnelPort, false)
    view.setInt32(base + 32, value.weight, true)
    view.setUint32(base + 36, value.upper, true)
    view.setUint32(base + 40, value.lower, true)
    store(view, base + 44, 16, value.source, 'RealRecord.source')
    view.setUint32(base + 60, value.flags, true)
  },
  getSlot: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setSlot: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getService: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setService: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getPort: (view: DataView, base: number): number => view.getUint16(base + 24, false),
  setPort: (view: DataView, base: number, value: number): void => view.setUint16(base + 24, value, false),
  getFamily: (view: DataView, base: number): number => view.getUint8(base + 26),
  setFamily: (view: DataView, base: number, value: number): void => view.setUint8(base + 26, value),
  getMethod: (view: DataView, base: number): number => view.getUint8(base + 27),
  setMethod: (view: DataView, base: number, value: number): void => view.setUint8(base + 27, value),
  getTunnel: (view: DataView, base: number): number => view.getUint8(base + 28),
  setTunnel: (view: DataView, base: number, value: number): void => view.setUint8(base + 28, value),
  getTunnelFlags: (view: DataView, base: number): number => view.getUint8(base + 29),
  setTunnelFlags: (view: DataView, base: number, value: number): void => view.setUint8(base + 29, value),
  getTunnelPort: (view: DataView, base: number): number => view.getUint16(base + 30, false),
  setTunnelPort: (view: DataView, base: number, value: number): void => view.setUint16(base + 30, value, false),
  getWeight: (view: DataView, base: number): number => view.getInt32(base + 32, true),
  setWeight: (view: DataView, base: number, value: number): void => view.setInt32(base + 32, value, true),
  getUpper: (view: DataView, base: number): number => view.getUint32(base + 36, true),
  setUpper: (view: DataView, base: number, value: number): void => view.setUint32(base + 36, value, true),
  getLower: (view: DataView, base: number): number => view.getUint32(base + 40, true),
  setLower: (view: DataView, base: number, value: number): void => view.setUint32(base + 40, value, true),
  getFlags: (view: DataView, base: number): number => view.getUint32(base + 60, true),
  setFlags: (view: DataView, base: number, value: number): void => view.setUint32(base + 60, value, true),
} as const

/** struct pm_hop, 64 bytes. */
export interface HopRecord {
  readonly version: number
  readonly ifindex: number
  readonly dmac: Uint8Array
  readonly smac: Uint8Array
  readonly mtu: number
  readonly addr: Uint8Array
}

export const HopRecord = {
  size: 64,
  offsets: {
    version: 0,
    ifindex: 4,
    dmac: 8,
    smac: 14,
    mtu: 20,
    addr: 40,
  },
  read(view: DataView, base: number): HopRecord {
    return {
      version: view.getUint32(base + 0, true),
      ifindex: view.getUint32(base + 4, true),
      dmac: copyOf(view, base + 8, 6),
      smac: copyOf(view, base + 14, 6),
      mtu: view.getUint32(base + 20, true),
      addr: copyOf(view, base + 40, 16),
    }
  },
  write(view: DataView, base: number, value: HopRecord): void {
    view.setUint32(base + 0, value.version, true)
    view.setUint32(base + 4, value.ifindex, true)
    store(view, base + 8, 6, value.dmac, 'HopRecord.dmac')
    store(view, base + 14, 6, value.smac, 'HopRecord.smac')
    view.setUint32(base + 20, value.mtu, true)
    clear(view, base + 24, 16)
    store(view, base + 40, 16, value.addr, 'HopRecord.addr')
    clear(view, base + 56, 8)
  },
  getVersion: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setVersion: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getMtu: (view: DataView, base: number): number => view.getUint32(base + 20, true),
  setMtu: (view: DataView, base: number, value: number): void => view.setUint32(base + 20, value, true),
} as const

/** struct pm_neighbour, 32 bytes. */
export interface NeighbourRecord {
  readonly version: number
  readonly epoch: number
  readonly ifindex: number
  readonly gateway: number
  readonly dmac: Uint8Array
  readonly smac: Uint8Array
  readonly mtu: number
}

export const NeighbourRecord = {
  size: 32,
  offsets: {
    version: 0,
    epoch: 4,
    ifindex: 8,
    gateway: 12,
    dmac: 16,
    smac: 22,
    mtu: 28,
  },
  read(view: DataView, base: number): NeighbourRecord {
    return {
      version: view.getUint32(base + 0, true),
      epoch: view.getUint32(base + 4, true),
      ifindex: view.getUint32(base + 8, true),
      gateway: view.getUint32(base + 12, true),
      dmac: copyOf(view, base + 16, 6),
      smac: copyOf(view, base + 22, 6),
      mtu: view.getUint32(base + 28, true),
    }
  },
  write(view: DataView, base: number, value: NeighbourRecord): void {
    view.setUint32(base + 0, value.version, true)
    view.setUint32(base + 4, value.epoch, true)
    view.setUint32(base + 8, value.ifindex, true)
    view.setUint32(base + 12, value.gateway, true)
    store(view, base + 16, 6, value.dmac, 'NeighbourRecord.dmac')
    store(view, base + 22, 6, value.smac, 'NeighbourRecord.smac')
    view.setUint32(base + 28, value.mtu, true)
  },
  getVersion: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setVersion: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getEpoch: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setEpoch: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getGateway: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setGateway: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getMtu: (view: DataView, base: number): number => view.getUint32(base + 28, true),
  setMtu: (view: DataView, base: number, value: number): void => view.setUint32(base + 28, value, true),
} as const

/** struct pm_live, 64 bytes. */
export interface LiveRecord {
  readonly active: number
  readonly inactive: number
  readonly persistent: number
  readonly overloaded: number
  readonly path: bigint
  readonly seat: number
}

export const LiveRecord = {
  size: 64,
  offsets: {
    active: 0,
    inactive: 4,
    persistent: 8,
    overloaded: 12,
    path: 16,
    seat: 24,
  },
  read(view: DataView, base: number): LiveRecord {
    return {
      active: view.getUint32(base + 0, true),
      inactive: view.getUint32(base + 4, true),
      persistent: view.getUint32(base + 8, true),
      overloaded: view.getUint32(base + 12, true),
      path: view.getBigUint64(base + 16, true),
      seat: view.getUint32(base + 24, true),
    }
  },
  write(view: DataView, base: number, value: LiveRecord): void {
    view.setUint32(base + 0, value.active, true)
    view.setUint32(base + 4, value.inactive, true)
    view.setUint32(base + 8, value.persistent, true)
    view.setUint32(base + 12, value.overloaded, true)
    view.setBigUint64(base + 16, value.path, true)
    view.setUint32(base + 24, value.seat, true)
    clear(view, base + 28, 36)
  },
  getActive: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setActive: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getInactive: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setInactive: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getPersistent: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setPersistent: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getOverloaded: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setOverloaded: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getPath: (view: DataView, base: number): bigint => view.getBigUint64(base + 16, true),
  setPath: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 16, value, true),
  getSeat: (view: DataView, base: number): number => view.getUint32(base + 24, true),
  setSeat: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, true),
} as const

/** struct pm_locality, 64 bytes. */
export interface LocalityRecord {
  readonly word: number
  readonly used: number
  readonly order: number
  readonly changed: number
  readonly addr: Uint8Array
  readonly reals: readonly number[]
}

export const LocalityRecord = {
  size: 64,
  offsets: {
    word: 0,
    used: 4,
    order: 8,
    changed: 12,
    addr: 16,
    reals: 32,
  },
  read(view: DataView, base: number): LocalityRecord {
    return {
      word: view.getUint32(base + 0, true),
      used: view.getUint32(base + 4, true),
      order: view.getUint32(base + 8, true),
      changed: view.getUint32(base + 12, true),
      addr: copyOf(view, base + 16, 16),
      reals: Array.from({ length: 8 }, (_, index) => view.getUint32(base + 32 + index * 4, true)),
    }
  },
  write(view: DataView, base: number, value: LocalityRecord): void {
    view.setUint32(base + 0, value.word, true)
    view.setUint32(base + 4, value.used, true)
    view.setUint32(base + 8, value.order, true)
    view.setUint32(base + 12, value.changed, true)
    store(view, base + 16, 16, value.addr, 'LocalityRecord.addr')
    elements('LocalityRecord.reals', 8, value.reals, (item, index) => view.setUint32(base + 32 + index * 4, item, true))
  },
  getWord: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setWord: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getUsed: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setUsed: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getOrder: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setOrder: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getChanged: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setChanged: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getReals: (view: DataView, base: number, index: number): number => view.getUint32(base + 32 + element('LocalityRecord.reals', 8, index) * 4, true),
  setReals: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 32 + element('LocalityRecord.reals', 8, index) * 4, value, true),
} as const

/** struct pm_counters, 64 bytes. */
export interface CountersRecord {
  readonly conns: bigint
  readonly inPackets: bigint
  readonly inBytes: bigint
  readonly outPackets: bigint
  readonly outBytes: bigint
}

export const CountersRecord = {
  size: 64,
  offsets: {
    conns: 0,
    inPackets: 8,
    inBytes: 16,
    outPackets: 24,
    outBytes: 32,
  },
  read(view: DataView, base: number): CountersRecord {
    return {
      conns: view.getBigUint64(base + 0, true),
      inPackets: view.getBigUint64(base + 8, true),
      inBytes: view.getBigUint64(base + 16, true),
      outPackets: view.getBigUint64(base + 24, true),
      outBytes: view.getBigUint64(base + 32, true),
    }
  },
  write(view: DataView, base: number, value: CountersRecord): void {
    view.setBigUint64(base + 0, value.conns, true)
    view.setBigUint64(base + 8, value.inPackets, true)
    view.setBigUint64(base + 16, value.inBytes, true)
    view.setBigUint64(base + 24, value.outPackets, true)
    view.setBigUint64(base + 32, value.outBytes, true)
    clear(view, base + 40, 24)
  },
  getConns: (view: DataView, base: number): bigint => view.getBigUint64(base + 0, true),
  setConns: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 0, value, true),
  getInPackets: (view: DataView, base: number): bigint => view.getBigUint64(base + 8, true),
  setInPackets: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 8, value, true),
  getInBytes: (view: DataView, base: number): bigint => view.getBigUint64(base + 16, true),
  setInBytes: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 16, value, true),
  getOutPackets: (view: DataView, base: number): bigint => view.getBigUint64(base + 24, true),
  setOutPackets: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 24, value, true),
  getOutBytes: (view: DataView, base: number): bigint => view.getBigUint64(base + 32, true),
  setOutBytes: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 32, value, true),
} as const

/** struct pm_service_bucket, 64 bytes. */
export interface ServiceBucketRecord {
  readonly entry: readonly bigint[]
}

export const ServiceBucketRecord = {
  size: 64,
  offsets: {
    entry: 0,
  },
  read(view: DataView, base: number): ServiceBucketRecord {
    return {
      entry: Array.from({ length: 8 }, (_, index) => view.getBigUint64(base + 0 + index * 8, true)),
    }
  },
  write(view: DataView, base: number, value: ServiceBucketRecord): void {
    elements('ServiceBucketRecord.entry', 8, value.entry, (item, index) => view.setBigUint64(base + 0 + index * 8, item, true))
  },
  getEntry: (view: DataView, base: number, index: number): bigint => view.getBigUint64(base + 0 + element('ServiceBucketRecord.entry', 8, index) * 8, true),
  setEntry: (view: DataView, base: number, index: number, value: bigint): void => view.setBigUint64(base + 0 + element('ServiceBucketRecord.entry', 8, index) * 8, value, true),
} as const

/** struct pm_local_bucket, 32 bytes. */
export interface LocalBucketRecord {
  readonly addr: readonly number[]
}

export const LocalBucketRecord = {
  size: 32,
  offsets: {
    addr: 0,
  },
  read(view: DataView, base: number): LocalBucketRecord {
    return {
      addr: Array.from({ length: 8 }, (_, index) => view.getUint32(base + 0 + index * 4, false)),
    }
  },
  write(view: DataView, base: number, value: LocalBucketRecord): void {
    elements('LocalBucketRecord.addr', 8, value.addr, (item, index) => view.setUint32(base + 0 + index * 4, item, false))
  },
  getAddr: (view: DataView, base: number, index: number): number => view.getUint32(base + 0 + element('LocalBucketRecord.addr', 8, index) * 4, false),
  setAddr: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 0 + element('LocalBucketRecord.addr', 8, index) * 4, value, false),
} as const

/** struct pm_fragment, 64 bytes. */
export interface FragmentRecord {
  readonly version: number
  readonly until: number
  readonly saddr: readonly number[]
  readonly daddr: readonly number[]
  readonly id: number
  readonly sport: number
  readonly dport: number
  readonly protocol: number
  readonly family: number
  readonly firstEnd: number
  readonly fate: number
  readonly got: number
  readonly total: number
}

export const FragmentRecord = {
  size: 64,
  offsets: {
    version: 0,
    until: 4,
    saddr: 8,
    daddr: 24,
    id: 40,
    sport: 44,
    dport: 46,
    protocol: 48,
    family: 49,
    firstEnd: 50,
    fate: 52,
    got: 56,
    total: 60,
  },
  read(view: DataView, base: number): FragmentRecord {
    return {
      version: view.getUint32(base + 0, true),
      until: view.getUint32(base + 4, true),
      saddr: Array.from({ length: 4 }, (_, index) => view.getUint32(base + 8 + index * 4, false)),
      daddr: Array.from({ length: 4 }, (_, index) => view.getUint32(base + 24 + index * 4, false)),
      id: view.getUint32(base + 40, false),
      sport: view.getUint16(base + 44, false),
      dport: view.getUint16(base + 46, false),
      protocol: view.getUint8(base + 48),
      family: view.getUint8(base + 49),
      firstEnd: view.getUint16(base + 50, true),
      fate: view.getUint32(base + 52, true),
      got: view.getUint32(base + 56, true),
      total: view.getUint32(base + 60, true),
    }
  },
  write(view: DataView, base: number, value: FragmentRecord): void {
    view.setUint32(base + 0, value.version, true)
    view.setUint32(base + 4, value.until, true)
    elements('FragmentRecord.saddr', 4, value.saddr, (item, index) => view.setUint32(base + 8 + index * 4, item, false))
    elements('FragmentRecord.daddr', 4, value.daddr, (item, index) => view.setUint32(base + 24 + index * 4, item, false))
    view.setUint32(base + 40, value.id, false)
    view.setUint16(base + 44, value.sport, false)
    view.setUint16(base + 46, value.dport, false)
    view.setUint8(base + 48, value.protocol)
    view.setUint8(base + 49, value.family)
    view.setUint16(base + 50, value.firstEnd, true)
    view.setUint32(base + 52, value.fate, true)
    view.setUint32(base + 56, value.got, true)
    view.setUint32(base + 60, value.total, true)
  },
  getVersion: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setVersion: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getUntil: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setUntil: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getSaddr: (view: DataView, base: number, index: number): number => view.getUint32(base + 8 + element('FragmentRecord.saddr', 4, index) * 4, false),
  setSaddr: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 8 + element('FragmentRecord.saddr', 4, index) * 4, value, false),
  getDaddr: (view: DataView, base: number, index: number): number => view.getUint32(base + 24 + element('FragmentRecord.daddr', 4, index) * 4, false),
  setDaddr: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 24 + element('FragmentRecord.daddr', 4, index) * 4, value, false),
  getId: (view: DataView, base: number): number => view.getUint32(base + 40, false),
  setId: (view: DataView, base: number, value: number): void => view.setUint32(base + 40, value, false),
  getSport: (view: DataView, base: number): number => view.getUint16(base + 44, false),
  setSport: (view: DataView, base: number, value: number): void => view.setUint16(base + 44, value, false),
  getDport: (view: DataView, base: number): number => view.getUint16(base + 46, false),
  setDport: (view: DataView, base: number, value: number): void => view.setUint16(base + 46, value, false),
  getProtocol: (view: DataView, base: number): number => view.getUint8(base + 48),
  setProtocol: (view: DataView, base: number, value: number): void => view.setUint8(base + 48, value),
  getFamily: (view: DataView, base: number): number => view.getUint8(base + 49),
  setFamily: (view: DataView, base: number, value: number): void => view.setUint8(base + 49, value),
  getFirstEnd: (view: DataView, base: number): number => view.getUint16(base + 50, true),
  setFirstEnd: (view: DataView, base: number, value: number): void => view.setUint16(base + 50, value, true),
  getFate: (view: DataView, base: number): number => view.getUint32(base + 52, true),
  setFate: (view: DataView, base: number, value: number): void => view.setUint32(base + 52, value, true),
  getGot: (view: DataView, base: number): number => view.getUint32(base + 56, true),
  setGot: (view: DataView, base: number, value: number): void => view.setUint32(base + 56, value, true),
  getTotal: (view: DataView, base: number): number => view.getUint32(base + 60, true),
  setTotal: (view: DataView, base: number, value: number): void => view.setUint32(base + 60, value, true),
} as const

/** struct pm_mark_kind, 8 bytes. */
export interface MarkKindRecord {
  readonly source: number
  readonly destination: number
  readonly fields: number
}

export const MarkKindRecord = {
  size: 8,
  offsets: {
    source: 0,
    destination: 1,
    fields: 2,
  },
  read(view: DataView, base: number): MarkKindRecord {
    return {
      source: view.getUint8(base + 0),
      destination: view.getUint8(base + 1),
      fields: view.getUint8(base + 2),
    }
  },
  write(view: DataView, base: number, value: MarkKindRecord): void {
    view.setUint8(base + 0, value.source)
    view.setUint8(base + 1, value.destination)
    view.setUint8(base + 2, value.fields)
    clear(view, base + 3, 5)
  },
  getSource: (view: DataView, base: number): number => view.getUint8(base + 0),
  setSource: (view: DataView, base: number, value: number): void => view.setUint8(base + 0, value),
  getDestination: (view: DataView, base: number): number => view.getUint8(base + 1),
  setDestination: (view: DataView, base: number, value: number): void => view.setUint8(base + 1, value),
  getFields: (view: DataView, base: number): number => view.getUint8(base + 2),
  setFields: (view: DataView, base: number, value: number): void => view.setUint8(base + 2, value),
} as const

/** struct pm_mark_key, 48 bytes. */
export interface MarkKeyRecord {
  readonly saddr: readonly number[]
  readonly daddr: readonly number[]
  readonly ifindex: number
  readonly kind: number
  readonly protocol: number
  readonly family: number
  readonly first: number
  readonly count: number
}

export const MarkKeyRecord = {
  size: 48,
  offsets: {
    saddr: 0,
    daddr: 16,
    ifindex: 32,
    kind: 36,
    protocol: 38,
    family: 39,
    first: 40,
    count: 44,
  },
  read(view: DataView, base: number): MarkKeyRecord {
    return {
      saddr: Array.from({ length: 4 }, (_, index) => view.getUint32(base + 0 + index * 4, false)),
      daddr: Array.from({ length: 4 }, (_, index) => view.getUint32(base + 16 + index * 4, false)),
      ifindex: view.getUint32(base + 32, true),
      kind: view.getUint16(base + 36, true),
      protocol: view.getUint8(base + 38),
      family: view.getUint8(base + 39),
      first: view.getUint32(base + 40, true),
      count: view.getUint32(base + 44, true),
    }
  },
  write(view: DataView, base: number, value: MarkKeyRecord): void {
    elements('MarkKeyRecord.saddr', 4, value.saddr, (item, index) => view.setUint32(base + 0 + index * 4, item, false))
    elements('MarkKeyRecord.daddr', 4, value.daddr, (item, index) => view.setUint32(base + 16 + index * 4, item, false))
    view.setUint32(base + 32, value.ifindex, true)
    view.setUint16(base + 36, value.kind, true)
    view.setUint8(base + 38, value.protocol)
    view.setUint8(base + 39, value.family)
    view.setUint32(base + 40, value.first, true)
    view.setUint32(base + 44, value.count, true)
  },
  getSaddr: (view: DataView, base: number, index: number): number => view.getUint32(base + 0 + element('MarkKeyRecord.saddr', 4, index) * 4, false),
  setSaddr: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 0 + element('MarkKeyRecord.saddr', 4, index) * 4, value, false),
  getDaddr: (view: DataView, base: number, index: number): number => view.getUint32(base + 16 + element('MarkKeyRecord.daddr', 4, index) * 4, false),
  setDaddr: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 16 + element('MarkKeyRecord.daddr', 4, index) * 4, value, false),
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 32, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 32, value, true),
  getKind: (view: DataView, base: number): number => view.getUint16(base + 36, true),
  setKind: (view: DataView, base: number, value: number): void => view.setUint16(base + 36, value, true),
  getProtocol: (view: DataView, base: number): number => view.getUint8(base + 38),
  setProtocol: (view: DataView, base: number, value: number): void => view.setUint8(base + 38, value),
  getFamily: (view: DataView, base: number): number => view.getUint8(base + 39),
  setFamily: (view: DataView, base: number, value: number): void => view.setUint8(base + 39, value),
  getFirst: (view: DataView, base: number): number => view.getUint32(base + 40, true),
  setFirst: (view: DataView, base: number, value: number): void => view.setUint32(base + 40, value, true),
  getCount: (view: DataView, base: number): number => view.getUint32(base + 44, true),
  setCount: (view: DataView, base: number, value: number): void => view.setUint32(base + 44, value, true),
} as const

/** struct pm_mark_span, 8 bytes. */
export interface MarkSpanRecord {
  readonly from: number
  readonly to: number
  readonly mark: number
}

export const MarkSpanRecord = {
  size: 8,
  offsets: {
    from: 0,
    to: 2,
    mark: 4,
  },
  read(view: DataView, base: number): MarkSpanRecord {
    return {
      from: view.getUint16(base + 0, true),
      to: view.getUint16(base + 2, true),
      mark: view.getUint32(base + 4, true),
    }
  },
  write(view: DataView, base: number, value: MarkSpanRecord): void {
    view.setUint16(base + 0, value.from, true)
    view.setUint16(base + 2, value.to, true)
    view.setUint32(base + 4, value.mark, true)
  },
  getFrom: (view: DataView, base: number): number => view.getUint16(base + 0, true),
  setFrom: (view: DataView, base: number, value: number): void => view.setUint16(base + 0, value, true),
  getTo: (view: DataView, base: number): number => view.getUint16(base + 2, true),
  setTo: (view: DataView, base: number, value: number): void => view.setUint16(base + 2, value, true),
  getMark: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setMark: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
} as const

/** struct pm_filter, 32 bytes. */
export interface FilterRecord {
  readonly what: number
  readonly expires: number
  readonly addr: readonly number[]
  readonly scope: number
}

export const FilterRecord = {
  size: 32,
  offsets: {
    what: 0,
    expires: 4,
    addr: 8,
    scope: 24,
  },
  read(view: DataView, base: number): FilterRecord {
    return {
      what: view.getUint32(base + 0, true),
      expires: view.getUint32(base + 4, true),
      addr: Array.from({ length: 4 }, (_, index) => view.getUint32(base + 8 + index * 4, false)),
      scope: view.getUint32(base + 24, true),
    }
  },
  write(view: DataView, base: number, value: FilterRecord): void {
    view.setUint32(base + 0, value.what, true)
    view.setUint32(base + 4, value.expires, true)
    elements('FilterRecord.addr', 4, value.addr, (item, index) => view.setUint32(base + 8 + index * 4, item, false))
    view.setUint32(base + 24, value.scope, true)
    clear(view, base + 28, 4)
  },
  getWhat: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setWhat: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getExpires: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setExpires: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getAddr: (view: DataView, base: number, index: number): number => view.getUint32(base + 8 + element('FilterRecord.addr', 4, index) * 4, false),
  setAddr: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 8 + element('FilterRecord.addr', 4, index) * 4, value, false),
  getScope: (view: DataView, base: number): number => view.getUint32(base + 24, true),
  setScope: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, true),
} as const

/** struct pm_filter_lengths, 136 bytes. */
export interface FilterLengthsRecord {
  readonly count: number
  readonly length: Uint8Array
}

export const FilterLengthsRecord = {
  size: 136,
  offsets: {
    count: 0,
    length: 4,
  },
  read(view: DataView, base: number): FilterLengthsRecord {
    return {
      count: view.getUint32(base + 0, true),
      length: copyOf(view, base + 4, 132),
    }
  },
  write(view: DataView, base: number, value: FilterLengthsRecord): void {
    view.setUint32(base + 0, value.count, true)
    store(view, base + 4, 132, value.length, 'FilterLengthsRecord.length')
  },
  getCount: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setCount: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
} as const

/** struct pm_gate, 32 bytes. */
export interface GateRecord {
  readonly order: number
  readonly scope: number
  readonly rate: number
  readonly connections: number
  readonly length: number
  readonly owner: number
}

export const GateRecord = {
  size: 32,
  offsets: {
    order: 0,
    scope: 4,
    rate: 8,
    connections: 12,
    length: 16,
    owner: 20,
  },
  read(view: DataView, base: number): GateRecord {
    return {
      order: view.getUint32(base + 0, true),
      scope: view.getUint32(base + 4, true),
      rate: view.getUint32(base + 8, true),
      connections: view.getUint32(base + 12, true),
      length: view.getUint32(base + 16, true),
      owner: view.getUint32(base + 20, true),
    }
  },
  write(view: DataView, base: number, value: GateRecord): void {
    view.setUint32(base + 0, value.order, true)
    view.setUint32(base + 4, value.scope, true)
    view.setUint32(base + 8, value.rate, true)
    view.setUint32(base + 12, value.connections, true)
    view.setUint32(base + 16, value.length, true)
    view.setUint32(base + 20, value.owner, true)
    clear(view, base + 24, 8)
  },
  getOrder: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setOrder: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getScope: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setScope: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getRate: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setRate: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getConnections: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setConnections: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getLength: (view: DataView, base: number): number => view.getUint32(base + 16, true),
  setLength: (view: DataView, base: number, value: number): void => view.setUint32(base + 16, value, true),
  getOwner: (view: DataView, base: number): number => view.getUint32(base + 20, true),
  setOwner: (view: DataView, base: number, value: number): void => view.setUint32(base + 20, value, true),
} as const

/** struct pm_answered, 64 bytes. */
export interface AnsweredRecord {
  readonly entry: readonly bigint[]
}

export const AnsweredRecord = {
  size: 64,
  offsets: {
    entry: 0,
  },
  read(view: DataView, base: number): AnsweredRecord {
    return {
      entry: Array.from({ length: 8 }, (_, index) => view.getBigUint64(base + 0 + index * 8, true)),
    }
  },
  write(view: DataView, base: number, value: AnsweredRecord): void {
    elements('AnsweredRecord.entry', 8, value.entry, (item, index) => view.setBigUint64(base + 0 + index * 8, item, true))
  },
  getEntry: (view: DataView, base: number, index: number): bigint => view.getBigUint64(base + 0 + element('AnsweredRecord.entry', 8, index) * 8, true),
  setEntry: (view: DataView, base: number, index: number, value: bigint): void => view.setBigUint64(base + 0 + element('AnsweredRecord.entry', 8, index) * 8, value, true),
} as const

/** struct pm_call_id, 272 bytes. */
export interface CallIdRecord {
  readonly version: number
  readonly line: number
  readonly word: number
  readonly length: number
  readonly id: readonly bigint[]
}

export const CallIdRecord = {
  size: 272,
  offsets: {
    version: 0,
    line: 4,
    word: 8,
    length: 12,
    id: 16,
  },
  read(view: DataView, base: number): CallIdRecord {
    return {
      version: view.getUint32(base + 0, true),
      line: view.getUint32(base + 4, true),
      word: view.getUint32(base + 8, true),
      length: view.getUint32(base + 12, true),
      id: Array.from({ length: 32 }, (_, index) => view.getBigUint64(base + 16 + index * 8, true)),
    }
  },
  write(view: DataView, base: number, value: CallIdRecord): void {
    view.setUint32(base + 0, value.version, true)
    view.setUint32(base + 4, value.line, true)
    view.setUint32(base + 8, value.word, true)
    view.setUint32(base + 12, value.length, true)
    elements('CallIdRecord.id', 32, value.id, (item, index) => view.setBigUint64(base + 16 + index * 8, item, true))
  },
  getVersion: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setVersion: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getLine: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setLine: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getWord: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setWord: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getLength: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setLength: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getId: (view: DataView, base: number, index: number): bigint => view.getBigUint64(base + 16 + element('CallIdRecord.id', 32, index) * 8, true),
  setId: (view: DataView, base: number, index: number, value: bigint): void => view.setBigUint64(base + 16 + element('CallIdRecord.id', 32, index) * 8, value, true),
} as const

/** struct pm_source, 64 bytes. */
export interface SourceRecord {
  readonly word: number
  readonly order: number
  readonly addr: readonly number[]
  readonly busy: bigint
  readonly what: number
}

export const SourceRecord = {
  size: 64,
  offsets: {
    word: 0,
    order: 4,
    addr: 8,
    busy: 24,
    what: 32,
  },
  read(view: DataView, base: number): SourceRecord {
    return {
      word: view.getUint32(base + 0, true),
      order: view.getUint32(base + 4, true),
      addr: Array.from({ length: 4 }, (_, index) => view.getUint32(base + 8 + index * 4, false)),
      busy: view.getBigUint64(base + 24, true),
      what: view.getUint32(base + 32, true),
    }
  },
  write(view: DataView, base: number, value: SourceRecord): void {
    view.setUint32(base + 0, value.word, true)
    view.setUint32(base + 4, value.order, true)
    elements('SourceRecord.addr', 4, value.addr, (item, index) => view.setUint32(base + 8 + index * 4, item, false))
    view.setBigUint64(base + 24, value.busy, true)
    view.setUint32(base + 32, value.what, true)
    clear(view, base + 36, 28)
  },
  getWord: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setWord: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getOrder: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setOrder: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getAddr: (view: DataView, base: number, index: number): number => view.getUint32(base + 8 + element('SourceRecord.addr', 4, index) * 4, false),
  setAddr: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 8 + element('SourceRecord.addr', 4, index) * 4, value, false),
  getBusy: (view: DataView, base: number): bigint => view.getBigUint64(base + 24, true),
  setBusy: (view: DataView, base: number, value: bigint): void => view.setBigUint64(base + 24, value, true),
  getWhat: (view: DataView, base: number): number => view.getUint32(base + 32, true),
  setWhat: (view: DataView, base: number, value: number): void => view.setUint32(base + 32, value, true),
} as const

/** struct pm_conn, 24 bytes. */
export interface ConnRecord {
  readonly word: number
  readonly expires: number
  readonly sport: number
  readonly dport: number
  readonly protocol: number
  readonly traits: number
  readonly neighbour: number
  readonly real: number
  readonly peer: number
}

export const ConnRecord = {
  size: 24,
  offsets: {
    word: 0,
    expires: 4,
    sport: 8,
    dport: 10,
    protocol: 12,
    traits: 13,
    neighbour: 14,
    real: 16,
    peer: 20,
  },
  read(view: DataView, base: number): ConnRecord {
    return {
      word: view.getUint32(base + 0, true),
      expires: view.getUint32(base + 4, true),
      sport: view.getUint16(base + 8, false),
      dport: view.getUint16(base + 10, false),
      protocol: view.getUint8(base + 12),
      traits: view.getUint8(base + 13),
      neighbour: view.getUint16(base + 14, true),
      real: view.getUint32(base + 16, true),
      peer: view.getUint32(base + 20, true),
    }
  },
  write(view: DataView, base: number, value: ConnRecord): void {
    view.setUint32(base + 0, value.word, true)
    view.setUint32(base + 4, value.expires, true)
    view.setUint16(base + 8, value.sport, false)
    view.setUint16(base + 10, value.dport, false)
    view.setUint8(base + 12, value.protocol)
    view.setUint8(base + 13, value.traits)
    view.setUint16(base + 14, value.neighbour, true)
    view.setUint32(base + 16, value.real, true)
    view.setUint32(base + 20, value.peer, true)
  },
  getWord: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setWord: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getExpires: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setExpires: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getSport: (view: DataView, base: number): number => view.getUint16(base + 8, false),
  setSport: (view: DataView, base: number, value: number): void => view.setUint16(base + 8, value, false),
  getDport: (view: DataView, base: number): number => view.getUint16(base + 10, false),
  setDport: (view: DataView, base: number, value: number): void => view.setUint16(base + 10, value, false),
  getProtocol: (view: DataView, base: number): number => view.getUint8(base + 12),
  setProtocol: (view: DataView, base: number, value: number): void => view.setUint8(base + 12, value),
  getTraits: (view: DataView, base: number): number => view.getUint8(base + 13),
  setTraits: (view: DataView, base: number, value: number): void => view.setUint8(base + 13, value),
  getNeighbour: (view: DataView, base: number): number => view.getUint16(base + 14, true),
  setNeighbour: (view: DataView, base: number, value: number): void => view.setUint16(base + 14, value, true),
  getReal: (view: DataView, base: number): number => view.getUint32(base + 16, true),
  setReal: (view: DataView, base: number, value: number): void => view.setUint32(base + 16, value, true),
  getPeer: (view: DataView, base: number): number => view.getUint32(base + 20, true),
  setPeer: (view: DataView, base: number, value: number): void => view.setUint32(base + 20, value, true),
} as const

/** struct pm_conn4, 32 bytes. */
export interface Conn4Record {
  readonly c: ConnRecord
  readonly saddr: number
  readonly daddr: number
}

export const Conn4Record = {
  size: 32,
  offsets: {
    c: 0,
    saddr: 24,
    daddr: 28,
  },
  read(view: DataView, base: number): Conn4Record {
    return {
      c: ConnRecord.read(view, base + 0),
      saddr: view.getUint32(base + 24, false),
      daddr: view.getUint32(base + 28, false),
    }
  },
  write(view: DataView, base: number, value: Conn4Record): void {
    ConnRecord.write(view, base + 0, value.c)
    view.setUint32(base + 24, value.saddr, false)
    view.setUint32(base + 28, value.daddr, false)
  },
  getSaddr: (view: DataView, base: number): number => view.getUint32(base + 24, false),
  setSaddr: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, false),
  getDaddr: (view: DataView, base: number): number => view.getUint32(base + 28, false),
  setDaddr: (view: DataView, base: number, value: number): void => view.setUint32(base + 28, value, false),
} as const

/** struct pm_conn6, 64 bytes. */
export interface Conn6Record {
  readonly c: ConnRecord
  readonly saddr: Uint8Array
  readonly daddr: Uint8Array
}

export const Conn6Record = {
  size: 64,
  offsets: {
    c: 0,
    saddr: 24,
    daddr: 40,
  },
  read(view: DataView, base: number): Conn6Record {
    return {
      c: ConnRecord.read(view, base + 0),
      saddr: copyOf(view, base + 24, 16),
      daddr: copyOf(view, base + 40, 16),
    }
  },
  write(view: DataView, base: number, value: Conn6Record): void {
    ConnRecord.write(view, base + 0, value.c)
    store(view, base + 24, 16, value.saddr, 'Conn6Record.saddr')
    store(view, base + 40, 16, value.daddr, 'Conn6Record.daddr')
    clear(view, base + 56, 8)
  },

} as const

/** struct pm_controls, 16 bytes. */
export interface ControlsRecord {
  readonly word: readonly number[]
}

export const ControlsRecord = {
  size: 16,
  offsets: {
    word: 0,
  },
  read(view: DataView, base: number): ControlsRecord {
    return {
      word: Array.from({ length: 4 }, (_, index) => view.getUint32(base + 0 + index * 4, true)),
    }
  },
  write(view: DataView, base: number, value: ControlsRecord): void {
    elements('ControlsRecord.word', 4, value.word, (item, index) => view.setUint32(base + 0 + index * 4, item, true))
  },
  getWord: (view: DataView, base: number, index: number): number => view.getUint32(base + 0 + element('ControlsRecord.word', 4, index) * 4, true),
  setWord: (view: DataView, base: number, index: number, value: number): void => view.setUint32(base + 0 + element('ControlsRecord.word', 4, index) * 4, value, true),
} as const

/** struct pm_limits, 28 bytes. */
export interface LimitsRecord {
  readonly cpus: number
  readonly conn4Mask: number
  readonly conn6Mask: number
  readonly serviceMask: number
  readonly natMask: number
  readonly filterMask: number
  readonly ownRows: number
}

export const LimitsRecord = {
  size: 28,
  offsets: {
    cpus: 0,
    conn4Mask: 4,
    conn6Mask: 8,
    serviceMask: 12,
    natMask: 16,
    filterMask: 20,
    ownRows: 24,
  },
  read(view: DataView, base: number): LimitsRecord {
    return {
      cpus: view.getUint32(base + 0, true),
      conn4Mask: view.getUint32(base + 4, true),
      conn6Mask: view.getUint32(base + 8, true),
      serviceMask: view.getUint32(base + 12, true),
      natMask: view.getUint32(base + 16, true),
      filterMask: view.getUint32(base + 20, true),
      ownRows: view.getUint32(base + 24, true),
    }
  },
  write(view: DataView, base: number, value: LimitsRecord): void {
    view.setUint32(base + 0, value.cpus, true)
    view.setUint32(base + 4, value.conn4Mask, true)
    view.setUint32(base + 8, value.conn6Mask, true)
    view.setUint32(base + 12, value.serviceMask, true)
    view.setUint32(base + 16, value.natMask, true)
    view.setUint32(base + 20, value.filterMask, true)
    view.setUint32(base + 24, value.ownRows, true)
  },
  getCpus: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setCpus: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getConn4Mask: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setConn4Mask: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getConn6Mask: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setConn6Mask: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getServiceMask: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setServiceMask: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getNatMask: (view: DataView, base: number): number => view.getUint32(base + 16, true),
  setNatMask: (view: DataView, base: number, value: number): void => view.setUint32(base + 16, value, true),
  getFilterMask: (view: DataView, base: number): number => view.getUint32(base + 20, true),
  setFilterMask: (view: DataView, base: number, value: number): void => view.setUint32(base + 20, value, true),
  getOwnRows: (view: DataView, base: number): number => view.getUint32(base + 24, true),
  setOwnRows: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, true),
} as const

/** struct pm_job, 44 bytes. */
export interface JobRecord {
  readonly data: number
  readonly linear: number
  readonly length: number
  readonly ifindex: number
  readonly verdict: number
  readonly action: number
  readonly flags: number
  readonly moved: number
  readonly segment: number
  readonly connection: number
  readonly cut: number
}

export const JobRecord = {
  size: 44,
  offsets: {
    data: 0,
    linear: 4,
    length: 8,
    ifindex: 12,
    verdict: 16,
    action: 20,
    flags: 24,
    moved: 28,
    segment: 32,
    connection: 36,
    cut: 40,
  },
  read(view: DataView, base: number): JobRecord {
    return {
      data: view.getUint32(base + 0, true),
      linear: view.getUint32(base + 4, true),
      length: view.getUint32(base + 8, true),
      ifindex: view.getUint32(base + 12, true),
      verdict: view.getUint32(base + 16, true),
      action: view.getUint32(base + 20, true),
      flags: view.getUint32(base + 24, true),
      moved: view.getInt32(base + 28, true),
      segment: view.getUint32(base + 32, true),
      connection: view.getUint32(base + 36, true),
      cut: view.getUint32(base + 40, true),
    }
  },
  write(view: DataView, base: number, value: JobRecord): void {
    view.setUint32(base + 0, value.data, true)
    view.setUint32(base + 4, value.linear, true)
    view.setUint32(base + 8, value.length, true)
    view.setUint32(base + 12, value.ifindex, true)
    view.setUint32(base + 16, value.verdict, true)
    view.setUint32(base + 20, value.action, true)
    view.setUint32(base + 24, value.flags, true)
    view.setInt32(base + 28, value.moved, true)
    view.setUint32(base + 32, value.segment, true)
    view.setUint32(base + 36, value.connection, true)
    view.setUint32(base + 40, value.cut, true)
  },
  getData: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setData: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getLinear: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setLinear: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getLength: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setLength: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getVerdict: (view: DataView, base: number): number => view.getUint32(base + 16, true),
  setVerdict: (view: DataView, base: number, value: number): void => view.setUint32(base + 16, value, true),
  getAction: (view: DataView, base: number): number => view.getUint32(base + 20, true),
  setAction: (view: DataView, base: number, value: number): void => view.setUint32(base + 20, value, true),
  getFlags: (view: DataView, base: number): number => view.getUint32(base + 24, true),
  setFlags: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, true),
  getMoved: (view: DataView, base: number): number => view.getInt32(base + 28, true),
  setMoved: (view: DataView, base: number, value: number): void => view.setInt32(base + 28, value, true),
  getSegment: (view: DataView, base: number): number => view.getUint32(base + 32, true),
  setSegment: (view: DataView, base: number, value: number): void => view.setUint32(base + 32, value, true),
  getConnection: (view: DataView, base: number): number => view.getUint32(base + 36, true),
  setConnection: (view: DataView, base: number, value: number): void => view.setUint32(base + 36, value, true),
  getCut: (view: DataView, base: number): number => view.getUint32(base + 40, true),
  setCut: (view: DataView, base: number, value: number): void => view.setUint32(base + 40, value, true),
} as const

/** struct pm_arrival, 24 bytes. */
export interface ArrivalRecord {
  readonly received: number
  readonly headerBytes: number
  readonly chunk: number
  readonly vnet: readonly number[]
  readonly toHost: number
  readonly port: number
}

export const ArrivalRecord = {
  size: 24,
  offsets: {
    received: 0,
    headerBytes: 4,
    chunk: 8,
    vnet: 12,
    toHost: 22,
    port: 23,
  },
  read(view: DataView, base: number): ArrivalRecord {
    return {
      received: view.getUint32(base + 0, true),
      headerBytes: view.getUint32(base + 4, true),
      chunk: view.getUint32(base + 8, true),
      vnet: Array.from({ length: 5 }, (_, index) => view.getUint16(base + 12 + index * 2, true)),
      toHost: view.getUint8(base + 22),
      port: view.getUint8(base + 23),
    }
  },
  write(view: DataView, base: number, value: ArrivalRecord): void {
    view.setUint32(base + 0, value.received, true)
    view.setUint32(base + 4, value.headerBytes, true)
    view.setUint32(base + 8, value.chunk, true)
    elements('ArrivalRecord.vnet', 5, value.vnet, (item, index) => view.setUint16(base + 12 + index * 2, item, true))
    view.setUint8(base + 22, value.toHost)
    view.setUint8(base + 23, value.port)
  },
  getReceived: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setReceived: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getHeaderBytes: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setHeaderBytes: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getChunk: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setChunk: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getVnet: (view: DataView, base: number, index: number): number => view.getUint16(base + 12 + element('ArrivalRecord.vnet', 5, index) * 2, true),
  setVnet: (view: DataView, base: number, index: number, value: number): void => view.setUint16(base + 12 + element('ArrivalRecord.vnet', 5, index) * 2, value, true),
  getToHost: (view: DataView, base: number): number => view.getUint8(base + 22),
  setToHost: (view: DataView, base: number, value: number): void => view.setUint8(base + 22, value),
  getPort: (view: DataView, base: number): number => view.getUint8(base + 23),
  setPort: (view: DataView, base: number, value: number): void => view.setUint8(base + 23, value),
} as const

/** struct pm_ring, 32 bytes. */
export interface RingRecord {
  readonly base: number
  readonly slotBytes: number
  readonly slots: number
  readonly next: number
  readonly first: number
  readonly ifindex: number
  readonly port: number
}

export const RingRecord = {
  size: 32,
  offsets: {
    base: 0,
    slotBytes: 4,
    slots: 8,
    next: 12,
    first: 16,
    ifindex: 20,
    port: 24,
  },
  read(view: DataView, base: number): RingRecord {
    return {
      base: view.getUint32(base + 0, true),
      slotBytes: view.getUint32(base + 4, true),
      slots: view.getUint32(base + 8, true),
      next: view.getUint32(base + 12, true),
      first: view.getUint32(base + 16, true),
      ifindex: view.getUint32(base + 20, true),
      port: view.getUint32(base + 24, true),
    }
  },
  write(view: DataView, base: number, value: RingRecord): void {
    view.setUint32(base + 0, value.base, true)
    view.setUint32(base + 4, value.slotBytes, true)
    view.setUint32(base + 8, value.slots, true)
    view.setUint32(base + 12, value.next, true)
    view.setUint32(base + 16, value.first, true)
    view.setUint32(base + 20, value.ifindex, true)
    view.setUint32(base + 24, value.port, true)
    clear(view, base + 28, 4)
  },
  getBase: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setBase: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getSlotBytes: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setSlotBytes: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getSlots: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setSlots: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getNext: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setNext: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getFirst: (view: DataView, base: number): number => view.getUint32(base + 16, true),
  setFirst: (view: DataView, base: number, value: number): void => view.setUint32(base + 16, value, true),
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 20, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 20, value, true),
  getPort: (view: DataView, base: number): number => view.getUint32(base + 24, true),
  setPort: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, true),
} as const

/** struct pm_queue, 68 bytes. */
export interface QueueRecord {
  readonly rxProducer: number
  readonly rxConsumer: number
  readonly rxEntries: number
  readonly txProducer: number
  readonly txConsumer: number
  readonly txEntries: number
  readonly fillProducer: number
  readonly fillConsumer: number
  readonly fillEntries: number
  readonly doneProducer: number
  readonly doneConsumer: number
  readonly doneEntries: number
  readonly frames: number
  readonly pool: number
  readonly txNext: number
  readonly ifindex: number
  readonly port: number
}

export const QueueRecord = {
  size: 68,
  offsets: {
    rxProducer: 0,
    rxConsumer: 4,
    rxEntries: 8,
    txProducer: 12,
    txConsumer: 16,
    txEntries: 20,
    fillProducer: 24,
    fillConsumer: 28,
    fillEntries: 32,
    doneProducer: 36,
    doneConsumer: 40,
    doneEntries: 44,
    frames: 48,
    pool: 52,
    txNext: 56,
    ifindex: 60,
    port: 64,
  },
  read(view: DataView, base: number): QueueRecord {
    return {
      rxProducer: view.getUint32(base + 0, true),
      rxConsumer: view.getUint32(base + 4, true),
      rxEntries: view.getUint32(base + 8, true),
      txProducer: view.getUint32(base + 12, true),
      txConsumer: view.getUint32(base + 16, true),
      txEntries: view.getUint32(base + 20, true),
      fillProducer: view.getUint32(base + 24, true),
      fillConsumer: view.getUint32(base + 28, true),
      fillEntries: view.getUint32(base + 32, true),
      doneProducer: view.getUint32(base + 36, true),
      doneConsumer: view.getUint32(base + 40, true),
      doneEntries: view.getUint32(base + 44, true),
      frames: view.getUint32(base + 48, true),
      pool: view.getUint32(base + 52, true),
      txNext: view.getUint32(base + 56, true),
      ifindex: view.getUint32(base + 60, true),
      port: view.getUint32(base + 64, true),
    }
  },
  write(view: DataView, base: number, value: QueueRecord): void {
    view.setUint32(base + 0, value.rxProducer, true)
    view.setUint32(base + 4, value.rxConsumer, true)
    view.setUint32(base + 8, value.rxEntries, true)
    view.setUint32(base + 12, value.txProducer, true)
    view.setUint32(base + 16, value.txConsumer, true)
    view.setUint32(base + 20, value.txEntries, true)
    view.setUint32(base + 24, value.fillProducer, true)
    view.setUint32(base + 28, value.fillConsumer, true)
    view.setUint32(base + 32, value.fillEntries, true)
    view.setUint32(base + 36, value.doneProducer, true)
    view.setUint32(base + 40, value.doneConsumer, true)
    view.setUint32(base + 44, value.doneEntries, true)
    view.setUint32(base + 48, value.frames, true)
    view.setUint32(base + 52, value.pool, true)
    view.setUint32(base + 56, value.txNext, true)
    view.setUint32(base + 60, value.ifindex, true)
    view.setUint32(base + 64, value.port, true)
  },
  getRxProducer: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setRxProducer: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getRxConsumer: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setRxConsumer: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getRxEntries: (view: DataView, base: number): number => view.getUint32(base + 8, true),
  setRxEntries: (view: DataView, base: number, value: number): void => view.setUint32(base + 8, value, true),
  getTxProducer: (view: DataView, base: number): number => view.getUint32(base + 12, true),
  setTxProducer: (view: DataView, base: number, value: number): void => view.setUint32(base + 12, value, true),
  getTxConsumer: (view: DataView, base: number): number => view.getUint32(base + 16, true),
  setTxConsumer: (view: DataView, base: number, value: number): void => view.setUint32(base + 16, value, true),
  getTxEntries: (view: DataView, base: number): number => view.getUint32(base + 20, true),
  setTxEntries: (view: DataView, base: number, value: number): void => view.setUint32(base + 20, value, true),
  getFillProducer: (view: DataView, base: number): number => view.getUint32(base + 24, true),
  setFillProducer: (view: DataView, base: number, value: number): void => view.setUint32(base + 24, value, true),
  getFillConsumer: (view: DataView, base: number): number => view.getUint32(base + 28, true),
  setFillConsumer: (view: DataView, base: number, value: number): void => view.setUint32(base + 28, value, true),
  getFillEntries: (view: DataView, base: number): number => view.getUint32(base + 32, true),
  setFillEntries: (view: DataView, base: number, value: number): void => view.setUint32(base + 32, value, true),
  getDoneProducer: (view: DataView, base: number): number => view.getUint32(base + 36, true),
  setDoneProducer: (view: DataView, base: number, value: number): void => view.setUint32(base + 36, value, true),
  getDoneConsumer: (view: DataView, base: number): number => view.getUint32(base + 40, true),
  setDoneConsumer: (view: DataView, base: number, value: number): void => view.setUint32(base + 40, value, true),
  getDoneEntries: (view: DataView, base: number): number => view.getUint32(base + 44, true),
  setDoneEntries: (view: DataView, base: number, value: number): void => view.setUint32(base + 44, value, true),
  getFrames: (view: DataView, base: number): number => view.getUint32(base + 48, true),
  setFrames: (view: DataView, base: number, value: number): void => view.setUint32(base + 48, value, true),
  getPool: (view: DataView, base: number): number => view.getUint32(base + 52, true),
  setPool: (view: DataView, base: number, value: number): void => view.setUint32(base + 52, value, true),
  getTxNext: (view: DataView, base: number): number => view.getUint32(base + 56, true),
  setTxNext: (view: DataView, base: number, value: number): void => view.setUint32(base + 56, value, true),
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 60, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 60, value, true),
  getPort: (view: DataView, base: number): number => view.getUint32(base + 64, true),
  setPort: (view: DataView, base: number, value: number): void => view.setUint32(base + 64, value, true),
} as const

/** struct pm_pool, 8 bytes. */
export interface PoolRecord {
  readonly free: number
  readonly count: number
}

export const PoolRecord = {
  size: 8,
  offsets: {
    free: 0,
    count: 4,
  },
  read(view: DataView, base: number): PoolRecord {
    return {
      free: view.getUint32(base + 0, true),
      count: view.getUint32(base + 4, true),
    }
  },
  write(view: DataView, base: number, value: PoolRecord): void {
    view.setUint32(base + 0, value.free, true)
    view.setUint32(base + 4, value.count, true)
  },
  getFree: (view: DataView, base: number): number => view.getUint32(base + 0, true),
  setFree: (view: DataView, base: number, value: number): void => view.setUint32(base + 0, value, true),
  getCount: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setCount: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
} as const

/** struct pm_fib, 60 bytes. */
export interface FibRecord {
  readonly family: number
  readonly protocol: number
  readonly tos: number
  readonly ifindex: number
  readonly saddr: Uint8Array
  readonly daddr: Uint8Array
  readonly smac: Uint8Array
  readonly dmac: Uint8Array
  readonly mtu: number
  readonly gateway: number
}

export const FibRecord = {
  size: 60,
  offsets: {
    family: 0,
    protocol: 1,
    tos: 2,
    ifindex: 4,
    saddr: 8,
    daddr: 24,
    smac: 40,
    dmac: 46,
    mtu: 52,
    gateway: 56,
  },
  read(view: DataView, base: number): FibRecord {
    return {
      family: view.getUint8(base + 0),
      protocol: view.getUint8(base + 1),
      tos: view.getUint8(base + 2),
      ifindex: view.getUint32(base + 4, true),
      saddr: copyOf(view, base + 8, 16),
      daddr: copyOf(view, base + 24, 16),
      smac: copyOf(view, base + 40, 6),
      dmac: copyOf(view, base + 46, 6),
      mtu: view.getUint32(base + 52, true),
      gateway: view.getUint32(base + 56, true),
    }
  },
  write(view: DataView, base: number, value: FibRecord): void {
    view.setUint8(base + 0, value.family)
    view.setUint8(base + 1, value.protocol)
    view.setUint8(base + 2, value.tos)
    clear(view, base + 3, 1)
    view.setUint32(base + 4, value.ifindex, true)
    store(view, base + 8, 16, value.saddr, 'FibRecord.saddr')
    store(view, base + 24, 16, value.daddr, 'FibRecord.daddr')
    store(view, base + 40, 6, value.smac, 'FibRecord.smac')
    store(view, base + 46, 6, value.dmac, 'FibRecord.dmac')
    view.setUint32(base + 52, value.mtu, true)
    view.setUint32(base + 56, value.gateway, true)
  },
  getFamily: (view: DataView, base: number): number => view.getUint8(base + 0),
  setFamily: (view: DataView, base: number, value: number): void => view.setUint8(base + 0, value),
  getProtocol: (view: DataView, base: number): number => view.getUint8(base + 1),
  setProtocol: (view: DataView, base: number, value: number): void => view.setUint8(base + 1, value),
  getTos: (view: DataView, base: number): number => view.getUint8(base + 2),
  setTos: (view: DataView, base: number, value: number): void => view.setUint8(base + 2, value),
  getIfindex: (view: DataView, base: number): number => view.getUint32(base + 4, true),
  setIfindex: (view: DataView, base: number, value: number): void => view.setUint32(base + 4, value, true),
  getMtu: (view: DataView, base: number): number => view.getUint32(base + 52, true),
  setMtu: (view: DataView, base: number, value: number): void => view.setUint32(base + 52, value, true),
  getGateway: (view: DataView, base: number): number => view.getUint32(base + 56, true),
  setGateway: (view: DataView, base: number, value: number): void => view.setUint32(base + 56, value, true),
} as const

export type MapName =
  | 'settings'
  | 'interfaces'
  | 'services'
  | 'service_index'
  | 'schedules'
  | 'members'
  | 'reals'
  | 'live'
  | 'counters'
  | 'connections4'
  | 'connections6'
  | 'verdicts'
  | 'locals'
  | 'interest'
  | 'nat_index'
  | 'egress'
  | 'cpus'
  | 'hops'
  | 'macs'
  | 'mark_kinds'
  | 'mark_index'
  | 'mark_keys'
  | 'mark_spans'
  | 'controls4'
  | 'controls6'
  | 'filters'
  | 'filter_lengths'
  | 'gates'
  | 'sources'
  | 'answered'
  | 'fragments'
  | 'neighbours'
  | 'localities'
  | 'full_nat'
  | 'call_ids'

/** In the order of PM_MAPS in maps.h, which is also their index for the wasm host. */
export const MAP_NAMES: readonly MapName[] = [
  'settings',
  'interfaces',
  'services',
  'service_index',
  'schedules',
  'members',
  'reals',
  'live',
  'counters',
  'connections4',
  'connections6',
  'verdicts',
  'locals',
  'interest',
  'nat_index',
  'egress',
  'cpus',
  'hops',
  'macs',
  'mark_kinds',
  'mark_index',
  'mark_keys',
  'mark_spans',
  'controls4',
  'controls6',
  'filters',
  'filter_lengths',
  'gates',
  'sources',
  'answered',
  'fragments',
  'neighbours',
  'localities',
  'full_nat',
  'call_ids',
]

export interface MapShape {
  readonly index: number
  /** C name of the record. */
  readonly record: string
  /** Bytes from one record to the next. */
  readonly entrySize: number
  /** When nothing else is said. */
  readonly entries: number
}

export const MAPS: Readonly<Record<MapName, MapShape>> = {
  settings: { index: 0, record: 'pm_settings', entrySize: 192, entries: 1 },
  interfaces: { index: 1, record: 'pm_interface', entrySize: 128, entries: 64 },
  services: { index: 2, record: 'pm_service', entrySize: 64, entries: 256 },
  service_index: { index: 3, record: 'pm_service_bucket', entrySize: 64, entries: 64 },
  schedules: { index: 4, record: 'pm_schedule', entrySize: 128, entries: 512 },
  members: { index: 5, record: 'pm_member', entrySize: 8, entries: 4096 },
  reals: { index: 6, record: 'pm_real', entrySize: 64, entries: 1024 },
  live: { index: 7, record: 'pm_live', entrySize: 64, entries: 1024 },
  counters: { index: 8, record: 'pm_counters', entrySize: 64, entries: 2048 },
  connections4: { index: 9, record: 'pm_conn4', entrySize: 32, entries: 4096 },
  connections6: { index: 10, record: 'pm_conn6', entrySize: 64, entries: 4096 },
  verdicts: { index: 11, record: '__u64', entrySize: 8, entries: 256 },
  locals: { index: 12, record: 'pm_local_bucket', entrySize: 32, entries: 128 },
  interest: { index: 13, record: '__u64', entrySize: 8, entries: 8192 },
  nat_index: { index: 14, record: 'pm_service_bucket', entrySize: 64, entries: 64 },
  egress: { index: 15, record: 'pm_egress', entrySize: 8, entries: 1024 },
  cpus: { index: 16, record: 'pm_cpu_state', entrySize: 64, entries: 2 },
  hops: { index: 17, record: 'pm_hop', entrySize: 64, entries: 1024 },
  macs: { index: 18, record: 'pm_mac_bucket', entrySize: 64, entries: 1024 },
  mark_kinds: { index: 19, record: 'pm_mark_kind', entrySize: 8, entries: 512 },
  mark_index: { index: 20, record: 'pm_service_bucket', entrySize: 64, entries: 4096 },
  mark_keys: { index: 21, record: 'pm_mark_key', entrySize: 48, entries: 20480 },
  mark_spans: { index: 22, record: 'pm_mark_span', entrySize: 8, entries: 40960 },
  controls4: { index: 23, record: 'pm_controls', entrySize: 16, entries: 1024 },
  controls6: { index: 24, record: 'pm_controls', entrySize: 16, entries: 1024 },
  filters: { index: 25, record: 'pm_filter', entrySize: 32, entries: 4096 },
  filter_lengths: { index: 26, record: 'pm_filter_lengths', entrySize: 136, entries: 2 },
  gates: { index: 27, record: 'pm_gate', entrySize: 32, entries: 256 },
  sources: { index: 28, record: 'pm_source', entrySize: 64, entries: 32768 },
  answered: { index: 29, record: 'pm_answered', entrySize: 64, entries: 2048 },
  fragments: { index: 30, record: 'pm_fragment', entrySize: 64, entries: 4096 },
  neighbours: { index: 31, record: 'pm_neighbour', entrySize: 32, entries: 32768 },
  localities: { index: 32, record: 'pm_locality', entrySize: 64, entries: 16384 },
  full_nat: { index: 33, record: 'pm_full_nat', entrySize: 32, entries: 128 },
  call_ids: { index: 34, record: 'pm_call_id', entrySize: 272, entries: 8192 },
}

/** Changes whenever the list of maps or a record in one of them does. */
export const LAYOUT_FINGERPRINT = 'e1a92ab5f7ad0a8a'

/** What the fingerprint is of: kept in versions.gen.ts once another layout follows. */
export const LAYOUT_DESCRIPTION = `settings pm_settings
interfaces pm_interface
services pm_service
service_index pm_service_bucket
schedules pm_schedule
members pm_member
reals pm_real
live pm_live
counters pm_counters
connections4 pm_conn4
connections6 pm_conn6
verdicts __u64
locals pm_local_bucket
interest __u64
nat_index pm_service_bucket
egress pm_egress
cpus pm_cpu_state
hops pm_hop
macs pm_mac_bucket
mark_kinds pm_mark_kind
mark_index pm_service_bucket
mark_keys pm_mark_key
mark_spans pm_mark_span
controls4 pm_controls
controls6 pm_controls
filters pm_filter
filter_lengths pm_filter_lengths
gates pm_gate
sources pm_source
answered pm_answered
fragments pm_fragment
neighbours pm_neighbour
localities pm_locality
full_nat pm_full_nat
call_ids pm_call_id
constants PM_NONE=4294967295 PM_TICK_SHIFT=23 PM_SERVICE_SCHED=56 PM_TIMEOUTS=16 PM_TIMEOUT_UDP=11 PM_TIMEOUT_INITIAL=12 PM_TIMEOUT_LBLC=14 PM_TIMEOUT_LBLCR=15 PM_FULL_NATS=64 PM_FULL_NAT_COUNT=255 PM_FULL_NAT_SHIFT=8 PM_INTERFACES=64 PM_INTERFACE_PROBES=4 PM_INTERFACE_MACS=14 PM_MAC_BUCKETS=1024 PM_MAC_BUCKET=8 PM_EGRESSES=1024 PM_EGRESS_PROBES=8 PM_SCHEDULE_ACTIVE=256 PM_BRACKET_MAX=17 PM_BRACKET_CHALLENGES_SHIFT=12 PM_SEAT_STEADY=2147483648 PM_NEIGHBOURS=32768 PM_NEIGHBOUR_BUCKET=8 PM_NEIGHBOUR_CHECK4=1 PM_NEIGHBOUR_CHECK6=2 PM_NEIGHBOUR_OWN=3 PM_NEIGHBOUR_SERVE=4 PM_LOCALITIES=16384 PM_LOCALITY_REALS=8 PM_BUCKET=8 PM_LOCALS=128 PM_FRAGMENTS=4096 PM_NOTES=4 PM_INTEREST_BITS=524288 PM_INTEREST_WORDS=8192 PM_MARK_HALF=1 PM_MARK_KINDS4_SHIFT=8 PM_MARK_KINDS6_SHIFT=16 PM_MARK_KINDS=128 PM_MARK_RULES=10240 PM_MARK_BUCKETS=2048 PM_MARK_SPANS=20480 PM_FILTER_BUCKET=4 PM_ANSWER_BUCKET=8 PM_ANSWER_BUCKETS=2048 PM_CALL_IDS=8192 PM_CALL_ID_MAX=255 PM_CALL_ID_IPV6=2147483648 PM_SOURCES=32768 PM_CONN_STATUS=3 PM_CONN_STATE_SHIFT=2 PM_CONN_STATE_MASK=15 PM_CONN_CLASS_SHIFT=6 PM_CONN_CLASS_MASK=3 PM_CONN_ACTIVE=256 PM_CONN_INPUT_ONLY=512 PM_CONN_HELD=1024 PM_CONN_GENERATION=2048 PM_CONN_GENERATIONS=16775168 PM_CONN_EPOCHS=520093696 PM_CONN_EPOCH_SHIFT=24 PM_CONN_HOLD=536870912 PM_CONN_HOLDS=3758096384 PM_CONN_KIND_MASK=3 PM_CONN_METHOD_SHIFT=2 PM_CONN_METHOD_MASK=3 PM_TEMPLATE_STAYS=2147483648 PM_TEMPLATE_AGAIN=7153 PM_WAYS=4 PM_CONTROL_OPEN=2147483648 PM_LEVEL=31 PM_LEVELS_SHIFT=5 PM_LEVELS=27 PM_LEVEL_STEP=2 PM_LINES_LEAST=16384 PM_VERDICT_MAX=128 PM_SCHEDULER_MAX=17 PM_TCP_STATE_MAX=11 PM_SCTP_STATE_MAX=14
pm_settings 192 0:layout:u32 4:flags:u32 8:next_hop_epoch:u32 12:reuse_mode:u32 16:timeouts:u32[16] 80:drop_rate:u32 84:unprivileged_port:u32 88:icmp_per_second:u32 92:hash_seed:u32 96:swept:u32 100:levels4:u32 104:levels6:u32 108:fingerprint:u32[2] 116:paths_learnt:u32 120:marks:u32 124:answer_intervals:u32 128:icmp_budget:u64 136:drop_count:u32 140:moves:u32 144:bypass:u32 148:full_nat:u32 152:pad3:u32[10]
pm_interface 128 0:ifindex:u32 4:mac:u8[6] 10:macs:u16 12:mtu:u32 16:more:u64[14]
pm_service 64 0:slot:u32 4:family:u8 5:protocol:u8 6:port:be16 8:addr:u8[16] 24:fwmark:u32 28:flags:u32 32:schedule:u32 36:timeout_s:u32 40:netmask:u32 44:pe:u32 48:order:u32 52:pad:u32[3]
pm_service_bucket 64 0:entry:u64[8]
pm_schedule 128 0:first:u32 4:count:u32 8:table_first:u32 12:table_count:u32 16:weight_max:s32 20:weight_step:s32 24:bracket:u32 28:how:u32 32:before_first:u32 36:before_count:u32 40:before_members:u32 44:before_how:u32 48:settles:u32 52:lines:u32 56:pad:u32[2] 64:cursor:u64 72:unplayed:u32 76:released:u32 80:nobody:u32 84:pad2:u32[11]
pm_member 8 0:real:u32 4:weight:s32
pm_real 64 0:slot:u32 4:service:u32 8:addr:u8[16] 24:port:be16 26:family:u8 27:method:u8 28:tunnel:u8 29:tunnel_flags:u8 30:tunnel_port:be16 32:weight:s32 36:upper:u32 40:lower:u32 44:source:u8[16] 60:flags:u32
pm_live 64 0:active:u32 4:inactive:u32 8:persistent:u32 12:overloaded:u32 16:path:u64 24:seat:u32 28:pad:u32[9]
pm_counters 64 0:conns:u64 8:in_packets:u64 16:in_bytes:u64 24:out_packets:u64 32:out_bytes:u64 40:pad:u64[3]
pm_conn4 32 0:c:pm_conn 24:saddr:be32 28:daddr:be32
pm_conn6 64 0:c:pm_conn 24:saddr:u8[16] 40:daddr:u8[16] 56:pad:u32[2]
pm_local_bucket 32 0:addr:be32[8]
pm_egress 8 0:ifindex:u32 4:flags:u32
pm_cpu_state 64 0:icmp_second:u32 4:icmp_left:u32 8:swept:u32 12:sweep4:u32 16:sweep6:u32 20:pad:u32[11]
pm_hop 64 0:version:u32 4:ifindex:u32 8:dmac:u8[6] 14:smac:u8[6] 20:mtu:u32 24:pad:u32[4] 40:addr:u8[16] 56:pad2:u32[2]
pm_mac_bucket 64 0:entry:u64[8]
pm_mark_kind 8 0:source:u8 1:destination:u8 2:fields:u8 3:pad:u8[5]
pm_mark_key 48 0:saddr:be32[4] 16:daddr:be32[4] 32:ifindex:u32 36:kind:u16 38:protocol:u8 39:family:u8 40:first:u32 44:count:u32
pm_mark_span 8 0:from:u16 2:to:u16 4:mark:u32
pm_controls 16 0:word:u32[4]
pm_filter 32 0:what:u32 4:expires:u32 8:addr:be32[4] 24:scope:u32 28:pad:u32
pm_filter_lengths 136 0:count:u32 4:length:u8[132]
pm_gate 32 0:order:u32 4:scope:u32 8:rate:u32 12:connections:u32 16:length:u32 20:owner:u32 24:pad:u32[2]
pm_source 64 0:word:u32 4:order:u32 8:addr:be32[4] 24:busy:u64 32:what:u32 36:pad:u32[7]
pm_answered 64 0:entry:u64[8]
pm_fragment 64 0:version:u32 4:until:u32 8:saddr:be32[4] 24:daddr:be32[4] 40:id:be32 44:sport:be16 46:dport:be16 48:protocol:u8 49:family:u8 50:first_end:u16 52:fate:u32 56:got:u32 60:total:u32
pm_neighbour 32 0:version:u32 4:epoch:u32 8:ifindex:u32 12:gateway:u32 16:dmac:u8[6] 22:smac:u8[6] 28:mtu:u32
pm_locality 64 0:word:u32 4:used:u32 8:order:u32 12:changed:u32 16:addr:u8[16] 32:reals:u32[8]
pm_full_nat 32 0:version:u32 4:first:u16 6:ports:u16 8:addr:be32[4] 24:pad:u32[2]
pm_call_id 272 0:version:u32 4:line:u32 8:word:u32 12:length:u32 16:id:u64[32]
pm_conn 24 0:word:u32 4:expires:u32 8:sport:be16 10:dport:be16 12:protocol:u8 13:traits:u8 14:neighbour:u16 16:real:u32 20:peer:u32`

/** The layouts these codecs were made for, to compare with an object or a pinned map. */
export const RECORD_LAYOUTS: readonly RecordLayout[] = [
  {
    name: 'pm_settings',
    size: 192,
    fields: [
      { name: 'layout', offset: 0, type: 'u32', count: null },
      { name: 'flags', offset: 4, type: 'u32', count: null },
      { name: 'next_hop_epoch', offset: 8, type: 'u32', count: null },
      { name: 'reuse_mode', offset: 12, type: 'u32', count: null },
      { name: 'timeouts', offset: 16, type: 'u32', count: 16 },
      { name: 'drop_rate', offset: 80, type: 'u32', count: null },
      { name: 'unprivileged_port', offset: 84, type: 'u32', count: null },
      { name: 'icmp_per_second', offset: 88, type: 'u32', count: null },
      { name: 'hash_seed', offset: 92, type: 'u32', count: null },
      { name: 'swept', offset: 96, type: 'u32', count: null },
      { name: 'levels4', offset: 100, type: 'u32', count: null },
      { name: 'levels6', offset: 104, type: 'u32', count: null },
      { name: 'fingerprint', offset: 108, type: 'u32', count: 2 },
      { name: 'paths_learnt', offset: 116, type: 'u32', count: null },
      { name: 'marks', offset: 120, type: 'u32', count: null },
      { name: 'answer_intervals', offset: 124, type: 'u32', count: null },
      { name: 'icmp_budget', offset: 128, type: 'u64', count: null },
      { name: 'drop_count', offset: 136, type: 'u32', count: null },
      { name: 'moves', offset: 140, type: 'u32', count: null },
      { name: 'bypass', offset: 144, type: 'u32', count: null },
      { name: 'full_nat', offset: 148, type: 'u32', count: null },
      { name: 'pad3', offset: 152, type: 'u32', count: 10 },
    ],
  },
  {
    name: 'pm_full_nat',
    size: 32,
    fields: [
      { name: 'version', offset: 0, type: 'u32', count: null },
      { name: 'first', offset: 4, type: 'u16', count: null },
      { name: 'ports', offset: 6, type: 'u16', count: null },
      { name: 'addr', offset: 8, type: 'be32', count: 4 },
      { name: 'pad', offset: 24, type: 'u32', count: 2 },
    ],
  },
  {
    name: 'pm_cpu_state',
    size: 64,
    fields: [
      { name: 'icmp_second', offset: 0, type: 'u32', count: null },
      { name: 'icmp_left', offset: 4, type: 'u32', count: null },
      { name: 'swept', offset: 8, type: 'u32', count: null },
      { name: 'sweep4', offset: 12, type: 'u32', count: null },
      { name: 'sweep6', offset: 16, type: 'u32', count: null },
      { name: 'pad', offset: 20, type: 'u32', count: 11 },
    ],
  },
  {
    name: 'pm_interface',
    size: 128,
    fields: [
      { name: 'ifindex', offset: 0, type: 'u32', count: null },
      { name: 'mac', offset: 4, type: 'u8', count: 6 },
      { name: 'macs', offset: 10, type: 'u16', count: null },
      { name: 'mtu', offset: 12, type: 'u32', count: null },
      { name: 'more', offset: 16, type: 'u64', count: 14 },
    ],
  },
  {
    name: 'pm_mac_bucket',
    size: 64,
    fields: [
      { name: 'entry', offset: 0, type: 'u64', count: 8 },
    ],
  },
  {
    name: 'pm_egress',
    size: 8,
    fields: [
      { name: 'ifindex', offset: 0, type: 'u32', count: null },
      { name: 'flags', offset: 4, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_service',
    size: 64,
    fields: [
      { name: 'slot', offset: 0, type: 'u32', count: null },
      { name: 'family', offset: 4, type: 'u8', count: null },
      { name: 'protocol', offset: 5, type: 'u8', count: null },
      { name: 'port', offset: 6, type: 'be16', count: null },
      { name: 'addr', offset: 8, type: 'u8', count: 16 },
      { name: 'fwmark', offset: 24, type: 'u32', count: null },
      { name: 'flags', offset: 28, type: 'u32', count: null },
      { name: 'schedule', offset: 32, type: 'u32', count: null },
      { name: 'timeout_s', offset: 36, type: 'u32', count: null },
      { name: 'netmask', offset: 40, type: 'u32', count: null },
      { name: 'pe', offset: 44, type: 'u32', count: null },
      { name: 'order', offset: 48, type: 'u32', count: null },
      { name: 'pad', offset: 52, type: 'u32', count: 3 },
    ],
  },
  {
    name: 'pm_schedule',
    size: 128,
    fields: [
      { name: 'first', offset: 0, type: 'u32', count: null },
      { name: 'count', offset: 4, type: 'u32', count: null },
      { name: 'table_first', offset: 8, type: 'u32', count: null },
      { name: 'table_count', offset: 12, type: 'u32', count: null },
      { name: 'weight_max', offset: 16, type: 's32', count: null },
      { name: 'weight_step', offset: 20, type: 's32', count: null },
      { name: 'bracket', offset: 24, type: 'u32', count: null },
      { name: 'how', offset: 28, type: 'u32', count: null },
      { name: 'before_first', offset: 32, type: 'u32', count: null },
      { name: 'before_count', offset: 36, type: 'u32', count: null },
      { name: 'before_members', offset: 40, type: 'u32', count: null },
      { name: 'before_how', offset: 44, type: 'u32', count: null },
      { name: 'settles', offset: 48, type: 'u32', count: null },
      { name: 'lines', offset: 52, type: 'u32', count: null },
      { name: 'pad', offset: 56, type: 'u32', count: 2 },
      { name: 'cursor', offset: 64, type: 'u64', count: null },
      { name: 'unplayed', offset: 72, type: 'u32', count: null },
      { name: 'released', offset: 76, type: 'u32', count: null },
      { name: 'nobody', offset: 80, type: 'u32', count: null },
      { name: 'pad2', offset: 84, type: 'u32', count: 11 },
    ],
  },
  {
    name: 'pm_member',
    size: 8,
    fields: [
      { name: 'real', offset: 0, type: 'u32', count: null },
      { name: 'weight', offset: 4, type: 's32', count: null },
    ],
  },
  {
    name: 'pm_real',
    size: 64,
    fields: [
      { name: 'slot', offset: 0, type: 'u32', count: null },
      { name: 'service', offset: 4, type: 'u32', count: null },
      { name: 'addr', offset: 8, type: 'u8', count: 16 },
      { name: 'port', offset: 24, type: 'be16', count: null },
      { name: 'family', offset: 26, type: 'u8', count: null },
      { name: 'method', offset: 27, type: 'u8', count: null },
      { name: 'tunnel', offset: 28, type: 'u8', count: null },
      { name: 'tunnel_flags', offset: 29, type: 'u8', count: null },
      { name: 'tunnel_port', offset: 30, type: 'be16', count: null },
      { name: 'weight', offset: 32, type: 's32', count: null },
      { name: 'upper', offset: 36, type: 'u32', count: null },
      { name: 'lower', offset: 40, type: 'u32', count: null },
      { name: 'source', offset: 44, type: 'u8', count: 16 },
      { name: 'flags', offset: 60, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_hop',
    size: 64,
    fields: [
      { name: 'version', offset: 0, type: 'u32', count: null },
      { name: 'ifindex', offset: 4, type: 'u32', count: null },
      { name: 'dmac', offset: 8, type: 'u8', count: 6 },
      { name: 'smac', offset: 14, type: 'u8', count: 6 },
      { name: 'mtu', offset: 20, type: 'u32', count: null },
      { name: 'pad', offset: 24, type: 'u32', count: 4 },
      { name: 'addr', offset: 40, type: 'u8', count: 16 },
      { name: 'pad2', offset: 56, type: 'u32', count: 2 },
    ],
  },
  {
    name: 'pm_neighbour',
    size: 32,
    fields: [
      { name: 'version', offset: 0, type: 'u32', count: null },
      { name: 'epoch', offset: 4, type: 'u32', count: null },
      { name: 'ifindex', offset: 8, type: 'u32', count: null },
      { name: 'gateway', offset: 12, type: 'u32', count: null },
      { name: 'dmac', offset: 16, type: 'u8', count: 6 },
      { name: 'smac', offset: 22, type: 'u8', count: 6 },
      { name: 'mtu', offset: 28, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_live',
    size: 64,
    fields: [
      { name: 'active', offset: 0, type: 'u32', count: null },
      { name: 'inactive', offset: 4, type: 'u32', count: null },
      { name: 'persistent', offset: 8, type: 'u32', count: null },
      { name: 'overloaded', offset: 12, type: 'u32', count: null },
      { name: 'path', offset: 16, type: 'u64', count: null },
      { name: 'seat', offset: 24, type: 'u32', count: null },
      { name: 'pad', offset: 28, type: 'u32', count: 9 },
    ],
  },
  {
    name: 'pm_locality',
    size: 64,
    fields: [
      { name: 'word', offset: 0, type: 'u32', count: null },
      { name: 'used', offset: 4, type: 'u32', count: null },
      { name: 'order', offset: 8, type: 'u32', count: null },
      { name: 'changed', offset: 12, type: 'u32', count: null },
      { name: 'addr', offset: 16, type: 'u8', count: 16 },
      { name: 'reals', offset: 32, type: 'u32', count: 8 },
    ],
  },
  {
    name: 'pm_counters',
    size: 64,
    fields: [
      { name: 'conns', offset: 0, type: 'u64', count: null },
      { name: 'in_packets', offset: 8, type: 'u64', count: null },
      { name: 'in_bytes', offset: 16, type: 'u64', count: null },
      { name: 'out_packets', offset: 24, type: 'u64', count: null },
      { name: 'out_bytes', offset: 32, type: 'u64', count: null },
      { name: 'pad', offset: 40, type: 'u64', count: 3 },
    ],
  },
  {
    name: 'pm_service_bucket',
    size: 64,
    fields: [
      { name: 'entry', offset: 0, type: 'u64', count: 8 },
    ],
  },
  {
    name: 'pm_local_bucket',
    size: 32,
    fields: [
      { name: 'addr', offset: 0, type: 'be32', count: 8 },
    ],
  },
  {
    name: 'pm_fragment',
    size: 64,
    fields: [
      { name: 'version', offset: 0, type: 'u32', count: null },
      { name: 'until', offset: 4, type: 'u32', count: null },
      { name: 'saddr', offset: 8, type: 'be32', count: 4 },
      { name: 'daddr', offset: 24, type: 'be32', count: 4 },
      { name: 'id', offset: 40, type: 'be32', count: null },
      { name: 'sport', offset: 44, type: 'be16', count: null },
      { name: 'dport', offset: 46, type: 'be16', count: null },
      { name: 'protocol', offset: 48, type: 'u8', count: null },
      { name: 'family', offset: 49, type: 'u8', count: null },
      { name: 'first_end', offset: 50, type: 'u16', count: null },
      { name: 'fate', offset: 52, type: 'u32', count: null },
      { name: 'got', offset: 56, type: 'u32', count: null },
      { name: 'total', offset: 60, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_mark_kind',
    size: 8,
    fields: [
      { name: 'source', offset: 0, type: 'u8', count: null },
      { name: 'destination', offset: 1, type: 'u8', count: null },
      { name: 'fields', offset: 2, type: 'u8', count: null },
      { name: 'pad', offset: 3, type: 'u8', count: 5 },
    ],
  },
  {
    name: 'pm_mark_key',
    size: 48,
    fields: [
      { name: 'saddr', offset: 0, type: 'be32', count: 4 },
      { name: 'daddr', offset: 16, type: 'be32', count: 4 },
      { name: 'ifindex', offset: 32, type: 'u32', count: null },
      { name: 'kind', offset: 36, type: 'u16', count: null },
      { name: 'protocol', offset: 38, type: 'u8', count: null },
      { name: 'family', offset: 39, type: 'u8', count: null },
      { name: 'first', offset: 40, type: 'u32', count: null },
      { name: 'count', offset: 44, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_mark_span',
    size: 8,
    fields: [
      { name: 'from', offset: 0, type: 'u16', count: null },
      { name: 'to', offset: 2, type: 'u16', count: null },
      { name: 'mark', offset: 4, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_filter',
    size: 32,
    fields: [
      { name: 'what', offset: 0, type: 'u32', count: null },
      { name: 'expires', offset: 4, type: 'u32', count: null },
      { name: 'addr', offset: 8, type: 'be32', count: 4 },
      { name: 'scope', offset: 24, type: 'u32', count: null },
      { name: 'pad', offset: 28, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_filter_lengths',
    size: 136,
    fields: [
      { name: 'count', offset: 0, type: 'u32', count: null },
      { name: 'length', offset: 4, type: 'u8', count: 132 },
    ],
  },
  {
    name: 'pm_gate',
    size: 32,
    fields: [
      { name: 'order', offset: 0, type: 'u32', count: null },
      { name: 'scope', offset: 4, type: 'u32', count: null },
      { name: 'rate', offset: 8, type: 'u32', count: null },
      { name: 'connections', offset: 12, type: 'u32', count: null },
      { name: 'length', offset: 16, type: 'u32', count: null },
      { name: 'owner', offset: 20, type: 'u32', count: null },
      { name: 'pad', offset: 24, type: 'u32', count: 2 },
    ],
  },
  {
    name: 'pm_answered',
    size: 64,
    fields: [
      { name: 'entry', offset: 0, type: 'u64', count: 8 },
    ],
  },
  {
    name: 'pm_call_id',
    size: 272,
    fields: [
      { name: 'version', offset: 0, type: 'u32', count: null },
      { name: 'line', offset: 4, type: 'u32', count: null },
      { name: 'word', offset: 8, type: 'u32', count: null },
      { name: 'length', offset: 12, type: 'u32', count: null },
      { name: 'id', offset: 16, type: 'u64', count: 32 },
    ],
  },
  {
    name: 'pm_source',
    size: 64,
    fields: [
      { name: 'word', offset: 0, type: 'u32', count: null },
      { name: 'order', offset: 4, type: 'u32', count: null },
      { name: 'addr', offset: 8, type: 'be32', count: 4 },
      { name: 'busy', offset: 24, type: 'u64', count: null },
      { name: 'what', offset: 32, type: 'u32', count: null },
      { name: 'pad', offset: 36, type: 'u32', count: 7 },
    ],
  },
  {
    name: 'pm_conn',
    size: 24,
    fields: [
      { name: 'word', offset: 0, type: 'u32', count: null },
      { name: 'expires', offset: 4, type: 'u32', count: null },
      { name: 'sport', offset: 8, type: 'be16', count: null },
      { name: 'dport', offset: 10, type: 'be16', count: null },
      { name: 'protocol', offset: 12, type: 'u8', count: null },
      { name: 'traits', offset: 13, type: 'u8', count: null },
      { name: 'neighbour', offset: 14, type: 'u16', count: null },
      { name: 'real', offset: 16, type: 'u32', count: null },
      { name: 'peer', offset: 20, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_conn4',
    size: 32,
    fields: [
      { name: 'c', offset: 0, type: { record: 'pm_conn' }, count: null },
      { name: 'saddr', offset: 24, type: 'be32', count: null },
      { name: 'daddr', offset: 28, type: 'be32', count: null },
    ],
  },
  {
    name: 'pm_conn6',
    size: 64,
    fields: [
      { name: 'c', offset: 0, type: { record: 'pm_conn' }, count: null },
      { name: 'saddr', offset: 24, type: 'u8', count: 16 },
      { name: 'daddr', offset: 40, type: 'u8', count: 16 },
      { name: 'pad', offset: 56, type: 'u32', count: 2 },
    ],
  },
  {
    name: 'pm_controls',
    size: 16,
    fields: [
      { name: 'word', offset: 0, type: 'u32', count: 4 },
    ],
  },
  {
    name: 'pm_limits',
    size: 28,
    fields: [
      { name: 'cpus', offset: 0, type: 'u32', count: null },
      { name: 'conn4_mask', offset: 4, type: 'u32', count: null },
      { name: 'conn6_mask', offset: 8, type: 'u32', count: null },
      { name: 'service_mask', offset: 12, type: 'u32', count: null },
      { name: 'nat_mask', offset: 16, type: 'u32', count: null },
      { name: 'filter_mask', offset: 20, type: 'u32', count: null },
      { name: 'own_rows', offset: 24, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_job',
    size: 44,
    fields: [
      { name: 'data', offset: 0, type: 'u32', count: null },
      { name: 'linear', offset: 4, type: 'u32', count: null },
      { name: 'length', offset: 8, type: 'u32', count: null },
      { name: 'ifindex', offset: 12, type: 'u32', count: null },
      { name: 'verdict', offset: 16, type: 'u32', count: null },
      { name: 'action', offset: 20, type: 'u32', count: null },
      { name: 'flags', offset: 24, type: 'u32', count: null },
      { name: 'moved', offset: 28, type: 's32', count: null },
      { name: 'segment', offset: 32, type: 'u32', count: null },
      { name: 'connection', offset: 36, type: 'u32', count: null },
      { name: 'cut', offset: 40, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_arrival',
    size: 24,
    fields: [
      { name: 'received', offset: 0, type: 'u32', count: null },
      { name: 'header_bytes', offset: 4, type: 'u32', count: null },
      { name: 'chunk', offset: 8, type: 'u32', count: null },
      { name: 'vnet', offset: 12, type: 'u16', count: 5 },
      { name: 'to_host', offset: 22, type: 'u8', count: null },
      { name: 'port', offset: 23, type: 'u8', count: null },
    ],
  },
  {
    name: 'pm_ring',
    size: 32,
    fields: [
      { name: 'base', offset: 0, type: 'u32', count: null },
      { name: 'slot_bytes', offset: 4, type: 'u32', count: null },
      { name: 'slots', offset: 8, type: 'u32', count: null },
      { name: 'next', offset: 12, type: 'u32', count: null },
      { name: 'first', offset: 16, type: 'u32', count: null },
      { name: 'ifindex', offset: 20, type: 'u32', count: null },
      { name: 'port', offset: 24, type: 'u32', count: null },
      { name: 'pad', offset: 28, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_queue',
    size: 68,
    fields: [
      { name: 'rx_producer', offset: 0, type: 'u32', count: null },
      { name: 'rx_consumer', offset: 4, type: 'u32', count: null },
      { name: 'rx_entries', offset: 8, type: 'u32', count: null },
      { name: 'tx_producer', offset: 12, type: 'u32', count: null },
      { name: 'tx_consumer', offset: 16, type: 'u32', count: null },
      { name: 'tx_entries', offset: 20, type: 'u32', count: null },
      { name: 'fill_producer', offset: 24, type: 'u32', count: null },
      { name: 'fill_consumer', offset: 28, type: 'u32', count: null },
      { name: 'fill_entries', offset: 32, type: 'u32', count: null },
      { name: 'done_producer', offset: 36, type: 'u32', count: null },
      { name: 'done_consumer', offset: 40, type: 'u32', count: null },
      { name: 'done_entries', offset: 44, type: 'u32', count: null },
      { name: 'frames', offset: 48, type: 'u32', count: null },
      { name: 'pool', offset: 52, type: 'u32', count: null },
      { name: 'tx_next', offset: 56, type: 'u32', count: null },
      { name: 'ifindex', offset: 60, type: 'u32', count: null },
      { name: 'port', offset: 64, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_pool',
    size: 8,
    fields: [
      { name: 'free', offset: 0, type: 'u32', count: null },
      { name: 'count', offset: 4, type: 'u32', count: null },
    ],
  },
  {
    name: 'pm_fib',
    size: 60,
    fields: [
      { name: 'family', offset: 0, type: 'u8', count: null },
      { name: 'protocol', offset: 1, type: 'u8', count: null },
      { name: 'tos', offset: 2, type: 'u8', count: null },
      { name: 'pad', offset: 3, type: 'u8', count: null },
      { name: 'ifindex', offset: 4, type: 'u32', count: null },
      { name: 'saddr', offset: 8, type: 'u8', count: 16 },
      { name: 'daddr', offset: 24, type: 'u8', count: 16 },
      { name: 'smac', offset: 40, type: 'u8', count: 6 },
      { name: 'dmac', offset: 46, type: 'u8', count: 6 },
      { name: 'mtu', offset: 52, type: 'u32', count: null },
      { name: 'gateway', offset: 56, type: 'u32', count: null },
    ],
  },
]

function copyOf(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length).slice()
}

function store(view: DataView, at: number, length: number, bytes: Uint8Array, field: string): void {
  if (bytes.length !== length) throw new RangeError(`${field} is ${bytes.length} bytes, expected ${length}`)
  new Uint8Array(view.buffer, view.byteOffset + at, length).set(bytes)
}

function clear(view: DataView, at: number, length: number): void {
  new Uint8Array(view.buffer, view.byteOffset + at, length).fill(0)
}

function element(field: string, length: number, index: number): number {
  if (!(index >= 0 && index < length)) throw new RangeError(`${field} has no element ${index}, expected 0 to ${length - 1}`)
  return index
}

function elements<T>(field: string, length: number, values: readonly T[], put: (value: T, index: number) => void): void {
  if (values.length !== length) throw new RangeError(`${field} has ${values.length} elements, expected ${length}`)
  values.forEach(put)
}
