/** What the bench concludes from rounds. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { COARSE, FINE, forTheBetter, judge } from '../../bench/against/verdict.ts'
import { compare, median, medianInterval } from '../../bench/statistics.ts'
import fc from '../property.ts'

/** The same numbers in every run of the tests (Park and Miller's generator). */
function* random(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (state * 48271) % 0x7fffffff
    yield state / 0x7fffffff
  }
}

describe('the interval of a median', () => {
  it('is that of the sign test, by its published table', () => {
    // Ranks for 99 % (two-sided): n and the lower one.
    const published = [
      [8, 1],
      [10, 1],
      [11, 1],
      [12, 2],
      [15, 3],
      [20, 4],
      [25, 6],
      [30, 8],
      [50, 16],
    ] as const
    for (const [count, rank] of published) {
      const values = Array.from({ length: count }, (_, at) => at + 1)
      assert.deepEqual(medianInterval(values), { low: rank, high: count + 1 - rank }, `of ${count} values`)
    }
  })

  it('is unknown as long as even all values together would not do', () => {
    for (let count = 0; count < 8; count++) {
      assert.equal(medianInterval(Array.from({ length: count }, () => 1)), null, `of ${count} values`)
    }
    assert.deepEqual(medianInterval([1, 2, 3, 4, 5], 0.9), { low: 1, high: 5 })
  })

  it('holds the true median as often as it says, whatever the distribution', () => {
    const numbers = random(7)
    let held = 0
    const trials = 2000
    for (let trial = 0; trial < trials; trial++) {
      // Skewed, with a long tail, as times on a busy machine are; its median is 2.
      const values = Array.from({ length: 15 }, () => 1 / (1 - numbers.next().value))
      const interval = medianInterval(values)!
      if (interval.low <= 2 && 2 <= interval.high) held++
    }
    assert.ok(held / trials >= 0.985, `${held} of ${trials}`)
    assert.ok(held / trials < 1, 'an interval that is never wrong is too wide')
  })

  it('holds the median of the values, in whatever order they come', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.1, max: 10, noNaN: true }), { minLength: 9 }), (values) => {
        const interval = medianInterval(values)!
        assert.ok(interval.low <= median(values) && median(values) <= interval.high)
        assert.deepEqual(medianInterval(values.toReversed()), interval)
      }),
    )
  })
})

describe('a comparison', () => {
  it('takes the median of the ratios, not the ratio of the medians', () => {
    // The machine was slow for a while: both took three times as long, and their ratio stayed.
    const found = compare([10, 30, 30, 10, 10], [20, 60, 60, 20, 20])
    assert.equal(found.ratio, 0.5)
    // Medians that come of different rounds would say 1.
    const crossed = compare([1, 2, 9], [2, 1, 2])
    assert.equal(crossed.value / crossed.reference, 1)
    assert.equal(crossed.ratio, 2)
  })
})

/** Rounds with this ratio, scattered evenly by `scatter` to both sides of it, on a machine whose pace changes. */
function rounds(ratio: number, scatter: number, count = 15): { ours: number[]; theirs: number[] } {
  const theirs = Array.from({ length: count }, (_, at) => 100 + 40 * (at % 3))
  const offset = (at: number): number => (scatter * (2 * at - (count - 1))) / (count - 1)
  return { ours: theirs.map((value, at) => value * ratio * (1 + offset(at))), theirs }
}

describe('the judge', () => {
  it('sees three per cent through noise of as much', () => {
    assert.equal(judge(rounds(1.03, 0.03)).judgement, 'more')
    assert.equal(judge(rounds(0.97, 0.03)).judgement, 'less')
  })

  it('says that nothing moved where nothing did', () => {
    assert.equal(judge(rounds(1, 0.02)).judgement, 'same')
    assert.equal(judge(rounds(1 + FINE.moved / 2, 0.01)).judgement, 'same')
  })

  it('does not judge what it cannot tell', () => {
    assert.equal(judge(rounds(1, 0.5)).judgement, 'too-noisy')
    assert.equal(judge(rounds(1.1, 0.5)).judgement, 'too-noisy')
    assert.equal(judge(rounds(2, 0.01, 7)).judgement, 'too-noisy', 'too few rounds')
  })

  it('calls no move what is smaller than two builds of one source differ by', () => {
    const { ours, theirs } = rounds(1 + FINE.moved * 0.9, 0)
    assert.equal(judge({ ours, theirs }).judgement, 'same')
    assert.ok(FINE.moved < FINE.same)
  })

  it('wants more of samples that share the luck of a load', () => {
    const some = rounds(1.07, 0.01)
    assert.equal(judge(some, FINE).judgement, 'more')
    assert.equal(judge(some, COARSE).judgement, 'same')
    assert.equal(judge(rounds(1.15, 0.01), COARSE).judgement, 'more')
    assert.equal(judge(rounds(1 / 1.15, 0.01), COARSE).judgement, 'less')
  })

  it('calls nothing a ratio that is below what the stopwatch itself differs by', () => {
    const cheap = { ours: Array.from({ length: 15 }, () => 2), theirs: Array.from({ length: 15 }, () => 1) }
    const noise = Array.from({ length: 15 }, () => 3)
    assert.deepEqual(judge({ ...cheap, noise }).judgement, 'below-noise')
    assert.equal(judge({ ...cheap, noise: noise.map(() => 0.1) }).judgement, 'more')
    const negative = { ours: cheap.ours.map(() => -0.2), theirs: cheap.theirs.map(() => 1) }
    assert.equal(judge(negative).judgement, 'too-noisy', 'net times may fall below nothing')
  })

  it('finds a move again when ours and theirs change places', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.5, max: 2, noNaN: true }), (ratio) => {
        const { ours, theirs } = rounds(ratio, 0.01)
        const turned = { less: 'more', more: 'less' } as Record<string, string>
        const there = judge({ ours, theirs }).judgement
        const back = judge({ ours: theirs, theirs: ours }).judgement
        if (Math.abs(ratio - 1) > 0.05) assert.equal(back, turned[there])
      }),
    )
  })

  it('refuses rounds that one side has and the other has not', () => {
    assert.throws(() => judge({ ours: [1, 2], theirs: [1] }), RangeError)
    assert.throws(() => judge({ ours: [], theirs: [] }), RangeError)
  })

  it('knows of which units more is better', () => {
    assert.equal(forTheBetter('more', 'packets/s'), true)
    assert.equal(forTheBetter('less', 'Mbit/s'), false)
    assert.equal(forTheBetter('more', 'ns/packet'), false)
    assert.equal(forTheBetter('less', 'ms'), true)
    assert.equal(forTheBetter('same', 'ms'), null)
    assert.equal(forTheBetter('too-noisy', 'ms'), null)
  })
})
