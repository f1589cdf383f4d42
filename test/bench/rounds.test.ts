/** Who is measured when, and what a round of it comes to. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CASES, groups } from '../../bench/against/cases.ts'
import { samplesOf } from '../../bench/against/program.ts'
import { net, type Quad, type Side, turns, wrapperNoise } from '../../bench/against/rounds.ts'
import { judge } from '../../bench/against/verdict.ts'

describe('turns', () => {
  const letters = (sides: readonly Side[]): string =>
    sides.map((side) => (side === 'ours' ? 'A' : 'B')).join('')

  it('go A B B A, so that whatever drifts costs both the same', () => {
    assert.equal(letters(turns(6)), 'ABBABAABABBA')
    for (const pairs of [2, 8, 14]) {
      const sum: Record<Side, number> = { ours: 0, theirs: 0 }
      const count: Record<Side, number> = { ours: 0, theirs: 0 }
      for (const [at, side] of turns(pairs).entries()) {
        sum[side] += at
        count[side]++
      }
      assert.deepEqual(count, { ours: pairs, theirs: pairs })
      assert.equal(sum.ours, sum.theirs)
    }
  })

  it('go on where those before have ended, so that each begins as often as the other', () => {
    assert.equal(letters(turns(2, 0)) + letters(turns(2, 1)) + letters(turns(2, 2)), letters(turns(6)))
  })

  it('are refused where they would leave a round unfinished', () => {
    for (const pairs of [0, 1, 3, 2.5]) assert.throws(() => turns(pairs), RangeError)
  })
})

describe('a round', () => {
  it('takes the wrapper off, and what drifts evenly with it', () => {
    // 30 for the wrapper, 60 and 90 for the programs, and each run a nanosecond slower than the one before.
    const drifting: Quad = { before: 30, ours: [91, 94], theirs: [122, 123], after: 35 }
    assert.deepEqual(net(drifting), { ours: 60, theirs: 90 })
    assert.deepEqual(wrapperNoise([drifting]), [2.5])
  })
})

/** A round in which both programs have these net times. */
const quad = (ours: number, theirs: number, wrapper = 30): Quad => ({
  before: wrapper,
  ours: [ours + wrapper, ours + wrapper],
  theirs: [theirs + wrapper, theirs + wrapper],
  after: wrapper,
})

describe('samples', () => {
  it('are the loads where there are enough of them: rounds of one load share its luck', () => {
    // Loads differ by 5 % either way, whatever the round: that is no difference between the builds.
    const loads = Array.from({ length: 8 }, (_, load) => {
      const luck = load % 2 === 0 ? 1.05 : 0.95
      return Array.from({ length: 12 }, () => quad(100 * luck, 100))
    })
    const { ours, theirs } = samplesOf(loads)
    assert.equal(ours.length, 8)
    assert.equal(theirs.length, 8)
    assert.equal(judge({ ours, theirs }).judgement, 'too-noisy')
    // One unlucky load alone would say that all of them are slower.
    assert.equal(judge(samplesOf([loads[0]!])).judgement, 'more')
  })

  it('take the median of a load by its ratios: a slow stretch of the machine is none of the program', () => {
    const loads = Array.from({ length: 8 }, () => [
      quad(50, 100),
      quad(500, 1000),
      quad(500, 1000),
      quad(50, 100),
      quad(50, 100),
    ])
    const judged = judge(samplesOf(loads))
    assert.equal(judged.judgement, 'less')
    assert.ok(Math.abs(judged.ratio - 0.5) < 1e-9)
    assert.equal(judged.theirs, 100)
  })

  it('are the rounds where there are few loads', () => {
    assert.equal(samplesOf([[quad(1, 1), quad(1, 1)], [quad(1, 1)]]).ours.length, 3)
  })
})

describe('cases', () => {
  it('have names of their own, and all of them stand in one group', () => {
    const names = CASES.map(({ name }) => name)
    assert.equal(new Set(names).size, names.length)
    const grouped = groups(CASES).flatMap(({ scenes }) => scenes.flat())
    assert.deepEqual(grouped.map(({ name }) => name).sort(), [...names].sort())
  })

  it('share a scene only where service and connections are the same', () => {
    for (const { tables, scenes } of groups(CASES))
      for (const cases of scenes)
        for (const one of cases) {
          assert.equal(one.tables, tables)
          assert.deepEqual(one.scene, cases[0]!.scene)
          assert.equal(one.flows, cases[0]!.flows)
        }
  })

  it('measure established connections before anything that would forget them', () => {
    for (const { scenes } of groups(CASES))
      for (const cases of scenes) {
        const forgetting = cases.findIndex(({ traffic }) => traffic === 'first' || traffic === 'wire-first')
        assert.ok(forgetting === -1 || forgetting === cases.length - 1 || cases[0]!.flows === 0)
      }
  })
})
