/** Any sites: services as sources state them, with checks and policies. */

import { type Check, type CheckQuestion, DNS_TYPES } from '../../../control/model/check.ts'
import { FILTER_ACTIONS } from '../../../control/model/filter.ts'
import type { HealthPolicy } from '../../../control/model/health-policy.ts'
import { serverKey, serviceKey } from '../../../control/model/identity.ts'
import { CONNECTIONS_MAX, type LimitSettings, RATE_MAX } from '../../../control/model/limit.ts'
import { type MarkRule, matchKey } from '../../../control/model/mark.ts'
import { SCHEDULERS } from '../../../control/model/scheduler.ts'
import type { RealServer } from '../../../control/model/server.ts'
import type { VirtualService } from '../../../control/model/service.ts'
import type { SiteFilter, SiteServer } from '../../../control/model/site.ts'
import { needsTracking } from '../../../control/model/untracked.ts'
import type { IpAddress } from '../../../net/address.ts'
import { cut, prefixText } from '../../../net/prefix.ts'
import fc from '../../property.ts'
import { ip } from '../support.ts'

const INT_MAX = 2147483647
const port = fc.integer({ min: 1, max: 65535 })
const text = fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme' }).filter((one) => one.trim() === one)
const address4 = fc.nat({ max: 0xffff }).map((n) => ip(`10.${n % 200}.${n >> 8}.${1 + (n % 250)}`))
const address6 = fc.nat({ max: 0xffff }).map((n) => ip(`2001:db8::${n.toString(16)}`))
const optional = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: null })

function family(address: IpAddress): 4 | 6 {
  return address.includes(':') ? 6 : 4
}

export function realServer(of: 4 | 6): fc.Arbitrary<RealServer> {
  const settings = {
    weight: fc.oneof(fc.nat({ max: 5 }), fc.nat({ max: INT_MAX })),
    thresholds: fc.tuple(fc.nat({ max: 9 }), fc.nat({ max: 9 })),
  }
  const plain = fc.record({
    address: of === 4 ? address4 : address6,
    method: fc.constantFrom('nat' as const, 'full-nat' as const, 'direct-routing' as const),
    tunnel: fc.constant({ type: 'ipip' as const }),
    port,
    ...settings,
  })
  const tunnelled = fc.record({
    address: fc.oneof(address4, address6),
    method: fc.constant('tunnel' as const),
    tunnel: fc.oneof(
      fc.constant({ type: 'ipip' as const }),
      fc.record({
        type: fc.constant('gue' as const),
        port,
        checksum: fc.constantFrom('none' as const, 'csum' as const, 'remcsum' as const),
      }),
      fc.record({
        type: fc.constant('gre' as const),
        checksum: fc.constantFrom('none' as const, 'csum' as const),
      }),
    ),
    port,
    ...settings,
  })
  return fc.oneof(plain, tunnelled).map(({ address, port: number, thresholds: [a, b], ...rest }) => ({
    id: { address, family: family(address), port: number },
    ...rest,
    upperThreshold: Math.max(a, b),
    lowerThreshold: Math.min(a, b),
  }))
}

export const virtualService: fc.Arbitrary<VirtualService> = fc
  .record({
    id: fc.oneof(
      fc
        .tuple(
          fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
          fc.oneof(address4, address6),
          port,
        )
        .map(([protocol, address, number]) => ({
          kind: 'address' as const,
          protocol,
          address,
          family: family(address),
          port: number,
        })),
      fc.record({
        kind: fc.constant('fwmark' as const),
        mark: fc.integer({ min: 1, max: 0xffffffff }),
        family: fc.constantFrom(4 as const, 6 as const),
      }),
    ),
    scheduler: fc.constantFrom(...SCHEDULERS),
    flags: fc.nat({ max: 7 }),
    persistenceTimeoutS: fc.oneof(fc.constant(0), fc.nat({ max: 2678400 })),
    prefix: fc.integer({ min: 1, max: 32 }),
    mask: fc.nat({ max: 0xffffffff }),
    persistenceEngine: fc.constantFrom('sip' as const, null),
    onePacket: fc.boolean(),
    untracked: fc.boolean(),
  })
  .map(({ flags, prefix, mask, onePacket, ...rest }) => ({
    ...rest,
    schedulerFlags: flags << 3,
    netmask: rest.id.family === 6 ? prefix : mask,
    onePacket: onePacket && rest.id.kind === 'address' && rest.id.protocol === 'udp',
  }))
  .map((all) => ({ ...all, untracked: all.untracked && needsTracking(all) === null }))

const tls = fc.record({
  serverName: optional(text),
  verify: fc.boolean(),
  ca: fc.constantFrom(null, '/etc/ca.pem'),
})
const pattern = fc.constantFrom('ok', '^a.*"b\\n$', '# no: comment', '[{]')
const hex = (digits: number) =>
  fc
    .array(fc.nat({ max: 15 }), { minLength: digits, maxLength: digits })
    .map((list) => list.map((n) => n.toString(16)).join(''))
const request = fc.record({
  path: fc.constantFrom('/', '/health?a=1&b=#x', '/%20{}'),
  status: fc.array(
    fc.tuple(fc.integer({ min: 100, max: 599 }), fc.nat({ max: 9 })).map(([from, n]) => ({
      from,
      to: Math.min(599, from + n),
    })),
    { minLength: 1, maxLength: 3 },
  ),
  body: optional(pattern),
  digest: optional(
    fc.oneof(
      hex(32).map((digest) => ({ algorithm: 'md5' as const, hex: digest })),
      hex(64).map((digest) => ({ algorithm: 'sha256' as const, hex: digest })),
    ),
  ),
})
const question: fc.Arbitrary<CheckQuestion> = fc.oneof(
  fc.constantFrom({ kind: 'tcp' as const }, { kind: 'ping' as const }),
  fc.record({
    kind: fc.constant('http' as const),
    tls: optional(tls),
    method: fc.constantFrom('GET' as const, 'HEAD' as const),
    version: fc.constantFrom('1.0' as const, '1.1' as const),
    host: optional(text),
    requests: fc.array(request, { minLength: 1, maxLength: 2 }),
  }),
  fc.record({ kind: fc.constant('tls' as const), tls }),
  fc.record({ kind: fc.constant('dns' as const), name: text, type: fc.constantFrom(...DNS_TYPES) }),
  fc.record({ kind: fc.constant('smtp' as const), helo: text }),
  fc.record({
    kind: fc.constant('udp' as const),
    payload: hex(6),
    reply: fc.record({ required: fc.boolean(), match: optional(pattern) }),
  }),
  fc.record({ kind: fc.constant('grpc' as const), service: text, tls: optional(tls) }),
  fc.record({
    kind: fc.constant('exec' as const),
    command: fc.array(text, { minLength: 1, maxLength: 3 }),
    user: optional(text),
    result: fc.constantFrom('status' as const, 'weight' as const),
  }),
  fc.record({
    kind: fc.constant('file' as const),
    file: fc.constantFrom('/run/weight', '/tmp/a b: c'),
    factor: fc.integer({ min: -254, max: 254 }),
  }),
  fc.record({ kind: fc.constant('agent' as const), send: text }),
)
const ms = fc.oneof(
  fc.integer({ min: 10, max: 9999 }),
  fc.integer({ min: 1, max: 60 }).map((n) => n * 1000),
)
const check: fc.Arbitrary<Check> = fc.record({
  name: fc.constantFrom('web', 'a.b-c', 'true', '7'),
  question,
  path: fc.constantFrom('service' as const, 'direct' as const),
  address: optional(address4),
  port: optional(port),
  source: optional(address6),
  intervalMs: ms,
  retryIntervalMs: ms,
  timeoutMs: ms,
  rise: fc.integer({ min: 1, max: 9 }),
  fall: fc.integer({ min: 1, max: 9 }),
  startJitterMs: ms,
})
const checks = fc.uniqueArray(check, { maxLength: 2, selector: ({ name }) => name })
const hook = optional(
  fc.record({ command: fc.array(text, { minLength: 1, maxLength: 3 }), user: optional(text) }),
)

function policy(of: 4 | 6): fc.Arbitrary<HealthPolicy> {
  return fc
    .record({
      quorum: fc.integer({ min: 1, max: 9 }),
      hysteresis: fc.nat({ max: 9 }),
      onQuorumUp: hook,
      onQuorumDown: hook,
      onFailure: fc.constantFrom('remove' as const, 'drain' as const),
      start: fc.constantFrom('up' as const, 'down' as const),
      hooksAtEnd: fc.boolean(),
      sorryServer: optional(realServer(of)),
      sorryStays: fc.boolean(),
      slowStartMs: fc.nat({ max: 99_999 }),
    })
    .map((one) => ({ ...one, hysteresis: Math.min(one.hysteresis, one.quorum - 1) }))
}

export interface AnyService {
  readonly service: VirtualService
  readonly servers: readonly SiteServer[]
  readonly health: HealthPolicy
  readonly filters: readonly SiteFilter[]
  readonly limit: LimitSettings | null
}

/** As they are read: what is allowed first. */
export function filters(of: 4 | 6): fc.Arbitrary<readonly SiteFilter[]> {
  const one = fc.record({
    prefix: fc
      .tuple(of === 4 ? address4 : address6, fc.nat({ max: of === 4 ? 32 : 128 }))
      .map(([address, length]) => cut(address, length)),
    action: fc.constantFrom(...FILTER_ACTIONS),
  })
  return fc
    .uniqueArray(one, { maxLength: 4, selector: ({ prefix }) => prefixText(prefix) })
    .map((list) => FILTER_ACTIONS.flatMap((action) => list.filter((filter) => filter.action === action)))
}

export const markRules: fc.Arbitrary<readonly MarkRule[]> = fc.uniqueArray(
  fc.constantFrom(4 as const, 6 as const).chain((family) => {
    const prefix = fc
      .tuple(family === 4 ? address4 : address6, fc.nat({ max: 32 }))
      .map(([address, length]) => cut(address, length))
    return fc.record({
      mark: fc.integer({ min: 1, max: 0xffffffff }),
      family: fc.constant(family),
      source: optional(prefix),
      destination: optional(prefix),
      protocol: fc.constantFrom(null, 'tcp' as const, 'udp' as const, 'sctp' as const),
      ports: optional(
        fc.tuple(port, fc.nat({ max: 9 })).map(([from, n]) => ({ from, to: Math.min(65535, from + n) })),
      ),
      interface: fc.constantFrom(null, 'eth0', 'true'),
    })
  }),
  { maxLength: 4, selector: matchKey },
)

export const siteService: fc.Arbitrary<AnyService> = virtualService.chain((service) =>
  fc.record({
    service: fc.constant(service),
    health: policy(service.id.family),
    filters: filters(service.id.family),
    limit: optional(
      fc
        .record({
          rate: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: RATE_MAX })),
          connections: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: CONNECTIONS_MAX })),
          length: fc.integer({ min: 1, max: service.id.family === 4 ? 32 : 128 }),
        })
        .filter(({ rate, connections }) => rate + connections > 0),
    ),
    servers: fc.uniqueArray(
      fc.record({
        real: realServer(service.id.family),
        checks,
        policy: fc.record({
          ...{ onUp: hook, onDown: hook },
          onFailure: optional(fc.constantFrom('remove' as const, 'drain' as const)),
          start: optional(fc.constantFrom('up' as const, 'down' as const)),
        }),
        pool: fc.constant(null),
      }),
      { maxLength: 3, selector: ({ real }) => serverKey(real.id) },
    ),
  }),
)

export const siteServices = fc.uniqueArray(siteService, {
  maxLength: 4,
  selector: ({ service }) => serviceKey(service.id),
})
