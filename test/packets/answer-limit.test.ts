/** How often one destination is told of errors: six at once, then one in each interval, and nobody at others' cost. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  PM_ANSWER_BUCKET,
  PM_ANSWER_BUCKETS,
  PM_TICK_SHIFT,
  SettingsRecord,
} from '../../dataplane/layout/layout.gen.ts'
import fc from '../property.ts'
import { ip, ipv4, tcp, udp } from './frame.ts'
import { openWasmProgram, type Program } from './programs.ts'
import { fromClient, service, VIP4, VIP6 } from './scenes.ts'

const BURST = 6
/** A second, and the sixteenth part of one. */
const INTERVAL = { 4: Math.round(1e9 / 2 ** PM_TICK_SHIFT), 6: Math.round(1e9 / 16 / 2 ** PM_TICK_SHIFT) }
const CLIENTS = {
  4: ['198.51.100.7', '198.51.100.8', '203.0.113.9'],
  6: ['2001:db8:c::7', '2001:db8:c::8', '2001:db8:c:1::7'],
} as const
type Family = 4 | 6

describe('ICMP errors to one destination', () => {
  let now = 0xffff_fe00
  let program: Program
  before(async () => {
    program = openWasmProgram(() => now)
    await load()
  })
  after(() => program.close())

  const load = () =>
    program.load([
      `ipvsadm -A -t ${VIP4}:80 -s rr`,
      `ipvsadm -A -t [${VIP6}]:80 -s rr`,
      ...service(4, 'u', '-i', 1),
    ])
  const limit = (intervals: number) => {
    const { u32 } = program.dataplane.map('settings')
    u32[SettingsRecord.offsets.answerIntervals / 4] = intervals
    // The budget for all of them is another matter.
    u32[SettingsRecord.offsets.icmpPerSecond / 4] = 0
  }
  const both = INTERVAL[4] | (INTERVAL[6] << 16)
  const pass = (ticks: number) => {
    now = (now + ticks) >>> 0
  }
  /** To a service without real servers. */
  const ask = (client: string, family: Family = 4, intervals = both) => {
    limit(intervals)
    const packet = ip(
      { src: client, dst: family === 4 ? VIP4 : VIP6 },
      tcp({ sport: 40000, dport: 80, flags: 'S' }),
    )
    return program.send('c', fromClient(packet)).verdict
  }
  const TOLD = 'answer_port_unreachable'

  test('as a model of tokens has it, for every client by itself', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            wait: fc.oneof(fc.constant(0), fc.nat({ max: 20 }), fc.nat({ max: 7 * INTERVAL[4] })),
            family: fc.constantFrom(4 as const, 6 as const),
            client: fc.nat({ max: 2 }),
          }),
          { minLength: 1, maxLength: 80 },
        ),
        async (events) => {
          await load()
          const tokens = new Map<string, { left: number; at: number }>()
          let tick = 0
          for (const { wait, family, client } of events) {
            pass(wait)
            tick += wait
            const address = CLIENTS[family][client]!
            const interval = INTERVAL[family]
            const own = tokens.get(address) ?? { left: BURST * interval, at: tick }
            const left = Math.min(BURST * interval, own.left + tick - own.at)
            const told = left >= interval
            tokens.set(address, { left: told ? left - interval : left, at: tick })
            assert.equal(ask(address, family), told ? TOLD : 'drop_answer_limit')
          }
        },
      ),
      { numRuns: 60 },
    ))

  test('any number where the machine has no limit', () => {
    for (let i = 0; i < 3 * BURST; i++) assert.equal(ask(CLIENTS[4][0], 4, INTERVAL[6] << 16), TOLD)
    for (let i = 0; i < 3 * BURST; i++) assert.equal(ask(CLIENTS[6][0], 6, INTERVAL[4]), TOLD)
  })

  test('“too big” is exempt: without it connections hang', async () => {
    await load()
    const large = fromClient(
      ipv4(
        { src: CLIENTS[4][0], dst: VIP4, df: true },
        udp({ sport: 40000, dport: 53 }, new Uint8Array(1472)),
      ),
    )
    for (let i = 0; i < 3 * BURST; i++) {
      limit(both)
      assert.equal(program.send('c', large).verdict, 'answer_too_big')
    }
  })

  test('a flood from others makes nobody wait who was told nothing, and few forgotten who were', async () => {
    await load()
    for (let i = 0; i < BURST; i++) ask(CLIENTS[4][0])
    const others = (PM_ANSWER_BUCKETS * PM_ANSWER_BUCKET) / 8
    for (let i = 0; i < others; i++) assert.equal(ask(`100.64.${i >> 8}.${i & 255}`), TOLD)
    assert.equal(ask(CLIENTS[4][0]), 'drop_answer_limit')
    for (let i = 0; i < 4 * others; i++) assert.equal(ask(`100.65.${i >> 8}.${i & 255}`), TOLD)
  })
})
