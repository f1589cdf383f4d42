import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cpuRows, presentCpus } from '../../linux/cpus.ts'

test('rows are for CPUs that are there, and one for those that may come', () => {
  assert.equal(presentCpus('0\n'), 1)
  assert.equal(presentCpus('0-3\n'), 4)
  assert.equal(presentCpus('0-1,4-7\n'), 8)
  assert.throws(() => presentCpus('none'), /Cannot read which CPUs are present: "none"/)
  assert.equal(cpuRows(4, 4), 4)
  assert.equal(cpuRows(240, 4), 5)
  assert.equal(cpuRows(5, 4), 5)
})
