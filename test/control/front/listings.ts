/** Any virtual service, real server and connection as it may be listed. */

import type { ConnectionListing } from '../../../control/model/connection.ts'
import type { Counters, Rates } from '../../../control/model/counters.ts'
import type { ServerListing } from '../../../control/model/server.ts'
import { IN_FORCE, type ServiceListing } from '../../../control/model/service.ts'
import { parseAddress } from '../../../net/address.ts'
import fc from '../../property.ts'

const int = fc.oneof(fc.nat(200), fc.nat(2147483647))
/** Every size of number, with the limits between the units. */
const bigNumber = fc.oneof(
  fc.bigInt(0n, 1000n),
  fc.bigInt(0n, 1n << 53n),
  fc
    .tuple(fc.integer({ min: 7, max: 15 }), fc.bigInt(-2n, 2n))
    .map(([digits, off]) => 10n ** BigInt(digits) + off),
)
/** The original reads some of a real server's numbers as 32 bits; ours are whole. */
const word = fc.oneof(
  fc.bigInt(0n, 1000n),
  fc.bigInt(0n, 0xffffffffn),
  fc.constantFrom(99_999_999n, 100_000_000n, 999_999_999n),
)
const wordRate = word.map(Number)
const counters = (number: fc.Arbitrary<bigint>): fc.Arbitrary<Counters> =>
  fc.record({ conns: number, inPackets: number, outPackets: number, inBytes: bigNumber, outBytes: bigNumber })
const rates = (number: fc.Arbitrary<number>): fc.Arbitrary<Rates> =>
  fc.record({ cps: number, inPps: number, outPps: number, inBps: number, outBps: number })

const address4 = fc
  .nat(0x7ffffffe)
  .map((n) => parseAddress(`${n >>> 24}.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`)!)
const address6 = fc
  .array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 7, maxLength: 7 })
  .map((groups) => parseAddress(`2001:${groups.map((n) => n.toString(16)).join(':')}`)!)
const port = fc.oneof(fc.constantFrom(0, 22, 53, 80, 443, 8080), fc.nat(65535))
const address = fc.oneof(
  address4.map((address) => ({ address, family: 4 as const })),
  address6.map((address) => ({ address, family: 6 as const })),
)

export const server: fc.Arbitrary<ServerListing> = fc.record({
  id: fc.tuple(address, port).map(([where, port]) => ({ ...where, port })),
  method: fc.constantFrom('nat', 'tunnel', 'direct-routing'),
  tunnel: fc.oneof(
    fc.constant({ type: 'ipip' as const }),
    fc.record({
      type: fc.constant('gue' as const),
      port: fc.integer({ min: 1, max: 65535 }),
      checksum: fc.constantFrom('none' as const, 'csum' as const, 'remcsum' as const),
    }),
    fc.record({
      type: fc.constant('gre' as const),
      checksum: fc.constantFrom('none' as const, 'csum' as const),
    }),
  ),
  weight: int,
  saidWeight: int,
  hold: fc.constant(null),
  upperThreshold: int,
  lowerThreshold: int,
  activeConns: int,
  inactiveConns: int,
  persistentConns: int,
  counters: counters(word),
  rates: rates(wordRate),
})

export const service: fc.Arbitrary<ServiceListing> = fc
  .record({
    id: fc.oneof(
      fc
        .tuple(fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const), address, port)
        .map(([protocol, where, port]) => ({ kind: 'address' as const, protocol, ...where, port })),
      fc.record({
        kind: fc.constant('fwmark' as const),
        mark: fc.integer({ min: 1, max: 0xffffffff }),
        family: fc.constantFrom(4 as const, 6 as const),
      }),
    ),
    scheduler: fc.constantFrom('rr', 'sh', 'mh', 'lblcr', 'none'),
    schedulerFlags: fc.integer({ min: 0, max: 7 }).map((bits) => bits << 3),
    onePacket: fc.boolean(),
    untracked: fc.constant(false),
    persistenceTimeoutS: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2678400 })),
    netmask: fc.constantFrom(0xffffffff, 0xffffff00, 24, 0),
    persistenceEngine: fc.constantFrom('sip' as const, null),
    counters: counters(bigNumber),
    rates: rates(fc.nat(Number.MAX_SAFE_INTEGER)),
    servers: fc.uniqueArray(server, {
      maxLength: 6,
      selector: ({ id }) => `${id.address} ${id.port}`,
    }),
  })
  .map((value) => ({
    ...value,
    state: IN_FORCE,
    source: 'manual',
    netmask: value.id.family === 6 ? (value.netmask % 128) + 1 : value.netmask,
  }))

export const connection: fc.Arbitrary<ConnectionListing> = fc
  .record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const, 'ip' as const),
    family: fc.constantFrom(4 as const, 6 as const),
    remainingMs: fc.nat(700_000_000).map((ms) => ms - (ms % 1000)),
    state: fc.constantFrom('ESTABLISHED', 'UDP', 'NONE', 'SHUTDOWN_ACK_SENT'),
    four: fc.tuple(address4, address4, address4),
    six: fc.tuple(address6, address6, address6),
    clientPort: port,
    virtualPort: port,
    destinationPort: port,
    engine: fc.constantFrom(null, { name: 'sip', data: 'abc123@10.0.9.1' }),
  })
  .map(({ four, six, ...rest }) => {
    const [client, virtual, destination] = rest.family === 4 ? four : six
    return { ...rest, client, virtual, destination, template: false }
  })
