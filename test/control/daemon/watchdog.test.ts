import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startWatchdog, watchdogIntervalMs } from '../../../control/daemon/watchdog.ts'

test('signs of life come twice per period of the watchdog, if it is ours', () => {
  assert.equal(watchdogIntervalMs({ WATCHDOG_USEC: '30000000' }), 15_000)
  assert.equal(watchdogIntervalMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 7), 15_000)
  assert.equal(watchdogIntervalMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 8), null)
  for (const period of [undefined, '', '0', '-1', 'soon']) {
    assert.equal(watchdogIntervalMs({ WATCHDOG_USEC: period }), null, `${period}`)
  }
})

test('they begin at once and stop when they are told to', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const said: string[] = []
  const stop = startWatchdog({ WATCHDOG_USEC: '2000000' }, (state) => said.push(state))
  assert.deepEqual(said, ['WATCHDOG=1'])
  t.mock.timers.tick(2000)
  assert.equal(said.length, 3)
  stop()
  t.mock.timers.tick(5000)
  assert.equal(said.length, 3)
})
