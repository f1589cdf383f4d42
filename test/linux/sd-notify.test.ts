import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SystemError } from '../../linux/libc.ts'
import { isMachineTrouble, MachineError } from '../../linux/machine-error.ts'
import { watchdogPeriodMs } from '../../linux/sd-notify.ts'

test('the watchdog is told twice in its time, if it watches this process', () => {
  assert.equal(watchdogPeriodMs({ WATCHDOG_USEC: '30000000' }, 7), 15_000)
  assert.equal(watchdogPeriodMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 7), 15_000)
  assert.equal(watchdogPeriodMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '8' }, 7), null)
  for (const time of [undefined, '', '0', '-1', 'soon', '1e9'])
    assert.equal(watchdogPeriodMs({ WATCHDOG_USEC: time }, 7), null, String(time))
})

test("the machine's troubles are told from faults of ours", () => {
  const full = Object.assign(new Error('ENOSPC: no space left on device'), { errno: -28, code: 'ENOSPC' })
  for (const trouble of [
    full,
    new Error('Cannot write state.json', { cause: full }),
    new SystemError('ask', 11),
    new MachineError('x'),
  ])
    assert.ok(isMachineTrouble(trouble), trouble.message)
  for (const fault of [new TypeError('x is undefined'), new Error('lost an index'), 'text', null])
    assert.ok(!isMachineTrouble(fault), String(fault))
})
