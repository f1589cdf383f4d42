import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { END_MS, Ending, type Step } from '../../../control/daemon/ending.ts'

function stage() {
  const exits: number[] = []
  const warnings: string[] = []
  const done: string[] = []
  const ending = new Ending({
    exit: (status) => exits.push(status),
    warn: (_error, message) => warnings.push(message),
  })
  const step = (name: string, run: () => unknown = () => {}, limitMs = 20): Step => ({
    name,
    limitMs,
    run: () => {
      done.push(name)
      return run()
    },
  })
  return { ending, exits, warnings, done, step }
}

test('every step is taken, whatever became of those before it', async () => {
  const { ending, warnings, done, step, exits } = stage()
  const status = await ending.run(0, [
    step('throw', () => {
      throw new Error('no')
    }),
    step('reject', () => Promise.reject(new Error('no'))),
    step('hang', () => new Promise(() => {})),
    step('close the plane'),
  ])
  assert.equal(status, 1)
  assert.deepEqual(done, ['throw', 'reject', 'hang', 'close the plane'])
  assert.deepEqual(warnings, ['Cannot throw', 'Cannot reject', 'Cannot hang'])
  assert.deepEqual(exits, [])
})

test('an end that goes well has the status it was begun with, unless something fails meanwhile', async () => {
  const { ending, step } = stage()
  assert.equal(await ending.run(0, [step('one')]), 0)
  const other = stage()
  assert.equal(await other.ending.run(0, [other.step('one', () => other.ending.failed())]), 1)
})

test('the process ends in the time it has, wherever it is', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { ending, exits, step } = stage()
  void ending.run(0, [step('hang', () => new Promise(() => {}), 10 * END_MS)])
  context.mock.timers.tick(END_MS - 1)
  assert.deepEqual(exits, [])
  context.mock.timers.tick(1)
  assert.deepEqual(exits, [1])
  mock.reset()
})
