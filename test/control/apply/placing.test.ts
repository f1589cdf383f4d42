/** Placing in slices: everything is done in the end, and nobody waits for all of it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Placing } from '../../../control/apply/placing.ts'
import { type IpAddress, parseAddress } from '../../../net/address.ts'

const ip = (text: string): IpAddress => parseAddress(text)!

/** A placing over numbers whose slices go on when told to; each number takes a while, by a clock of its own. */
function slowPlacing(count: number, tookMs: number, steps = 1) {
  const waiting: (() => void)[] = []
  const placed: string[] = []
  let nowMs = 0
  let services = Array.from({ length: count }, (_, i) => i)
  const placing = new Placing<number>(
    () => services,
    function* (service, which) {
      for (let step = 0; step < steps; step++) {
        if (step > 0) yield
        placed.push(`${service} ${which === null ? 'all' : [...which].join()}`)
        nowMs += tookMs
      }
    },
    (action) => waiting.push(action),
    () => nowMs,
  )
  return {
    placing,
    placed,
    waiting,
    has: (all: number[]): void => {
      services = all
    },
    goOn: (): void => waiting.shift()?.(),
  }
}

test('a few are done at once, the rest slice by slice', () => {
  const { placing, placed, waiting, goOn } = slowPlacing(100, 0.5)
  placing.renew(null)
  assert.ok(placed.length > 0 && placed.length < 100, `${placed.length}`)
  let slices = 0
  while (waiting.length > 0) {
    goOn()
    slices += 1
  }
  assert.equal(placed.length, 100)
  assert.ok(slices >= 5, `${slices}`)
})

test('one service of very many steps is done in slices, too', () => {
  const { placing, placed, waiting, goOn } = slowPlacing(1, 0.5, 100)
  placing.renew(null)
  assert.ok(placed.length > 0 && placed.length < 100, `${placed.length}`)
  while (waiting.length > 0) goOn()
  assert.equal(placed.length, 100)
})

test('what changes meanwhile is one further round, over the services of then', () => {
  const { placing, placed, waiting, has, goOn } = slowPlacing(40, 0.5)
  placing.renew(new Set([ip('10.0.0.1')]))
  placing.renew(new Set([ip('10.0.0.2')]))
  placing.renew(new Set([ip('10.0.0.3')]))
  has([7])
  while (waiting.length > 0) goOn()
  assert.equal(placed.filter((line) => line.endsWith(' 10.0.0.1')).length, 40)
  assert.deepEqual(placed.slice(40), ['7 10.0.0.2,10.0.0.3'])
  placing.renew(new Set())
  assert.equal(placed.length, 41, 'nobody is nothing to do')
})

test('stopped, what is left is left', () => {
  const { placing, placed, waiting, goOn } = slowPlacing(40, 0.5)
  placing.renew(null)
  const { length } = placed
  placing.stop()
  while (waiting.length > 0) goOn()
  placing.renew(null)
  assert.equal(placed.length, length)
})
