/** Sources that are denied and allowed, in both objects, against the list read one by one. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { FilterAction, FilterBatch } from '../../control/model/filter.ts'
import type { ServiceId } from '../../control/model/service.ts'
import { PM_TICK_SHIFT } from '../../dataplane/layout/layout.gen.ts'
import { parseAddress } from '../../net/address.ts'
import { cut, type Prefix, prefixText } from '../../net/prefix.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import fc from '../property.ts'
import { Bench } from './bench.ts'
import { icmp, ip, ipv4, tcp } from './frame.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import { CLIENT4, fromClient, fromServer, RS4, service, VIP4, WEB } from './scenes.ts'

const at = (text: string) => parseAddress(text)!
const prefix = (text: string, length: number): Prefix => cut(at(text), length)
const OTHER = { ...WEB[4], port: 81 }
const RULES = [
  ...service(4, 't', '-g', 1),
  ...service(6, 't', '-g', 1),
  `ipvsadm -A -t ${VIP4}:81 -s rr`,
  `ipvsadm -a -t ${VIP4}:81 -r ${RS4[0]}:81 -g`,
]
const nothing = { flush: null, delete: [], add: [] }
const batch = (
  action: FilterAction,
  prefixes: readonly Prefix[],
  of: ServiceId | null = null,
  forMs: number | null = null,
): FilterBatch => ({ action, prefixes, service: of, forMs })

const SOURCES = {
  4: ['198.51.100.7', '198.51.100.8', '198.51.101.7', '203.0.113.9'],
  6: ['2001:db8:c::7', '2001:db8:c::8', '2001:db8:d::7', '2001:db9::1'],
} as const

interface Entry {
  readonly prefix: Prefix
  readonly action: FilterAction
  readonly service: ServiceId | null
}

/** By the list as it stands. */
function denied(entries: readonly Entry[], source: string, of: ServiceId): boolean {
  const matching = entries
    .filter(
      ({ prefix, service }) =>
        prefix.family === of.family &&
        cut(at(source), prefix.length).address === prefix.address &&
        (service === null || service === of),
    )
    .sort(
      (a, b) => b.prefix.length - a.prefix.length || Number(a.service === null) - Number(b.service === null),
    )
  return matching[0]?.action === 'deny'
}

const anyEntry = fc.constantFrom(4 as const, 6 as const).chain((family) =>
  fc.record({
    prefix: fc
      .tuple(
        fc.constantFrom(...SOURCES[family]),
        fc.constantFrom(...(family === 4 ? [0, 8, 23, 24, 31, 32] : [0, 32, 47, 48, 127, 128])),
      )
      .map(([address, length]) => prefix(address, length)),
    action: fc.constantFrom('deny' as const, 'allow' as const),
    service: fc.constantFrom(null, WEB[family]),
  }),
)
const distinct = (entries: readonly Entry[]): Entry[] => [
  ...new Map(entries.map((one) => [`${prefixText(one.prefix)} ${one.service?.family}`, one])).values(),
]

function filters(open: () => Promise<Program>, runs: number): void {
  let program: Program
  let sport = 1024
  before(async () => {
    program = await open()
  })
  after(() => program.close())

  const send = (source: string, of: { readonly address: string; readonly port: number }, flags = 'S') => {
    sport = sport === 60000 ? 1024 : sport + 1
    return program.send(
      'c',
      fromClient(ip({ src: source, dst: of.address }, tcp({ sport, dport: of.port, flags }))),
    ).verdict
  }

  test('the longest prefix counts, of two of a length that of the service', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(anyEntry, { maxLength: 30 }).map(distinct),
        fc.array(fc.nat(), { maxLength: 10 }),
        async (entries, removals) => {
          await program.load(RULES)
          const batches = entries.map((one) => batch(one.action, [one.prefix], one.service))
          await program.changeFilters({ ...nothing, add: batches })
          const left = [...entries]
          for (const removal of removals) {
            if (left.length === 0) break
            const [gone] = left.splice(removal % left.length, 1)
            await program.changeFilters({
              ...nothing,
              delete: [batch(gone!.action, [gone!.prefix], gone!.service)],
            })
          }
          for (const of of [WEB[4], WEB[6], OTHER]) {
            for (const source of SOURCES[of.family]) {
              assert.equal(send(source, of), denied(left, source, of) ? 'drop_denied' : 'forward_dr', source)
            }
          }
        },
      ),
      { numRuns: runs },
    ))

  test('what is denied is dropped on connections that exist, and what the real server answers is not', async () => {
    await program.load(service(4, 't', '-m', 1))
    const client = (flags: string) =>
      fromClient(ip({ src: CLIENT4, dst: VIP4 }, tcp({ sport: 999, dport: 80, flags })))
    const answer = fromServer(ip({ src: RS4[0], dst: CLIENT4 }, tcp({ sport: 80, dport: 999, flags: 'SA' })))
    assert.equal(program.send('c', client('S')).verdict, 'forward_nat')
    await program.changeFilters({ ...nothing, add: [batch('deny', [prefix('198.51.100.0', 24)])] })
    assert.equal(program.send('c', client('A')).verdict, 'drop_denied')
    assert.equal(program.send('r', answer).verdict, 'forward_nat_reply')
    await program.changeFilters({ ...nothing, flush: { action: 'deny', service: null } })
    assert.equal(program.send('c', client('A')).verdict, 'forward_nat')
  })

  test('schedule_icmp: an error makes no connection for a client that is denied', async () => {
    await program.load(['schedule_icmp=1', ...service(4, 't', '-g', 1)])
    const answer = ipv4({ src: VIP4, dst: CLIENT4 }, tcp({ sport: 80, dport: 999 }))
    const error = fromClient(ipv4({ src: '203.0.113.254', dst: VIP4 }, icmp({ type: 3, code: 3 }, answer)))
    await program.changeFilters({ ...nothing, add: [batch('deny', [prefix(CLIENT4, 32)])] })
    assert.equal(program.send('c', error).verdict, 'drop_denied')
    await program.changeFilters({ ...nothing, flush: { action: 'deny', service: null } })
    assert.equal(program.send('c', error).verdict, 'forward_icmp')
  })

  test('nothing but virtual services is looked after', async () => {
    await program.load(RULES)
    await program.changeFilters({ ...nothing, add: [batch('deny', [prefix('0.0.0.0', 0)])] })
    assert.equal(send(CLIENT4, WEB[4]), 'drop_denied')
    assert.equal(send(CLIENT4, { address: VIP4, port: 22 }), 'pass_no_service')
  })

  test('an entry ends by itself, and the list of a service goes with it', async () => {
    await program.load(RULES)
    const tick = 2 ** PM_TICK_SHIFT / 1e6
    await program.changeFilters({ ...nothing, add: [batch('deny', [prefix(CLIENT4, 32)], null, 8 * tick)] })
    assert.equal(send(CLIENT4, WEB[4]), 'drop_denied')
    while (send(CLIENT4, WEB[4]) === 'drop_denied') await new Promise((resolve) => setTimeout(resolve, tick))
    assert.equal(send(CLIENT4, WEB[4]), 'forward_dr')
    await program.changeFilters({ ...nothing, add: [batch('deny', [prefix(CLIENT4, 32)], WEB[4])] })
    assert.equal(send(CLIENT4, WEB[4]), 'drop_denied')
    await program.run(`ipvsadm -D -t ${VIP4}:80`)
    for (const rule of service(4, 't', '-g', 1)) await program.run(rule)
    assert.equal(send(CLIENT4, WEB[4]), 'forward_dr')
  })

  test('thousands are found like one, until there is no room, and then nothing has happened', async () => {
    await program.load(RULES)
    const many = (from: number, count: number) =>
      Array.from({ length: count }, (_, i) => prefix(`10.${(from + i) >> 8}.${(from + i) & 255}.1`, 32))
    await program.changeFilters({ ...nothing, add: [batch('deny', many(0, 3000))] })
    for (const i of [0, 1777, 2999]) assert.equal(send(`10.${i >> 8}.${i & 255}.1`, WEB[4]), 'drop_denied')
    assert.equal(send('10.12.0.1', WEB[4]), 'forward_dr')
    await assert.rejects(
      program.changeFilters({ ...nothing, add: [batch('deny', many(3000, 5000))] }),
      /No room for .*--filters/,
    )
    assert.equal(send('10.12.0.1', WEB[4]), 'forward_dr')
    assert.equal(send('10.6.0.1', WEB[4]), 'drop_denied')
  })
}

describe('filters in wasm', () => filters(async () => openWasmProgram(), 60))
describe('filters in the kernel', { skip: missingPrivilege() ?? false }, () =>
  filters(() => openKernelProgram(new Bench(`pmf${process.pid % 100_000}`)), 30),
)
