/**
 * What may stand in a configuration file: the one definition that validates it, that `pointsman schema`
 * prints for editors, and that pointsman.yaml(5) explains. What needs more than one value at a time to be
 * judged is in resolve.ts.
 */
import { z } from 'zod'
import { parseAddress, parseIpv4 } from '../../../net/address.ts'
import { parseEndpoint } from '../../../net/endpoint.ts'
import { parsePrefix } from '../../../net/prefix.ts'
import { DNS_TYPES } from '../../model/check.ts'
import { CONNECTIONS_MAX, RATE_MAX } from '../../model/limit.ts'
import { INT_MAX, TIMEOUT_MAX_S } from '../../model/limits.ts'
import type { PortRange } from '../../model/mark.ts'
import { SCHEDULERS } from '../../model/scheduler.ts'
import { followed, registry } from './registries.ts'

const UNITS_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const DURATION = /^(\d{1,10}(?:\.\d{1,3})?)(ms|s|m|h|d)$/

/** Milliseconds; null if it is no duration. */
export function parseDuration(value: string | number): number | null {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? Math.round(value * 1000) : null
  const match = DURATION.exec(value)
  return match === null ? null : Math.round(Number(match[1]) * UNITS_MS[match[2] as keyof typeof UNITS_MS])
}

const duration = (minMs: number, maxMs: number, wanted: string) =>
  z
    .union([z.string(), z.number()], { error: `expected a time such as 5s, 500ms or 10m, ${wanted}` })
    .refine((value) => {
      const ms = parseDuration(value)
      return ms !== null && ms >= minMs && ms <= maxMs
    }, `expected a time such as 5s, 500ms or 10m, ${wanted}`)
    .meta({ description: `a time: 500ms, 5s, 10m, 1h, or seconds; ${wanted}` })

const seconds = (min: number) =>
  duration(min * 1000, TIMEOUT_MAX_S * 1000, `whole seconds, at most 31 days`).refine(
    (value) => (parseDuration(value) ?? 0) % 1000 === 0,
    'expected whole seconds',
  )

/** Whether the text was meant as an address in brackets and became a list, for want of quotes. */
const ENDPOINT = 'expected an address with a port in quotes or plain: 192.0.2.10:80, "[2001:db8::1]:80"'

const endpoint = z
  .string({ error: ENDPOINT })
  .refine((text) => parseEndpoint(text)?.port != null, ENDPOINT)
  .meta({ description: 'address and port', examples: ['192.0.2.10:80', '[2001:db8::1]:80'] })

const SERVER_ENDPOINT =
  'expected an address, with a port or without: 10.0.0.1:80, "[2001:db8::1]:80", 10.0.0.1'
const serverEndpoint = z
  .string({ error: SERVER_ENDPOINT })
  .refine((text) => parseEndpoint(text) !== null, SERVER_ENDPOINT)
  .meta({
    description: "address of a real server; without a port: the service's",
    examples: ['10.0.0.1:80', '10.0.0.1', '[2001:db8::1]:80'],
  })

const PREFIX = 'expected a prefix or an address: 10.0.0.0/8, 192.0.2.7, 2001:db8::/32'
const prefix = z
  .string({ error: PREFIX })
  .superRefine((text, context) => {
    const wrong = parsePrefix(text)
    if (typeof wrong !== 'string') return
    context.addIssue({ code: 'custom', message: wrong.slice(wrong.indexOf('expected ')) })
  })
  .meta({ description: 'a prefix, or an address', examples: ['198.51.100.0/24', '2001:db8::/32'] })
/** All of them come in force in one go; a longer list has a command of its own. */
const PREFIXES_MAX = 20_000
const prefixes = (description: string) =>
  z
    .array(prefix)
    .max(PREFIXES_MAX, `expected at most ${PREFIXES_MAX} prefixes; more: pointsman deny add --file FILE`)
    .optional()
    .meta({ description })

const port = z.int().min(1).max(65535)
const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'expected a name of letters, digits, dots, dashes')
const oneOrMore = <T extends z.ZodType>(one: T) => z.union([one, z.array(one).min(1)])

const command = z
  .union([z.string().min(1), z.array(z.string()).min(1)])
  .meta({ description: 'a program with its arguments: one text, cut at blanks, or a list' })
const hook = z
  .union([command, z.strictObject({ command, user: z.string().optional() })])
  .meta({ id: 'Hook', description: 'a program to be run' })

export const tunnel = z
  .discriminatedUnion('type', [
    z.strictObject({ type: z.literal('ipip') }),
    z.strictObject({
      type: z.literal('gue'),
      port,
      checksum: z.enum(['none', 'csum', 'remcsum']).default('none'),
    }),
    z.strictObject({ type: z.literal('gre'), checksum: z.enum(['none', 'csum']).default('none') }),
  ])
  .meta({ id: 'SiteTunnel', description: 'encapsulation where the method is tunnel' })

// Checks

const timing = {
  interval: duration(10, 86_400_000, '10ms to 1d').optional(),
  retry_interval: duration(10, 86_400_000, '10ms to 1d').optional().meta({
    description: 'from one question to the next while the answer is bad; as interval unless given',
  }),
  timeout: duration(10, 3_600_000, '10ms to 1h').optional(),
  rise: z.int().min(1).max(1000).optional().meta({ description: 'good answers in a row that bring it up' }),
  fall: z.int().min(1).max(1000).optional().meta({ description: 'bad answers in a row that bring it down' }),
  start_jitter: duration(0, 3_600_000, 'at most 1h').optional().meta({
    description: 'the first question comes at a random time within this; as interval unless given',
  }),
  path: z.enum(['service', 'direct']).optional().meta({
    description:
      "service: to the virtual address, by the service's own way to this real server (default for direct-routing and tunnel); direct: to the real server's own address",
  }),
}
const place = {
  name: name.optional().meta({ description: 'what lists and logs call it; its kind unless given' }),
  address: z
    .string()
    .refine((text) => parseEndpoint(text)?.port === null, 'expected an address without a port')
    .optional()
    .meta({ description: 'asked instead' }),
  port: port.optional().meta({ description: 'asked instead' }),
  source: z
    .string()
    .refine((text) => parseEndpoint(text)?.port === null, 'expected an address without a port')
    .optional()
    .meta({ description: 'our own address to ask from' }),
}
const common = { ...timing, ...place }

const tlsFields = {
  server_name: z.string().min(1).optional().meta({ description: 'SNI, and the name in the certificate' }),
  verify: z
    .boolean()
    .optional()
    .meta({ description: 'whether the certificate has to be valid; true unless given' }),
  ca: z.string().min(1).optional().meta({ description: 'file with the authorities to trust' }),
}

const STATUS = /^(\d{3})(?:-(\d{3}))?$/
const status = z.union([z.int().min(100).max(599), z.string()]).refine((value) => {
  const match = STATUS.exec(String(value))
  return match !== null && Number(match[1]) <= Number(match[2] ?? match[1])
}, 'expected a status or a range: 200, 200-399')

function compiles(text: string): boolean {
  try {
    new RegExp(text, 's')
    return true
  } catch {
    return false
  }
}
const pattern = z.string().refine(compiles, 'expected a regular expression')
const hex = (digits: number) =>
  z.string().regex(new RegExp(`^[0-9a-fA-F]{${digits}}$`), `expected ${digits} hexadecimal digits`)

const httpAnswer = {
  status: oneOrMore(status).optional().meta({ description: '200-399 unless given' }),
  body: pattern.optional().meta({ description: 'regular expression that the body has to match' }),
  md5: hex(32).optional().meta({ description: 'digest of the body' }),
  sha256: hex(64).optional().meta({ description: 'digest of the body' }),
}
const url = z.string().regex(/^\/\S*$/, 'expected a path: /health')
const httpFields = {
  ...common,
  url: url.optional().meta({ description: '/ unless given' }),
  ...httpAnswer,
  urls: z
    .array(z.strictObject({ url, ...httpAnswer }))
    .min(1)
    .optional()
    .meta({ description: 'several requests, all of which have to be answered well, instead of url' }),
  method: z.enum(['GET', 'HEAD']).optional(),
  version: z.enum(['1.0', '1.1']).optional(),
  host: z.string().min(1).optional().meta({ description: 'header Host; the address unless given' }),
}

export const check = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('tcp'), ...common }),
    z.strictObject({ kind: z.literal('http'), ...httpFields }),
    z.strictObject({ kind: z.literal('https'), ...httpFields, ...tlsFields }),
    z.strictObject({ kind: z.literal('tls'), ...common, ...tlsFields }),
    z.strictObject({
      kind: z.literal('dns'),
      ...common,
      query: z.string().min(1).max(253).meta({ description: 'the name that is asked for' }),
      type: z.enum(DNS_TYPES).optional().meta({ description: 'A unless given' }),
    }),
    z.strictObject({ kind: z.literal('smtp'), ...common, helo: z.string().min(1).optional() }),
    z.strictObject({
      kind: z.literal('udp'),
      ...common,
      payload: z
        .string()
        .regex(/^(?:[0-9a-fA-F]{2})*$/, 'expected pairs of hexadecimal digits')
        .optional(),
      require_reply: z.boolean().optional(),
      reply: pattern.optional(),
    }),
    z.strictObject({ kind: z.literal('ping'), ...common }),
    z.strictObject({
      kind: z.literal('grpc'),
      ...common,
      service: z
        .string()
        .optional()
        .meta({ description: 'as grpc.health.v1 names it; the server unless given' }),
      tls: z.boolean().optional(),
      ...tlsFields,
    }),
    z.strictObject({
      kind: z.literal('exec'),
      ...common,
      command,
      user: z.string().min(1).optional(),
      result: z.enum(['status', 'weight']).optional(),
    }),
    z.strictObject({
      kind: z.literal('file'),
      ...common,
      file: z.string().min(1),
      factor: z.int().min(-254).max(254).optional(),
    }),
    z.strictObject({
      kind: z.literal('agent'),
      ...common,
      send: z.string().optional().meta({ description: 'a line to be sent first' }),
    }),
  ])
  .meta({ id: 'SiteCheck' })
const checks = z.array(z.union([name, check])).meta({ description: 'checks, or names of those in checks' })

// Real servers and where they come from

const threshold = z.int().min(0).max(INT_MAX).optional().meta({ description: 'connections, 0 = unset' })
const serverSettings = {
  method: z.enum(['nat', 'full-nat', 'direct-routing', 'tunnel']).optional().meta({
    description: 'direct-routing unless given',
  }),
  tunnel: tunnel.optional(),
  weight: z.int().min(0).max(INT_MAX).optional().meta({ description: '1 unless given; 0 drains' }),
  upper_threshold: threshold,
  lower_threshold: threshold,
}
const onFailure = z.enum(['remove', 'drain']).optional().meta({
  description: 'what becomes of a real server that is down; remove unless given',
})
const start = z.enum(['up', 'down']).optional().meta({
  description: 'what a real server is before its checks have said anything; up unless given',
})
const serverHealth = {
  checks: checks.optional().meta({ description: "instead of the service's" }),
  on_up: hook.optional(),
  on_down: hook.optional(),
  on_failure: onFailure,
  start,
}
export const server = z
  .strictObject({ address: serverEndpoint, ...serverSettings, ...serverHealth })
  .meta({ id: 'SiteRealServer' })
const servers = z.array(z.union([serverEndpoint, server]))

export const pool = z
  .union([
    z.strictObject({ servers, ...serverSettings }),
    z.strictObject({
      file: z.string().min(1).meta({
        description:
          'JSON or YAML, read again whenever it changes: a list of real servers, or of groups as in file_sd of Prometheus',
      }),
      ...serverSettings,
    }),
    z.strictObject({ ...followed, ...serverSettings }),
  ])
  .meta({
    id: 'SitePool',
    description: 'real servers that services name by their pool; settings for all of them',
  })

/** As a watched file has them: the same words, but no checks of their own. */
export const poolFile = z
  .array(
    z.union([
      serverEndpoint,
      z.strictObject({ address: serverEndpoint, ...serverSettings }),
      z.strictObject({
        targets: z.array(serverEndpoint),
        labels: z.record(z.string(), z.string()).optional(),
      }),
    ]),
  )
  .meta({ id: 'PoolFile' })

// Services

const netmask = z
  .union([z.string(), z.int().min(1).max(128)])
  .refine(
    (value) => typeof value === 'number' || parseIpv4(value) !== null,
    'expected an IPv4 mask or a prefix length',
  )
  .meta({ description: 'IPv4: mask or prefix length; IPv6: prefix length' })

export const FLAG_BITS = {
  'flag-1': 0x08,
  'flag-2': 0x10,
  'flag-3': 0x20,
  'sh-fallback': 0x08,
  'sh-port': 0x10,
  'mh-fallback': 0x08,
  'mh-port': 0x10,
} as const
export type FlagName = keyof typeof FLAG_BITS
const FLAG_NAMES = Object.keys(FLAG_BITS) as FlagName[]

const serviceSettings = {
  scheduler: z.enum(SCHEDULERS).optional().meta({ description: 'wlc unless given' }),
  flags: z.array(z.enum(FLAG_NAMES)).optional().meta({ description: 'flags of the scheduler' }),
  persistence_timeout: seconds(0).optional().meta({ description: 'not persistent unless given' }),
  netmask: netmask.optional().meta({ description: 'what of a client address persistence looks at' }),
  persistence_engine: z.literal('sip').optional(),
  one_packet: z.boolean().optional().meta({ description: 'every datagram is scheduled by itself' }),
  untracked: z
    .boolean()
    .optional()
    .meta({ description: 'just enough tracking, for sh, dh and mh with direct routing or tunnels' }),
  checks: checks.optional(),
  quorum: z.int().min(1).max(INT_MAX).optional().meta({
    description: 'the service is up with so much weight of real servers that are up; 1 unless given',
  }),
  hysteresis: z.int().min(0).max(INT_MAX).optional(),
  on_quorum_up: hook.optional(),
  on_quorum_down: hook.optional(),
  on_failure: onFailure,
  start,
  hooks_at_end: z.boolean().optional(),
  sorry_server: z
    .union([serverEndpoint, z.strictObject({ address: serverEndpoint, ...serverSettings })])
    .optional()
    .meta({ description: 'serves in the place of all real servers while the service is down' }),
  sorry_server_stays: z.boolean().optional().meta({
    description: 'with weight 0 when it is not needed, so that connections to it do not end',
  }),
  slow_start: duration(0, 3_600_000, 'at most 1h').optional().meta({
    description: 'time in which the weight grows after coming up',
  }),
}
const limit = z
  .strictObject({
    rate: z.int().min(1).max(RATE_MAX).optional().meta({ description: 'new connections in a second' }),
    connections: z
      .int()
      .min(1)
      .max(CONNECTIONS_MAX)
      .optional()
      .meta({ description: 'connections at a time' }),
    prefix: z.int().min(1).max(128).optional().meta({
      description:
        'addresses with so many bits in common are one source; unless given, each is one, of IPv6 each /64',
    }),
  })
  .meta({ id: 'SiteLimit', description: 'what each source may do' })
export const service = z
  .strictObject({
    tcp: endpoint.optional(),
    udp: endpoint.optional(),
    sctp: endpoint.optional(),
    fwmark: z.int().min(1).max(0xffffffff).optional(),
    family: z
      .enum(['ipv4', 'ipv6'])
      .optional()
      .meta({ description: 'of a firewall mark; ipv4 unless given' }),
    ...serviceSettings,
    deny: prefixes('sources that may not reach it; the longest prefix counts'),
    allow: prefixes('sources that may reach it all the same'),
    limit: limit.optional(),
    real_servers: servers.optional(),
    pools: z.array(name).optional().meta({ description: 'names of pools whose real servers it has, too' }),
  })
  .meta({ id: 'SiteService', description: 'one of tcp, udp, sctp, fwmark says which' })

// The director

const syncDaemon = z.strictObject({
  state: z.enum(['master', 'backup']),
  interface: z.string().min(1).max(15),
  sync_id: z.int().min(0).max(255).optional(),
  max_length: z.int().min(1).max(65507).optional(),
  group: z
    .string()
    .refine((text) => parseEndpoint(text)?.port === null, 'expected a multicast address')
    .optional(),
  port: port.optional(),
  ttl: z.int().min(1).max(255).optional(),
})

const fullNatAddress = z
  .string()
  .refine((text) => parseAddress(text) !== null, 'expected an address')
  .meta({ description: '10.0.0.5' })
const portSpan = z
  .string()
  .refine((text) => parsePorts(text) !== null, 'expected a range of ports: 1024-32767')
  .meta({ description: '1024-32767' })

const director = z
  .strictObject({
    interfaces: z
      .array(z.string().regex(/^[^\s/:]{1,15}$/, 'expected the name of an interface'))
      .optional()
      .meta({ description: 'to take packets from, besides those of the command line' }),
    timeouts: z
      .strictObject({
        tcp: seconds(1).optional(),
        tcp_fin: seconds(1).optional(),
        udp: seconds(1).optional(),
      })
      .optional(),
    sysctls: z.record(z.string(), z.int()).optional().meta({ description: 'by the names of net.ipv4.vs' }),
    sync: z.array(syncDaemon).max(2).optional(),
    full_nat: z
      .array(z.union([fullNatAddress, z.strictObject({ address: fullNatAddress, ports: portSpan })]))
      .optional()
      .meta({
        description:
          'addresses of the director that real servers by full-nat see as their clients; all there are to be',
      }),
  })
  .meta({ id: 'SiteDirector' })

const defaults = z
  .strictObject({
    service: z.strictObject(serviceSettings).optional(),
    server: z
      .strictObject({ ...serverSettings, on_up: hook.optional(), on_down: hook.optional() })
      .optional(),
    check: z.strictObject(timing).optional(),
  })
  .meta({ id: 'SiteDefaults', description: 'what is meant where nothing is said, in this file' })

const PORTS = 'expected a port or a range: 80, 1000-1999'
const RANGE = /^(\d{1,5})(?:-(\d{1,5}))?$/

/** null if it is no range. */
export function parsePorts(value: string | number): PortRange | null {
  const match = RANGE.exec(String(value))
  if (match === null) return null
  const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])]
  return from <= to && to <= 65535 ? { from, to } : null
}

const ports = z
  .union([z.int(), z.string()], { error: PORTS })
  .refine((value) => parsePorts(value) !== null, PORTS)
  .meta({ description: 'of the destination: 80, 1000-1999' })

const mark = z
  .strictObject({
    mark: z.int().min(1).max(0xffffffff),
    to: prefix.optional().meta({ description: 'destination' }),
    from: prefix.optional().meta({ description: 'source' }),
    protocol: z.enum(['tcp', 'udp', 'sctp']).optional(),
    ports: oneOrMore(ports).optional(),
    interface: z
      .string()
      .regex(/^[^\s/]{1,15}$/, 'expected the name of an interface')
      .optional()
      .meta({ description: 'that packets come in by' }),
    family: z
      .enum(['ipv4', 'ipv6'])
      .optional()
      .meta({ description: 'where no prefix says it; both unless given' }),
  })
  .meta({ id: 'SiteMark', description: 'which packets have which firewall mark' })

/** Everything but the services, which may be many and are judged one by one. */
const rest = {
  director: director.optional(),
  defaults: defaults.optional(),
  checks: z.record(name, check).optional().meta({ description: 'by name' }),
  registries: z
    .record(name, registry)
    .optional()
    .meta({ description: 'by name, for pools that follow them' }),
  pools: z.record(name, pool).optional().meta({ description: 'by name' }),
  deny: prefixes('sources that may reach no service; the longest prefix counts'),
  allow: prefixes('sources that may reach services all the same'),
  marks: z.array(mark).optional().meta({ description: 'marking rules: the most specific counts' }),
  include: oneOrMore(z.string().min(1)).optional().meta({
    description: 'more files, * and ? in the last part of the path; relative to this one',
  }),
}
export const fileHead = z.strictObject({ ...rest, services: z.array(z.unknown()).optional() })
export const siteFile = z
  .strictObject({ ...rest, services: z.array(service).optional() })
  .meta({ id: 'Site', title: 'pointsman.yaml', description: 'What a pointsman director serves' })

export type CheckDocument = z.input<typeof check>
export type ServerDocument = z.input<typeof server>
export type ServiceDocument = z.input<typeof service>
export type PoolDocument = z.input<typeof pool>
export type MarkDocument = z.input<typeof mark>
export type SiteDocument = z.input<typeof siteFile>
export type DefaultsDocument = z.input<typeof defaults>
export type HookDocument = z.input<typeof hook>

/** For editors, and for `pointsman schema`. */
export function jsonSchemaText(): string {
  return `${JSON.stringify(z.toJSONSchema(siteFile, { io: 'input', target: 'draft-2020-12' }), null, 2)}\n`
}
