import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Beat, type Clock, Clockwork } from '../../../control/daemon/clockwork.ts'

/** Time that passes when it is told to. */
class FakeClock implements Clock {
  #nowMs = 5000
  readonly #waiting = new Set<{ atMs: number; action: () => void }>()
  /** How often somebody was woken. */
  wakes = 0

  nowMs(): number {
    return this.#nowMs
  }

  after(ms: number, action: () => void): () => void {
    const entry = { atMs: this.#nowMs + ms, action }
    this.#waiting.add(entry)
    return () => this.#waiting.delete(entry)
  }

  get armed(): number {
    return this.#waiting.size
  }

  pass(ms: number): void {
    const endMs = this.#nowMs + ms
    for (;;) {
      const [next] = [...this.#waiting].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs)
      if (next === undefined) break
      this.#waiting.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      this.wakes++
      next.action()
    }
    this.#nowMs = Math.max(this.#nowMs, endMs)
  }
}

function stage() {
  const clock = new FakeClock()
  const failures: string[] = []
  const clockwork = new Clockwork((beat, error) => failures.push(`${beat}: ${error}`), clock)
  const heard: string[] = []
  const beat = (name: string, everyMs: number | null, more: Partial<Beat> = {}): Beat => ({
    name,
    everyMs,
    run: () => {
      heard.push(`${name} ${clock.nowMs() - 5000}`)
      return null
    },
    ...more,
  })
  return { clock, clockwork, failures, heard, beat }
}

test('beats come at their times, and those whose times meet share a wake-up', () => {
  const { clock, clockwork, heard, beat } = stage()
  clockwork.add([beat('a', 1000), beat('b', 2000)])
  clock.pass(4500)
  assert.deepEqual(heard, ['a 1000', 'a 2000', 'b 2000', 'a 3000', 'a 4000', 'b 4000'])
  assert.equal(clock.wakes, 4)
  assert.equal(clock.armed, 1)
})

test('a beat added later keeps the same time', () => {
  const { clock, clockwork, heard, beat } = stage()
  clock.pass(300)
  clockwork.add([beat('a', 1000)])
  clock.pass(2000)
  assert.deepEqual(heard, ['a 1000', 'a 2000'])
})

test('work in slices goes on when it asks to, and then falls back into its time', () => {
  const { clock, clockwork, heard, beat } = stage()
  let slices = 3
  const run = (): number | null => {
    heard.push(`sweep ${clock.nowMs() - 5000}`)
    return --slices > 0 ? 20 : null
  }
  clockwork.add([beat('sweep', 1000, { run })])
  clock.pass(2500)
  assert.deepEqual(heard, ['sweep 1000', 'sweep 1020', 'sweep 1040', 'sweep 2000'])
})

test('a late wake-up is one beat, not all that were missed', () => {
  const { clock, clockwork, heard, beat } = stage()
  const slow = beat('slow', 1000, {
    run: () => {
      heard.push(`slow ${clock.nowMs() - 5000}`)
      if (heard.length === 1) clock.pass(3400)
      return null
    },
  })
  clockwork.add([slow])
  clock.pass(1000)
  clock.pass(600)
  assert.deepEqual(heard, ['slow 1000', 'slow 5000'])
})

test('a beat that is rung comes at once, then no sooner than it has rested', () => {
  const { clock, clockwork, heard, beat } = stage()
  clockwork.add([beat('bell', null, { restMs: 10 })])
  clock.pass(100)
  for (let i = 0; i < 3; i++) {
    clockwork.ring('bell')
    clock.pass(1)
  }
  clockwork.ring('nothing of this name')
  clock.pass(100)
  assert.deepEqual(heard, ['bell 100', 'bell 110'])
})

test('a beat that fails is told of, and neither it nor the others stop', () => {
  const { clock, clockwork, heard, failures, beat } = stage()
  const run = (): null => {
    throw new Error('no space left')
  }
  clockwork.add([beat('bad', 1000, { run }), beat('good', 1000)])
  clock.pass(2000)
  assert.deepEqual(failures, ['bad: Error: no space left', 'bad: Error: no space left'])
  assert.deepEqual(heard, ['good 1000', 'good 2000'])
})

test('what is taken out or stopped is silent, and nobody is woken for it', () => {
  const { clock, clockwork, heard, beat } = stage()
  clockwork.add([beat('stays', 1000)])
  const takeOut = clockwork.add([beat('goes', 100)])
  clock.pass(100)
  takeOut()
  clock.pass(1000)
  assert.deepEqual(heard, ['goes 100', 'stays 1000'])
  clockwork.stop()
  assert.equal(clock.armed, 0)
})
