/** Limits of services for each source: what packets may start, against a model told in words. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { SourceLimit } from '../../control/model/limit.ts'
import type { ServiceId } from '../../control/model/service.ts'
import {
  Conn4Record,
  Conn6Record,
  ConnStatus,
  PM_CONN_STATUS,
  PM_SOURCES,
  PM_TICK_SHIFT,
  Verdict,
} from '../../dataplane/layout/layout.gen.ts'
import { parseAddress } from '../../net/address.ts'
import { cut } from '../../net/prefix.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import fc from '../property.ts'
import { Bench } from './bench.ts'
import { icmp, ip, ipv4, tcp, udp } from './frame.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import { fromClient, service, VIP4, WEB } from './scenes.ts'

const at = (text: string) => parseAddress(text)!
const OTHER = { ...WEB[4], port: 81 }
const RULES = [
  ...service(4, 't', '-g', 1),
  ...service(6, 't', '-g', 1),
  `ipvsadm -A -t ${VIP4}:81 -s rr`,
  `ipvsadm -a -t ${VIP4}:81 -r 10.0.0.1:81 -g`,
  `ipvsadm -A -u ${VIP4}:53 -s rr -o`,
  `ipvsadm -a -u ${VIP4}:53 -r 10.0.0.1:53 -g`,
]
const SOURCES = {
  4: ['198.51.100.7', '198.51.100.8', '198.51.101.7'],
  6: ['2001:db8:c::7', '2001:db8:c:0:1::8', '2001:db8:c:1::7'],
} as const
const TICK_S = 2 ** PM_TICK_SHIFT / 1e9
const SECOND = Math.round(1 / TICK_S)

let sport = 1024
function syn(source: string, of: ServiceId & { readonly kind: 'address' }, flags = 'S'): Uint8Array {
  sport = sport === 60000 ? 1024 : sport + 1
  return fromClient(ip({ src: source, dst: of.address }, tcp({ sport, dport: of.port, flags })))
}
const NUMBERS = { rate: 0, connections: 0 }
const limits = (...add: (Partial<SourceLimit> & Pick<SourceLimit, 'service' | 'length'>)[]) => ({
  add: add.map((one) => ({ ...NUMBERS, ...one })),
  delete: [],
})

describe('limits, with time at hand', () => {
  let now = 0xffff_ff00
  let program: Program
  before(() => {
    program = openWasmProgram(() => now)
  })
  after(() => program.close())
  const pass = (ticks: number): void => {
    now = (now + ticks) >>> 0
  }
  const send = (source: string, of: ServiceId & { readonly kind: 'address' }, flags?: string) =>
    program.send('c', syn(source, of, flags)).verdict
  const counted = (verdict: number) => Number(program.dataplane.map('verdicts').u64[verdict])

  /** Until when a source's time is taken up, in nanoseconds times the rate: each connection takes up a second. */
  class Model {
    readonly #busy = new Map<string, bigint>()
    may(source: string, rate: number, tick: number): boolean {
      const time = BigInt(tick) * BigInt(2 ** PM_TICK_SHIFT) * BigInt(rate)
      const busy = this.#busy.get(source) ?? 0n
      const until = (busy > time ? busy : time) + 1_000_000_000n
      if (until - time > 1_000_000_000n * BigInt(rate)) return false
      this.#busy.set(source, until)
      return true
    }
  }

  const event = fc.record({
    wait: fc.oneof(fc.constant(0), fc.nat({ max: 9 }), fc.nat({ max: 3 * SECOND })),
    family: fc.constantFrom(4 as const, 6 as const),
    source: fc.nat({ max: 2 }),
    other: fc.boolean(),
  })

  test('each source may start what its rate and the last second leave, and nobody else’s counts', () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          rate: fc.integer({ min: 1, max: 40 }),
          length4: fc.constantFrom(8, 24, 32),
          length6: fc.constantFrom(48, 64, 128),
        }),
        fc.array(event, { minLength: 1, maxLength: 300 }),
        async ({ rate, length4, length6 }, events) => {
          await program.load(RULES)
          await program.changeLimits(
            limits({ service: WEB[4], rate, length: length4 }, { service: WEB[6], rate, length: length6 }),
          )
          const model = new Model()
          let tick = 0
          for (const { wait, family, source, other } of events) {
            pass(wait)
            tick += wait
            const address = SOURCES[family][source]!
            if (other)
              assert.equal(send(SOURCES[4][source]!, OTHER), 'forward_dr', 'a service without a limit')
            const name = cut(at(address), family === 4 ? length4 : length6).address
            const may = model.may(name, rate, tick)
            assert.equal(send(address, WEB[family]), may ? 'forward_dr' : 'drop_rate')
          }
        },
      ),
      { numRuns: 60 },
    ))

  test('packets of connections that exist, and what starts none, are not counted', async () => {
    await program.load(RULES)
    await program.changeLimits(limits({ service: WEB[4], rate: 1, length: 32 }))
    const first = syn(SOURCES[4][0], WEB[4])
    assert.equal(program.send('c', first).verdict, 'forward_dr')
    for (let i = 0; i < 5; i++) assert.equal(program.send('c', first).verdict, 'forward_dr')
    assert.equal(send(SOURCES[4][0], WEB[4], 'A'), 'pass_not_first')
    assert.equal(send(SOURCES[4][0], WEB[4]), 'drop_rate')
    assert.equal(send(SOURCES[4][1], WEB[4]), 'forward_dr')
  })

  test('each datagram of one-packet scheduling counts', async () => {
    await program.load(RULES)
    const dns = { ...WEB[4], protocol: 'udp', port: 53 } as const
    await program.changeLimits(limits({ service: dns, rate: 2, length: 32 }))
    const frame = fromClient(ip({ src: SOURCES[4][0], dst: VIP4 }, udp({ sport: 5353, dport: 53 })))
    const verdicts = [1, 2, 3].map(() => program.send('c', frame).verdict)
    assert.deepEqual(verdicts, ['forward_dr', 'forward_dr', 'drop_rate'])
  })

  test('a client that gets a persistence template on the way is counted once', async () => {
    await program.load([`ipvsadm -A -t ${VIP4}:80 -s rr -p 60`, `ipvsadm -a -t ${VIP4}:80 -r 10.0.0.1:80 -g`])
    await program.changeLimits(limits({ service: WEB[4], rate: 2, length: 32 }))
    const verdicts = [1, 2, 3].map(() => send(SOURCES[4][0], WEB[4]))
    assert.deepEqual(verdicts, ['forward_dr', 'forward_dr', 'drop_rate'])
  })

  test('schedule_icmp: a connection that an error makes is counted like others', async () => {
    await program.load(['schedule_icmp=1', ...RULES])
    await program.changeLimits(limits({ service: WEB[4], rate: 1, length: 32 }))
    const about = (dport: number) =>
      program.send(
        'c',
        fromClient(
          ip(
            { src: '203.0.113.254', dst: VIP4 },
            icmp({ type: 3, code: 3 }, ipv4({ src: VIP4, dst: SOURCES[4][0] }, tcp({ sport: 80, dport }))),
          ),
        ),
      ).verdict
    assert.deepEqual([about(900), about(900), about(901)], ['forward_icmp', 'forward_icmp', 'drop_rate'])
    assert.equal(send(SOURCES[4][0], WEB[4]), 'drop_rate')
    assert.equal(send(SOURCES[4][1], WEB[4]), 'forward_dr')
  })

  test('a limit ends when it is deleted, and with its service', async () => {
    await program.load(RULES)
    await program.changeLimits(limits({ service: WEB[4], rate: 1, length: 32 }))
    assert.equal(send(SOURCES[4][0], WEB[4]), 'forward_dr')
    assert.equal(send(SOURCES[4][0], WEB[4]), 'drop_rate')
    await program.changeLimits({ add: [], delete: [WEB[4]] })
    assert.equal(send(SOURCES[4][0], WEB[4]), 'forward_dr')
    await program.changeLimits(limits({ service: WEB[4], rate: 1, length: 32 }))
    await program.run(`ipvsadm -D -t ${VIP4}:80`)
    for (const rule of service(4, 't', '-g', 1)) await program.run(rule)
    for (let i = 0; i < 3; i++) assert.equal(send(SOURCES[4][0], WEB[4]), 'forward_dr')
  })

  /** Connections that end by time alone: which source had when what. */
  const talk = fc.record({
    wait: fc.oneof(fc.constant(0), fc.constant(0), fc.integer({ min: 1, max: 5 })),
    source: fc.nat({ max: 2 }),
    port: fc.nat({ max: 5 }),
  })

  for (const method of ['-g', '-m'] as const)
    test(`each source has so many connections at a time, and gets back what ends (${method})`, () =>
      fc.assert(
        fc.asyncProperty(
          fc.constantFrom(4 as const, 6 as const),
          fc.integer({ min: 1, max: 4 }),
          fc.boolean(),
          fc.array(talk, { minLength: 1, maxLength: 120 }),
          async (family, connections, wide, talks) => {
            const length = family === 4 ? (wide ? 24 : 32) : wide ? 48 : 128
            await program.load(service(family, 'u', method, 2))
            const dns = { ...WEB[family], protocol: 'udp', port: 53 } as const
            await program.changeLimits(limits({ service: dns, connections, length }))
            /** When they end. */
            const ends = new Map<string, number>()
            let seconds = 0
            for (const { wait, source, port } of talks) {
              /* Never just when one ends: after 300 s. */
              seconds += 70 * wait
              pass(Math.round(70 * wait * SECOND))
              for (const [name, end] of ends) if (end < seconds) ends.delete(name)
              const listed = (await program.run('ipvsadm -Lnc'))
                .split('\n')
                .filter((line) => line.startsWith('UDP'))
              assert.equal(listed.length, ends.size, 'what is listed is what there is')
              const address = SOURCES[family][source]!
              const network = cut(at(address), length).address
              const name = `${network} ${address} ${port}`
              const had = [...ends.keys()].filter((one) => one.startsWith(`${network} `)).length
              const may = ends.has(name) || had < connections
              const frame = fromClient(
                ip({ src: address, dst: dns.address }, udp({ sport: 5000 + port, dport: 53 })),
              )
              const sent = method === '-g' ? 'forward_dr' : 'forward_nat'
              assert.equal(program.send('c', frame).verdict, may ? sent : 'drop_connections')
              if (may) ends.set(name, seconds + 300)
            }
            /* What counts them goes, too, when there is nobody any more. */
            for (let round = 0; round < 3; round++) {
              pass(400 * SECOND)
              await program.run('ipvsadm -Lnc')
            }
            const lines = program.dataplane.map(family === 4 ? 'connections4' : 'connections6')
            const stride = family === 4 ? Conn4Record.size : Conn6Record.size
            for (let line = 0; line < lines.entries; line++)
              assert.ok((lines.view.getUint32(line * stride, true) & PM_CONN_STATUS) < ConnStatus.Claimed)
          },
        ),
        { numRuns: 15 },
      ))

  test('a persistent service counts by its templates, and a client that has all goes on with what it has', async () => {
    await program.load([`ipvsadm -A -t ${VIP4}:80 -s rr -p 60`, `ipvsadm -a -t ${VIP4}:80 -r 10.0.0.1:80 -g`])
    await program.changeLimits(limits({ service: WEB[4], connections: 2, length: 32 }))
    const first = syn(SOURCES[4][0], WEB[4])
    assert.equal(program.send('c', first).verdict, 'forward_dr')
    const verdicts = [1, 2].map(() => send(SOURCES[4][0], WEB[4]))
    assert.deepEqual(verdicts, ['forward_dr', 'drop_connections'])
    assert.equal(program.send('c', first).verdict, 'forward_dr')
    assert.equal(send(SOURCES[4][1], WEB[4]), 'forward_dr')
  })

  test('without a real server nothing is counted, and nothing once the limit is gone', async () => {
    await program.load(RULES)
    await program.changeLimits(limits({ service: WEB[4], connections: 1, length: 32 }))
    const [server] = service(4, 't', '-g', 1).slice(1)
    const weigh = (weight: number) => program.run(`${server!.replace(' -a ', ' -e ')} -w ${weight}`)
    await weigh(0)
    for (let i = 0; i < 3; i++) assert.equal(send(SOURCES[4][0], WEB[4]), 'answer_port_unreachable')
    await weigh(1)
    assert.equal(send(SOURCES[4][0], WEB[4]), 'forward_dr')
    assert.equal(send(SOURCES[4][0], WEB[4]), 'drop_connections')
    await program.changeLimits({ add: [], delete: [WEB[4]] })
    assert.equal(send(SOURCES[4][0], WEB[4]), 'forward_dr')
  })

  test('sources within their rate are remembered through a flood from others that are', async () => {
    await program.load(RULES)
    await program.changeLimits(limits({ service: WEB[4], rate: 1, length: 32 }))
    assert.equal(send(SOURCES[4][0], WEB[4]), 'forward_dr')
    // So many that each finds room in one of its two sets, whatever the hash, within the second.
    for (let i = 0; i < PM_SOURCES / 8; i++)
      send(`100.${64 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`, WEB[4])
    assert.equal(counted(Verdict.ForgotSource), 0)
    assert.equal(send(SOURCES[4][0], WEB[4]), 'drop_rate')
    // More than that: somebody has to be forgotten, and it is said.
    for (let i = 0; i < PM_SOURCES * 2; i++) send(`101.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, WEB[4])
    assert.ok(counted(Verdict.ForgotSource) > 0)
    // A second later nobody's time is taken up.
    pass(SECOND + 1)
    const before = counted(Verdict.ForgotSource)
    for (let i = 0; i < PM_SOURCES / 8; i++) send(`102.64.${i >> 8}.${i & 255}`, WEB[4])
    assert.equal(counted(Verdict.ForgotSource), before)
  })
})

describe('limits in the kernel', { skip: missingPrivilege() ?? false }, () => {
  let program: Program
  before(async () => {
    program = await openKernelProgram(new Bench(`pml${process.pid % 100_000}`))
  })
  after(() => program.close())

  test('a source has so many connections at a time', async () => {
    await program.load(RULES)
    await program.changeLimits(
      limits(
        { service: WEB[4], connections: 3, length: 24 },
        { service: WEB[6], connections: 3, length: 64 },
      ),
    )
    for (const family of [4, 6] as const) {
      const [one, , other] = SOURCES[family]
      const verdicts = Array.from({ length: 5 }, () => program.send('c', syn(one, WEB[family])).verdict)
      assert.deepEqual(verdicts, [
        ...Array.from({ length: 3 }, () => 'forward_dr'),
        ...Array.from({ length: 2 }, () => 'drop_connections'),
      ])
      assert.equal(program.send('c', syn(other, WEB[family])).verdict, 'forward_dr')
    }
  })

  test('a source starts at once what its rate lets it in a second, and then as much as time passes', async () => {
    await program.load(RULES)
    await program.changeLimits(
      limits({ service: WEB[4], rate: 10, length: 24 }, { service: WEB[6], rate: 10, length: 64 }),
    )
    for (const family of [4, 6] as const) {
      const [one, sameNetwork, other] = SOURCES[family]
      const count = new Map<string, number>()
      const began = performance.now()
      for (let i = 0; i < 100; i++) {
        const { verdict } = program.send('c', syn(i % 2 ? one : sameNetwork, WEB[family]))
        count.set(verdict, (count.get(verdict) ?? 0) + 1)
      }
      const most = 10 + ((performance.now() - began) / 1000 + 2 * TICK_S) * 10
      const started = count.get('forward_dr') ?? 0
      assert.ok(started >= 10 && started <= Math.ceil(most), `${started} of at most ${most}`)
      assert.equal(started + (count.get('drop_rate') ?? 0), 100)
      assert.equal(program.send('c', syn(other, WEB[family])).verdict, 'forward_dr')
    }
    assert.equal(program.send('c', syn(SOURCES[4][0], OTHER)).verdict, 'forward_dr')
  })
})
