/**
 * The grammar of ipvsadm as data: commands, options, who may go with whom.
 *
 * The reader of words, the parser, the checks and the property tests all work from these tables; a new
 * option is a row here and, if it takes a value, a reader in `values.ts`. Spellings, names in messages
 * and their order are those of ipvsadm 1.31.
 */

/** Options in the order in which their legality is checked; the name is the one messages use. */
export const OPTION_NAMES = [
  'numeric',
  'connection',
  'service-address',
  'scheduler',
  'persistent',
  'netmask',
  'real-server',
  'forwarding-method',
  'weight',
  'u-threshold',
  'l-threshold',
  'mcast-interface',
  'timeout',
  'daemon',
  'stats',
  'rate',
  'thresholds',
  'persistent-conn',
  'nosort',
  'syncid',
  'exact',
  'ops',
  'pe',
  'sched-flags',
  'mcast-group',
  'mcast-port',
  'mcast-ttl',
  'sync-maxlen',
  'tun-info',
  'tun-type',
  'tun-port',
  'tun-nocsum',
  'tun-csum',
  'tun-remcsum',
  'untracked',
] as const
export type OptionName = (typeof OPTION_NAMES)[number]

/**
 * How an option goes with a command: needed, allowed, or allowed as the only one of its kind.
 * Whatever is not listed is illegal.
 */
export type Legality = 'needed' | 'allowed' | 'exclusive'

type Row = Partial<Readonly<Record<OptionName, Legality>>>

const SERVICE_ATTRIBUTES: Row = {
  scheduler: 'allowed',
  persistent: 'allowed',
  netmask: 'allowed',
  ops: 'allowed',
  pe: 'allowed',
  'sched-flags': 'allowed',
  untracked: 'allowed',
}

const SERVER_ATTRIBUTES: Row = {
  'forwarding-method': 'allowed',
  weight: 'allowed',
  'u-threshold': 'allowed',
  'l-threshold': 'allowed',
  'tun-type': 'allowed',
  'tun-port': 'allowed',
  'tun-nocsum': 'allowed',
  'tun-csum': 'allowed',
  'tun-remcsum': 'allowed',
}

const SERVER_KEY: Row = { 'service-address': 'needed', 'real-server': 'needed' }

/** Commands by the name messages use. */
export const COMMANDS = {
  'add-service': { 'service-address': 'needed', ...SERVICE_ATTRIBUTES },
  'edit-service': { 'service-address': 'needed', ...SERVICE_ATTRIBUTES },
  'delete-service': { 'service-address': 'needed' },
  flush: {},
  list: {
    numeric: 'allowed',
    connection: 'exclusive',
    'service-address': 'exclusive',
    timeout: 'exclusive',
    daemon: 'exclusive',
    stats: 'allowed',
    rate: 'allowed',
    thresholds: 'allowed',
    'persistent-conn': 'allowed',
    nosort: 'allowed',
    // Without meaning here, but ipvsadm has always let it through.
    syncid: 'allowed',
    exact: 'allowed',
    'tun-info': 'allowed',
  },
  'add-server': { ...SERVER_KEY, ...SERVER_ATTRIBUTES },
  'delete-server': { ...SERVER_KEY },
  'edit-server': { ...SERVER_KEY, ...SERVER_ATTRIBUTES },
  set: {},
  'start-daemon': {
    'mcast-interface': 'allowed',
    syncid: 'allowed',
    'mcast-group': 'allowed',
    'mcast-port': 'allowed',
    'mcast-ttl': 'allowed',
    'sync-maxlen': 'allowed',
  },
  'stop-daemon': { syncid: 'allowed' },
  restore: {},
  save: { numeric: 'allowed' },
  zero: { 'service-address': 'allowed' },
} as const satisfies Readonly<Record<string, Row>>
export type CommandName = keyof typeof COMMANDS

export type TunnelType = 'ipip' | 'gue' | 'gre'

/** Which tunnel options each tunnel type needs or allows; `exclusive` ones exclude each other. */
export const TUNNELS: Readonly<Record<TunnelType, Row>> = {
  ipip: {},
  gue: {
    'tun-port': 'needed',
    'tun-nocsum': 'exclusive',
    'tun-csum': 'exclusive',
    'tun-remcsum': 'exclusive',
  },
  gre: { 'tun-nocsum': 'exclusive', 'tun-csum': 'exclusive' },
}

/** The options the tunnel table speaks about, in the order in which they are checked. */
export const TUNNEL_OPTIONS = ['tun-port', 'tun-nocsum', 'tun-csum', 'tun-remcsum'] as const

/** What a spelled option means. */
export type Role =
  /** Only as the first option. `state`: its argument is `master` or `backup`. */
  | { readonly kind: 'command'; readonly command: CommandName; readonly state?: true }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  /** May be given once; `reader` says what its argument does (`values.ts`), `value` what it stands for. */
  | {
      readonly kind: 'option'
      readonly option: OptionName
      readonly reader?: ReaderName
      readonly value?: string
    }
  /** `-6`: turns the mark given before it into an IPv6 one. */
  | { readonly kind: 'ipv6' }
  /** Accepted anywhere, does nothing. */
  | { readonly kind: 'nothing' }

export type ReaderName =
  | 'service'
  | 'fwmark'
  | 'scheduler'
  | 'persistent'
  | 'netmask'
  | 'server'
  | 'method'
  | 'weight'
  | 'upperThreshold'
  | 'lowerThreshold'
  | 'interface'
  | 'syncId'
  | 'engine'
  | 'schedulerFlags'
  | 'group'
  | 'groupPort'
  | 'groupTtl'
  | 'maxLength'
  | 'onePacket'
  | 'untracked'
  | 'tunnelType'
  | 'tunnelPort'
  | 'tunnelChecksum'

export interface Spelling {
  readonly long: string
  readonly short?: string
  /** `optional`: taken from the next word only if that does not start with `-`. */
  readonly argument: 'none' | 'required' | 'optional'
  readonly role: Role
}

type Flagged = Pick<Spelling, 'short'>

const command = (name: CommandName, long: string, short?: string): Spelling => ({
  long,
  ...flag(short),
  argument: 'none',
  role: { kind: 'command', command: name },
})
const daemonCommand = (name: CommandName): Spelling => ({
  long: name,
  argument: 'required',
  role: { kind: 'command', command: name, state: true },
})
/** An option without an argument. */
const bare = (option: OptionName, long: string, short?: string): Spelling => ({
  long,
  ...flag(short),
  argument: 'none',
  role: { kind: 'option', option },
})
/** An option without an argument that stands for a value. */
const choice = (
  option: OptionName,
  reader: ReaderName,
  value: string,
  long: string,
  short?: string,
): Spelling => ({
  long,
  ...flag(short),
  argument: 'none',
  role: { kind: 'option', option, reader, value },
})
const valued = (
  option: OptionName,
  reader: ReaderName,
  long: string,
  short?: string,
  value?: string,
): Spelling => ({
  long,
  ...flag(short),
  argument: 'required',
  role: { kind: 'option', option, reader, ...(value === undefined ? {} : { value }) },
})

function flag(short: string | undefined): Flagged {
  return short === undefined ? {} : { short }
}

/** What ipvsadm does not know: ours. Long ones only, since a short one could be IPVS's one day. */
export const OWN_SPELLINGS: readonly Spelling[] = [
  choice('untracked', 'untracked', 'on', 'untracked'),
  choice('forwarding-method', 'method', 'full-nat', 'full-nat'),
]

/** Every spelling ipvsadm knows, and ours. Long names are never abbreviated. */
export const SPELLINGS: readonly Spelling[] = [
  command('add-service', 'add-service', 'A'),
  command('edit-service', 'edit-service', 'E'),
  command('delete-service', 'delete-service', 'D'),
  command('flush', 'clear', 'C'),
  command('list', 'list', 'L'),
  command('list', 'list', 'l'),
  command('zero', 'zero', 'Z'),
  command('add-server', 'add-server', 'a'),
  command('edit-server', 'edit-server', 'e'),
  command('delete-server', 'delete-server', 'd'),
  command('set', 'set'),
  command('restore', 'restore', 'R'),
  command('save', 'save', 'S'),
  daemonCommand('start-daemon'),
  daemonCommand('stop-daemon'),
  { long: 'help', short: 'h', argument: 'none', role: { kind: 'help' } },
  { long: 'version', short: 'v', argument: 'none', role: { kind: 'version' } },
  valued('service-address', 'service', 'tcp-service', 't', 'tcp'),
  valued('service-address', 'service', 'udp-service', 'u', 'udp'),
  valued('service-address', 'service', 'sctp-service', undefined, 'sctp'),
  valued('service-address', 'fwmark', 'fwmark-service', 'f'),
  valued('scheduler', 'scheduler', 'scheduler', 's'),
  {
    long: 'persistent',
    short: 'p',
    argument: 'optional',
    role: { kind: 'option', option: 'persistent', reader: 'persistent' },
  },
  valued('netmask', 'netmask', 'netmask', 'M'),
  valued('real-server', 'server', 'real-server', 'r'),
  choice('forwarding-method', 'method', 'nat', 'masquerading', 'm'),
  choice('forwarding-method', 'method', 'tunnel', 'ipip', 'i'),
  choice('forwarding-method', 'method', 'direct-routing', 'gatewaying', 'g'),
  valued('weight', 'weight', 'weight', 'w'),
  valued('u-threshold', 'upperThreshold', 'u-threshold', 'x'),
  valued('l-threshold', 'lowerThreshold', 'l-threshold', 'y'),
  bare('numeric', 'numeric', 'n'),
  bare('connection', 'connection', 'c'),
  valued('mcast-interface', 'interface', 'mcast-interface'),
  valued('mcast-group', 'group', 'mcast-group'),
  valued('mcast-port', 'groupPort', 'mcast-port'),
  valued('mcast-ttl', 'groupTtl', 'mcast-ttl'),
  valued('sync-maxlen', 'maxLength', 'sync-maxlen'),
  valued('syncid', 'syncId', 'syncid'),
  bare('timeout', 'timeout'),
  bare('daemon', 'daemon'),
  bare('stats', 'stats'),
  bare('rate', 'rate'),
  bare('thresholds', 'thresholds'),
  bare('persistent-conn', 'persistent-conn'),
  bare('tun-info', 'tun-info'),
  bare('nosort', 'nosort'),
  { long: 'sort', argument: 'none', role: { kind: 'nothing' } },
  bare('exact', 'exact', 'X'),
  { long: 'ipv6', short: '6', argument: 'none', role: { kind: 'ipv6' } },
  choice('ops', 'onePacket', 'on', 'ops', 'o'),
  valued('pe', 'engine', 'pe'),
  valued('sched-flags', 'schedulerFlags', 'sched-flags', 'b'),
  valued('tun-type', 'tunnelType', 'tun-type'),
  valued('tun-port', 'tunnelPort', 'tun-port'),
  choice('tun-nocsum', 'tunnelChecksum', 'none', 'tun-nocsum'),
  choice('tun-csum', 'tunnelChecksum', 'csum', 'tun-csum'),
  choice('tun-remcsum', 'tunnelChecksum', 'remcsum', 'tun-remcsum'),
  ...OWN_SPELLINGS,
]

/** Scheduler flags (`-b`) by name: the bit, and the only scheduler that knows the name, if there is one. */
export const SCHEDULER_FLAGS: Readonly<
  Record<string, { readonly bit: number; readonly scheduler?: 'sh' | 'mh' }>
> = {
  'flag-1': { bit: 0x08 },
  'flag-2': { bit: 0x10 },
  'flag-3': { bit: 0x20 },
  'sh-fallback': { bit: 0x08, scheduler: 'sh' },
  'sh-port': { bit: 0x10, scheduler: 'sh' },
  'mh-fallback': { bit: 0x08, scheduler: 'mh' },
  'mh-port': { bit: 0x10, scheduler: 'mh' },
}

export const DEFAULT_SCHEDULER = 'wlc'
/** Seconds. ipvsadm(8) of 1.31 says 300, the program uses 360. */
export const DEFAULT_PERSISTENCE_S = 360
export const DEFAULT_INTERFACE = 'eth0'
/** Bytes kept of a scheduler's or an interface's name, as the kernel's structures hold them. */
export const NAME_BYTES_MAX = 15
export const ENGINE_BYTES_MAX = 16
/** Bytes of a `-b` argument that ipvsadm looks at. */
export const FLAGS_BYTES_MAX = 127
