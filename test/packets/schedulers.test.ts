/** Schedulers that remember destinations or draw lots, and how evenly others spread, on both planes. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { MarkRule } from '../../control/model/mark.ts'
import { SettingsRecord } from '../../dataplane/layout/layout.gen.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Bench } from './bench.ts'
import { ip, type Segment, tcp, udp } from './frame.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import { CLIENT4, fromClient, RS4, VIP4 } from './scenes.ts'

const EVERYTHING: MarkRule = {
  family: 4,
  mark: 7,
  source: null,
  destination: null,
  protocol: null,
  ports: null,
  interface: null,
}
const DESTINATIONS = ['198.18.0.1', '198.18.0.2', '198.18.0.3', '198.18.0.4']

function rules(at: string, scheduler: string, weights: readonly number[], options = ''): string[] {
  return [
    `ipvsadm -A ${at} -s ${scheduler} ${options}`.trimEnd(),
    ...weights.map(
      (weight, i) => `ipvsadm -a ${at} -r ${RS4[i]}${at.startsWith('-f') ? '' : ':53'} -g -w ${weight}`,
    ),
  ]
}

function questions(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)

  function to(destination: string, segment: Segment, client = CLIENT4): number | string {
    const { verdict, frame } = it().send(
      'c',
      fromClient(ip({ src: client, dst: destination, ttl: 64 }, segment)),
    )
    return verdict.startsWith('forward_') ? (frame[5] ?? 0) - 0x11 : verdict
  }

  /** Shares of real servers among so many datagrams, each of a client of its own. */
  function shares(clients: number): number[] {
    const met = [0, 0, 0]
    for (let i = 0; i < clients; i++) {
      const client = `203.${i >> 16}.${(i >> 8) & 255}.${i & 255}`
      const real = to(VIP4, udp({ sport: 1024 + (i % 60000), dport: 53 }, ''), client)
      assert.equal(typeof real, 'number', `${real}`)
      met[real as number]!++
    }
    return met.map((count) => count / clients)
  }

  const near = (got: readonly number[], wanted: readonly number[], by: number): void => {
    for (const [i, share] of wanted.entries()) {
      assert.ok(Math.abs((got[i] ?? 0) - share) <= by, `${got.map((x) => x.toFixed(3))} instead of ${wanted}`)
    }
  }

  /** A service of a mark that all packets have. */
  async function caches(
    scheduler: string,
    weights: readonly number[],
    settings: readonly string[] = [],
  ): Promise<void> {
    await it().load([...settings, ...rules('-f 7', scheduler, weights)])
    await it().changeMarks({ add: [EVERYTHING], delete: [], flush: true })
  }
  let port = 1000
  const visit = (destination: string): number | string =>
    to(destination, tcp({ sport: port++, dport: 80, flags: 'S' }))

  for (const scheduler of ['lblc', 'lblcr']) {
    test(`${scheduler}: a destination stays where it went first, others go where there is least to do`, {
      skip,
    }, async () => {
      await caches(scheduler, [100, 100, 100])
      const first = DESTINATIONS.slice(0, 3).map(visit)
      assert.deepEqual([...first].sort(), [0, 1, 2])
      for (let i = 0; i < 5; i++) assert.deepEqual(DESTINATIONS.slice(0, 3).map(visit), first)
      // The cache of one service is not that of the next.
      await caches(scheduler, [100, 100, 100])
      assert.equal(visit(DESTINATIONS[2]!), 2)
    })

    test(`${scheduler}: a destination whose real server is drained or gone goes elsewhere`, {
      skip,
    }, async () => {
      await caches(scheduler, [100, 100, 100])
      const real = visit(DESTINATIONS[0]!) as number
      await it().run(`ipvsadm -e -f 7 -r ${RS4[real]} -g -w 0`)
      const other = visit(DESTINATIONS[0]!) as number
      assert.notEqual(other, real)
      await it().run(`ipvsadm -d -f 7 -r ${RS4[other]}`)
      const last = visit(DESTINATIONS[0]!) as number
      assert.ok(last !== real && last !== other, `${last}`)
    })

    test(`${scheduler}: what is not used for long is forgotten`, { skip }, async () => {
      await caches(scheduler, [100, 100], [`${scheduler}_expiration=1`])
      const real = visit(DESTINATIONS[0]!)
      const map = it().dataplane.map('localities')
      for (let at = 1; at < map.u32.length; at += map.entrySize / 4)
        if (map.u32[at] !== 0) map.u32[at]! -= 1000
      await it().run(`ipvsadm -e -f 7 -r ${RS4[real as number]} -g -w 1`)
      assert.notEqual(visit(DESTINATIONS[0]!), real, 'scheduled anew, by weight')
    })
  }

  test('lblc moves a destination whose real server has too much to do, lblcr gives it another one', {
    skip,
  }, async () => {
    for (const scheduler of ['lblc', 'lblcr']) {
      await caches(scheduler, [2, 9])
      // The first three are within a weight of 2; then the other has less than half of its own to do.
      await it().run(`ipvsadm -e -f 7 -r ${RS4[1]} -g -w 0`)
      assert.deepEqual(
        [1, 2, 3].map(() => visit(DESTINATIONS[0]!)),
        [0, 0, 0],
        scheduler,
      )
      await it().run(`ipvsadm -e -f 7 -r ${RS4[1]} -g -w 9`)
      assert.deepEqual(
        [1, 2].map(() => visit(DESTINATIONS[0]!)),
        [1, 1],
        scheduler,
      )
      const { u32, entrySize } = it().dataplane.map('localities')
      const sets = []
      for (let at = 0; at < u32.length; at += entrySize / 4) {
        if (u32[at] !== 0)
          sets.push([...u32.subarray(at + 8, at + 16)].filter((real) => real !== 0xffffffff).length)
      }
      assert.deepEqual(sets, [scheduler === 'lblc' ? 1 : 2])
    }
  })

  test('lblcr takes the most loaded out of a set that has stayed as it is for long', { skip }, async () => {
    await caches('lblcr', [1, 1], ['lblcr_expiration=100'])
    for (let i = 0; i < 6; i++) visit(DESTINATIONS[0]!)
    const { u32, entrySize } = it().dataplane.map('localities')
    const at = u32.findIndex((word, i) => i % (entrySize / 4) === 0 && word !== 0)
    const members = (): number =>
      [...u32.subarray(at + 8, at + 16)].filter((real) => real !== 0xffffffff).length
    const before = members()
    u32[at + 3]! -= 20_000
    visit(DESTINATIONS[0]!)
    assert.ok(before > 1 ? members() < before || members() === before : true, `${before}, ${members()}`)
  })

  test('as many destinations as there is room for are remembered, and the longest unused make room', {
    skip,
  }, async () => {
    await caches('lblc', [100, 100, 100])
    for (let i = 0; i < 3000; i++) visit(`198.18.${i >> 8}.${i & 255}`)
    const { u32, entrySize } = it().dataplane.map('localities')
    let live = 0
    for (let at = 0; at < u32.length; at += entrySize / 4) live += u32[at]! & 1
    assert.ok(live > 2900, `${live}`)
  })

  const WAYS: readonly (readonly [string, string, readonly number[], readonly number[]])[] = [
    ['random', '', [1, 5, 9], [1 / 3, 1 / 3, 1 / 3]],
    ['wrandom', '', [1, 3, 6], [0.1, 0.3, 0.6]],
    ['mh', '-b mh-port', [1, 2, 1], [0.25, 0.5, 0.25]],
    ['mh', '', [1, 2, 1], [0.25, 0.5, 0.25]],
    ['sh', '-b sh-port', [1, 2, 1], [0.25, 0.5, 0.25]],
    ['wrr', '', [1, 2, 1], [0.25, 0.5, 0.25]],
  ]
  for (const [scheduler, flags, weights, wanted] of WAYS) {
    test(`${scheduler} ${flags} spreads by weight`.replace('  ', ' '), { skip }, async () => {
      await it().load(rules(`-u ${VIP4}:53`, scheduler, weights, `-o ${flags}`.trimEnd()))
      // Three standard deviations of 10,000 lots are 0.015.
      near(shares(10_000), wanted, 0.02)
    })
  }

  test('lots skip who is drained or full, and nobody is drawn where nobody can be', { skip }, async () => {
    for (const scheduler of ['random', 'wrandom']) {
      await it().load(rules(`-u ${VIP4}:53`, scheduler, [1, 0, 2], '-o'))
      assert.equal(shares(300)[1], 0)
      await it().load(rules(`-u ${VIP4}:53`, scheduler, [0, 0, 0], '-o'))
      assert.equal(to(VIP4, udp({ sport: 1, dport: 53 }, '')), 'answer_port_unreachable')
    }
  })

  test('lots do not begin again when rules change', { skip }, async () => {
    await it().load(rules(`-u ${VIP4}:53`, 'random', [1, 1, 1], '-o'))
    const seed = SettingsRecord.getHashSeed(it().dataplane.map('settings').view, 0)
    const draw = (): string =>
      Array.from({ length: 30 }, (_, i) => to(VIP4, udp({ sport: 1 + i, dport: 53 }, ''))).join('')
    assert.notEqual(draw(), draw(), `the same lots twice with seed ${seed}`)
  })
}

describe('schedulers in wasm', () => {
  questions(async () => openWasmProgram(), false)
})

describe('schedulers in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmps${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
  )
})
