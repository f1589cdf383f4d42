/** The last hour: in order, bounded, and of a service's health what has changed within it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { plots, strips, WIDE, ways } from '../../../control/cli/page/drawn.ts'
import { START, withOverview } from '../../../control/cli/top/view.ts'
import type { Overview } from '../../../control/front/api/schema/overview.ts'
import type { MetricFacts } from '../../../control/insight/metrics/facts.ts'
import { HourHistory, SAMPLE_MS } from '../../../control/insight/metrics/history.ts'
import { Journal } from '../../../control/model/journal.ts'

const HOUR_MS = 3600_000
const rates = { cps: 0, inPps: 0, outPps: 0, inBps: 0, outBps: 0 }

function scene() {
  const clock = { wallMs: 0 }
  const journal = new Journal(() => clock.wallMs)
  const history = new HourHistory(() => clock.wallMs, journal)
  const take = (cps: number, drops = 0): void => {
    clock.wallMs += SAMPLE_MS
    const verdicts = new Map([
      ['drop_no_route', BigInt(drops)],
      ['forward_nat', 1_000_000n],
    ])
    // The rest nobody plots.
    history.take({ applier: null, verdicts, totalRates: { ...rates, cps } } as unknown as MetricFacts)
  }
  const values = (title: string): readonly number[] =>
    history.read(null).plots.find((plot) => plot.title === title)!.lines[0]!.values
  const change = (server: string | null, state: 'up' | 'down', service = 'tcp 192.0.2.1:80') =>
    journal.add({
      kind: 'health',
      about: server === null ? 'service' : 'server',
      service,
      server,
      state,
      words: state,
    })
  return { clock, history, take, values, change, journal }
}

test('samples of an hour are kept, oldest first, and earlier ones are not', () => {
  const { history, take, values } = scene()
  assert.deepEqual(values('new connections a second'), [])
  for (let i = 1; i <= 1000; i++) take(i)
  const { samples, everyMs } = history.read(null)
  assert.equal(samples * everyMs, HOUR_MS)
  assert.deepEqual(
    values('new connections a second'),
    Array.from({ length: samples }, (_, i) => 1000 - samples + 1 + i),
  )
})

test('what is counted is told as a rate, which is never below zero', () => {
  const { take, values } = scene()
  for (const drops of [5000, 5000, 5050, 10, 20]) take(0, drops)
  assert.deepEqual(values('packets dropped a second'), [0, 0, 10, 0, 2])
})

test('changes of health are those of the service that is asked for, within the hour, and bounded', () => {
  const { clock, history, change } = scene()
  change('10.0.0.1:80', 'down')
  clock.wallMs += 2 * HOUR_MS
  change('10.0.0.1:80', 'up')
  change('10.0.0.1:80', 'down', 'tcp 192.0.2.9:80')
  change(null, 'down')
  assert.deepEqual(
    history.read('tcp/192.0.2.1:80').changes.map(({ server, state }) => [server, state]),
    [
      ['10.0.0.1:80', 'up'],
      [null, 'down'],
    ],
  )
  assert.deepEqual(history.read(null).changes, [])
  for (let i = 0; i < 10_000; i++) change('10.0.0.1:80', i % 2 === 0 ? 'up' : 'down')
  assert.ok(history.read('tcp/192.0.2.1:80').changes.length <= 4096)
})

test('a plot ends at the right edge, and a strip begins with what was before its first change', () => {
  const { clock, history, take, change } = scene()
  for (const cps of [0, 5, 10]) take(cps)
  clock.wallMs = HOUR_MS
  change('10.0.0.1:80', 'down')
  clock.wallMs += HOUR_MS / 4
  change('10.0.0.1:80', 'up')
  const read = history.read('tcp/192.0.2.1:80')
  const [first] = plots(read)
  assert.equal(first!.words, 'new 10 now, 10 at most')
  assert.match(first!.lines[0]!.points, /^359\.0,80\.0 359\.5,40\.0 360\.0,0\.0$/)
  const [strip] = strips(read, HOUR_MS + HOUR_MS / 2)
  assert.deepEqual(strip!.parts, [
    { from: 0, to: WIDE / 2, state: 'up' },
    { from: WIDE / 2, to: (WIDE * 3) / 4, state: 'down' },
    { from: (WIDE * 3) / 4, to: WIDE, state: 'up' },
  ])
  assert.equal(strip!.words, 'changed 2 times; up: up')
})

test('arrows are as wide as what goes along them, the busiest first, and the rest is counted', () => {
  assert.equal(ways(START), null)
  const server = { method: 'nat', weight: 1, numbers: { active: 3 }, health: null, words: '' }
  const servers = Array.from({ length: 20 }, (_, i) => ({
    ...server,
    name: `10.0.0.${i}:80`,
    rates: { ...rates, inPps: i },
  }))
  const overview: Overview = {
    ...{ at: '2026-01-01T01:00:00.000Z', version: '1', startedAt: '2026-01-01T00:00:00.000Z' },
    ...{
      dataplane: 'xdp',
      forwarding: true,
      rates: { ...rates, inPps: 190 },
      services: [],
      more: 0,
      total: 0,
    },
    ...{ servers, counts: {} },
  }
  const { to, more, all } = ways(withOverview({ ...START, open: 'tcp/192.0.2.1:80' }, overview, 0))!
  assert.equal(to[0]!.to, '10.0.0.19:80')
  assert.equal(to.length, 12)
  assert.equal(more, 'and 8 with less')
  assert.equal(all.width, 8)
  assert.ok(to.every(({ width }) => width >= 1 && width <= 8))
})
