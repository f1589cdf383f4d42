/** A plan is a value: making one costs nothing, and what it says is what is done. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { PlanView } from '../../../control/plan/draft.ts'
import { Ledger } from '../../../control/plan/ledger.ts'
import { execute, type RuleMaps, ruleMaps } from '../../../control/plan/operations.ts'
import { planReclaim, planRemoval, planService } from '../../../control/plan/plan.ts'
import { together } from '../../../control/rules/changes.ts'
import { Rules } from '../../../control/rules/rules.ts'
import { MAP_NAMES } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { checkReadable } from '../map-reader.ts'
import { server, service, testHost } from '../support.ts'

/** Everything that can be asked of a ledger. */
function observe(ledger: Ledger): unknown {
  return {
    holdings: Array.from(ledger.holdings(), (holding) => ({
      ...holding,
      reals: [...holding.reals],
      ranges: [...holding.ranges],
    })),
    reals: Array.from({ length: ledger.sizes.reals }, (_, i) => ledger.real(i)?.key),
    gone: [...ledger.goneReals],
    free: [ledger.freeService(), ledger.servicesFree, ledger.realsFree],
    freeReals: ledger.freeReals(ledger.sizes.reals),
    ranges: [0, 1, 4, 5, 16, 100, 300].map((count) => ledger.freeRange(count)),
    comingMs: ledger.comingMs(),
  }
}

function bytesOf(dataplane: MemoryDataplane): Buffer {
  return Buffer.concat(MAP_NAMES.map((name) => dataplane.map(name).bytes))
}

const step = fc.record({
  what: fc.constantFrom('service', 'drop', 'add', 'add', 'add', 'edit', 'delete', 'scheduler'),
  name: fc.constantFrom('tcp 10.0.0.1:80', 'tcp 10.0.0.2:80', 'udp [2001:db8::1]:53'),
  server: fc.nat({ max: 5 }),
  weight: fc.nat({ max: 3 }),
  scheduler: fc.constantFrom('rr', 'wrr', 'sh'),
})

describe('plan', () => {
  test('planning twice gives the same plan, takes nothing and writes nothing', () => {
    fc.assert(
      fc.property(fc.array(fc.array(step, { minLength: 1, maxLength: 5 }), { maxLength: 12 }), (groups) => {
        // Small, so that every kind of lack occurs.
        const dataplane = new MemoryDataplane({ ...SMALL_SIZES, services: 2, reals: 6, members: 512 })
        const maps: RuleMaps = ruleMaps(dataplane)
        const ledger = new Ledger(dataplane.sizes)
        const rules = new Rules(testHost())
        let nowMs = 0
        const view = (): PlanView => ({
          ledger,
          maps,
          quietMs: nowMs - 59,
          nowTicks: () => 0,
          place: () => ({ source: null, local: false }),
        })
        const twice = <T>(plan: () => T): T => {
          const before = [observe(ledger), bytesOf(dataplane)] as const
          const first = plan()
          assert.deepEqual(plan(), first)
          assert.deepEqual(observe(ledger), before[0])
          assert.ok(bytesOf(dataplane).equals(before[1]), 'the maps are as they were')
          return first
        }
        const left = new Map<string, ReturnType<typeof together>>()
        for (const group of groups) {
          for (const { what, name, server: index, weight, scheduler } of group) {
            const wanted = service(name, { scheduler: scheduler as 'rr' })
            const six = wanted.id.family === 6
            const real = server(six ? `[2001:db8::${index + 2}]:80` : `10.1.0.${index + 1}:80`, { weight })
            if (what === 'service') rules.addService(wanted)
            else if (what === 'drop') rules.deleteService(wanted.id)
            else if (what === 'add') rules.addServer(wanted.id, real)
            else if (what === 'edit') rules.editServer(wanted.id, real)
            else if (what === 'delete') rules.deleteServer(wanted.id, real.id)
            else rules.editService(wanted)
          }
          nowMs += 60
          ledger.release(nowMs - 59)
          for (const key of new Set([...left.keys(), ...rules.changes.keys()])) {
            const noted = rules.changes.take(key)
            const change = noted === undefined ? left.get(key) : together(left.get(key), noted)
            left.delete(key)
            const entry = rules.findKey(key)
            const holding = ledger.serviceOfKey(key)
            if (entry === undefined) {
              if (holding === undefined || holding.state === 'gone') continue
              const plan = twice(() => planRemoval(view(), holding))
              for (const operation of plan.operations) execute(maps, operation)
              ledger.commit(plan.claims, nowMs)
              continue
            }
            twice(() => planService(view(), entry, change!, true))
            let plan = twice(() => planService(view(), entry, change!, false, 2))
            while (plan.kind === 'steps' && plan.unfinished) {
              for (const operation of plan.operations) execute(maps, operation)
              ledger.commit(plan.claims, nowMs)
              checkReadable(dataplane)
              plan = twice(() => planService(view(), entry, change!, false, 2))
            }
            if (plan.kind !== 'steps') {
              left.set(key, change!)
              const room = twice(() => planReclaim(view(), 2))
              for (const operation of room.operations) execute(maps, operation)
              ledger.commit(room.claims, nowMs)
              continue
            }
            for (const operation of plan.operations) execute(maps, operation)
            ledger.commit(plan.claims, nowMs)
            const again = planService(view(), entry, {
              ...change!,
              created: false,
              all: true,
              reschedule: false,
              moves: [],
              servers: new Set(),
            })
            assert.ok(again.kind === 'steps')
            assert.deepEqual(again.operations, [], 'what has been done need not be done again')
            assert.deepEqual(again.claims, [])
          }
        }
      }),
      { numRuns: 200 },
    )
  })

  test('what is missing is said: what, how many, how many there are', () => {
    const dataplane = new MemoryDataplane({ ...SMALL_SIZES, reals: 3 })
    const rules = new Rules(testHost())
    const ledger = new Ledger(dataplane.sizes)
    const web = service('tcp 10.0.0.1:80')
    rules.addService(web)
    for (let i = 1; i <= 5; i++) rules.addServer(web.id, server(`10.1.0.${i}:80`))
    const view = {
      ledger,
      maps: ruleMaps(dataplane),
      quietMs: 0,
      nowTicks: () => 0,
      place: () => ({ source: null, local: false }),
    }
    const [key] = rules.changes.keys()
    const change = rules.changes.take(key!)!
    const entry = rules.findKey(key!)!
    const lack = { what: 'real servers', wanted: 5, free: 3, size: 3 }
    assert.deepEqual(planService(view, entry, change), { kind: 'lacks', lack })
    const part = planService(view, entry, change, true)
    assert.ok(part.kind === 'steps')
    assert.deepEqual(part.lack, lack)
    assert.equal(part.operations.filter(({ op }) => op === 'fill-real').length, 3)
  })

  test('an index that is free by now is to be had at once, also for who only asks', () => {
    const dataplane = new MemoryDataplane(SMALL_SIZES)
    const maps = ruleMaps(dataplane)
    const rules = new Rules(testHost())
    const ledger = new Ledger(dataplane.sizes)
    const web = service('tcp 10.0.0.1:80')
    rules.addService(web)
    rules.addServer(web.id, server('10.1.0.1:80'))
    const view = (quietMs: number): PlanView => ({
      ledger,
      maps,
      quietMs,
      nowTicks: () => 0,
      place: () => ({ source: null, local: false }),
    })
    const carryOut = (nowMs: number): void => {
      const [key] = rules.changes.keys()
      const steps = planService(view(nowMs), rules.findKey(key!)!, rules.changes.take(key!)!)
      assert.ok(steps.kind === 'steps')
      for (const operation of steps.operations) execute(maps, operation)
      ledger.commit(steps.claims, nowMs)
    }
    carryOut(1000)
    rules.deleteServer(web.id, server('10.1.0.1:80').id)
    carryOut(2000)
    const early = planReclaim(view(2000), 0).waitMs
    assert.ok(early !== null && early > 0, `wait ${early}`)
    assert.equal(planReclaim(view(2001), 0).waitMs, 0)
    assert.equal(planReclaim(view(2001), 1).freed, 1)
  })
})
