/** When connections have to ask for their next hop again. */
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { NextHopEpoch } from '../../../control/apply/next-hop-epoch.ts'
import { SettingsRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'

function epochs(usesNat: boolean) {
  const dataplane = new MemoryDataplane()
  const epoch = new NextHopEpoch(dataplane, () => usesNat)
  return { epoch, now: () => SettingsRecord.getNextHopEpoch(dataplane.map('settings').view, 0) }
}

test('what concerns real servers is acted on at once, however often', () => {
  const { epoch, now } = epochs(false)
  for (let i = 1; i <= 3; i++) {
    epoch.changed({ nextHops: 'kept' })
    assert.equal(now(), i)
  }
  epoch.changed({})
  assert.equal(now(), 4, 'a change that says nothing may concern anybody')
})

test('a storm of what concerns real servers is acted on eight times at once, then once a second', () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  try {
    const { epoch, now } = epochs(false)
    for (let i = 0; i < 100; i++) epoch.changed({ nextHops: 'kept' })
    assert.equal(now(), 8)
    mock.timers.tick(1000)
    assert.equal(now(), 9, 'the last one is not forgotten')
    for (let i = 0; i < 100; i++) epoch.changed({ nextHops: 'kept' })
    mock.timers.tick(1000)
    assert.equal(now(), 10)
    mock.timers.tick(5000)
    assert.equal(now(), 10)
    epoch.stop()
  } finally {
    mock.timers.reset()
  }
})

test('routes to elsewhere do not concern connections whose answers do not leave by us', () => {
  const { epoch, now } = epochs(false)
  for (let i = 0; i < 100; i++) epoch.changed({ nextHops: 'others' })
  epoch.changed({ nextHops: 'none' })
  assert.equal(now(), 0)
})

test('with NAT they may lead to clients: once a second, and the last one is not forgotten', () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  try {
    const { epoch, now } = epochs(true)
    for (let i = 0; i < 100; i++) epoch.changed({ nextHops: 'others' })
    assert.equal(now(), 1)
    mock.timers.tick(1000)
    assert.equal(now(), 2)
    epoch.changed({ nextHops: 'others' })
    epoch.stop()
    mock.timers.tick(5000)
    assert.equal(now(), 2, 'stopped: the maps may be gone')
  } finally {
    mock.timers.reset()
  }
})
