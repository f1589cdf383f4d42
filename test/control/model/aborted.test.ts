import assert from 'node:assert/strict'
import { test } from 'node:test'
import { onAbort, untilAborted } from '../../../control/model/aborted.ts'

test('whoever listens is told, of what has been as of what comes, once, and not when it listens no more', async () => {
  const told: string[] = []
  const end = new AbortController()
  onAbort(end.signal, () => told.push('before'))
  const no = onAbort(end.signal, () => told.push('no more'))
  no()
  const waiting = untilAborted(end.signal)
  end.abort(new Error('the reason'))
  onAbort(end.signal, () => told.push('after'))
  assert.deepEqual(told, ['before', 'after'])
  await assert.rejects(waiting, /the reason/)
  await assert.rejects(untilAborted(end.signal), /the reason/)
})
