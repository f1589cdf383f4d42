import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TapNumbers } from '../../../dataplane/userspace/tap-numbers.ts'

test('a number in use is never given out again, however often others come and go', () => {
  const numbers = new TapNumbers()
  const kept = [numbers.take(), numbers.take()]
  for (let i = 0; i < 600; i++) {
    const number = numbers.take()
    assert.ok(number >= 1 && number <= 255)
    assert.ok(!kept.includes(number))
    numbers.give(number)
  }
})

test('when all are in use that is an error, until one is given back', () => {
  const numbers = new TapNumbers()
  const all = Array.from({ length: 255 }, () => numbers.take())
  assert.equal(new Set(all).size, 255)
  assert.throws(() => numbers.take(), /all 255 numbers of a worker are in use/)
  numbers.give(77)
  assert.equal(numbers.take(), 77)
})
