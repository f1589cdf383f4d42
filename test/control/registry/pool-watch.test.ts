/** What of a registry's words comes in force, and what is held back. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import { PoolWatch, WINDOW_MS } from '../../../control/registry/pool-watch.ts'
import { FollowedPools } from '../../../control/registry/pools.ts'
import type { Entry, Follower, Heard, Member } from '../../../control/registry/registry.ts'
import { PAUSE_MS_MAX, pauseMs } from '../../../control/registry/retry.ts'
import { addressOf, poolOf } from './addresses.ts'

class Script implements Follower {
  report: (heard: Heard) => void = () => {}
  fail: (error: Error) => void = () => {}
  attempts = 0

  attempt(report: (heard: Heard) => void): Promise<never> {
    this.attempts++
    this.report = report
    return new Promise((_resolve, reject) => {
      this.fail = reject
    })
  }
}

const members = (...numbers: number[]): Member[] =>
  numbers.map((n) => ({ address: `10.0.0.${n}:80`, weight: null }))
const whole = (...numbers: number[]): Heard => ({
  kind: 'whole',
  entries: new Map(members(...numbers).map((member): [string, Entry] => [member.address, member])),
})
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n + 10)

describe('a pool that follows a registry', () => {
  let follower: Script
  let changes = 0
  beforeEach(() => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'] })
    follower = new Script()
    changes = 0
  })
  afterEach(() => mock.timers.reset())
  const watch = (limits = {}, before: readonly Member[] | null = null) =>
    new PoolWatch({
      follower,
      limits: { maxRemoval: 0.5, allowEmpty: false, ...limits },
      before,
      changed: () => void changes++,
      told: () => {},
      nowMs: Date.now,
    })
  const hear = (heard: Heard): void => {
    follower.report(heard)
    mock.timers.tick(6)
  }

  test('holds back what has become empty, until it is back or that is meant', () => {
    const pool = watch()
    hear(whole(10, 11))
    assert.equal(pool.members?.length, 2)
    hear(whole())
    assert.equal(pool.members?.length, 2)
    assert.match(pool.state.held?.why ?? '', /become empty, 2 stay: set allow_empty: true/)
    mock.timers.tick(10 * WINDOW_MS)
    assert.equal(pool.members?.length, 2)
    hear(whole(11))
    assert.deepEqual(pool.members, members(11))
    assert.equal(pool.state.held, null)
    pool.close()

    const free = watch({ allowEmpty: true })
    hear(whole(10, 11))
    hear(whole())
    assert.deepEqual(free.members, [])
    free.close()
  })

  test('holds back what shrinks too far within a window, at once or step by step', () => {
    const pool = watch()
    hear(whole(...upTo(10)))
    hear(whole(...upTo(4)))
    assert.equal(pool.members?.length, 10)
    assert.match(
      pool.state.held?.why ?? '',
      /from 10 to 4, 10 stay: more than max_removal, 50%, within a minute/,
    )
    // What is added meanwhile waits, too: the set is not believed.
    hear(whole(...upTo(4), 99))
    assert.equal(pool.members?.length, 5)
    hear(whole(...upTo(4)))
    assert.equal(pool.members?.length, 5)
    // A minute later that is one of five.
    mock.timers.tick(2 * WINDOW_MS)
    assert.equal(pool.members?.length, 4)
    assert.equal(pool.state.held, null)
    pool.close()
  })

  test('flaps no faster than it is believed: nothing of what is held back comes in force', () => {
    const pool = watch()
    hear(whole(...upTo(10)))
    for (let round = 0; round < 100; round++) hear(whole(...upTo(round % 2 === 0 ? 2 : 10)))
    assert.equal(changes, 1)
    assert.equal(pool.members?.length, 10)
    pool.close()
  })

  test('gathers a burst into one change, and lets no burst make it wait for long', () => {
    const pool = watch({ maxRemoval: 1 })
    hear(whole(10))
    for (let n = 0; n < 40; n++) {
      follower.report({ kind: 'changes', changes: new Map([[`k${n}`, members(100 + n)[0]!]]) })
      mock.timers.tick(1)
    }
    assert.equal(changes, 1)
    mock.timers.tick(20)
    assert.equal(changes, 2)
    assert.equal(pool.members?.length, 41)
    for (let n = 0; n < 200; n++) {
      follower.report({ kind: 'changes', changes: new Map([['k', members(50 + (n % 150))[0]!]]) })
      mock.timers.tick(1)
    }
    mock.timers.tick(50)
    assert.ok(changes >= 4 && changes <= 8, `${changes} changes`)
    pool.close()
  })

  test('goes on with what an earlier process knew, and does not believe a sudden loss either', () => {
    const pool = watch({}, members(...upTo(10)))
    assert.equal(pool.members?.length, 10)
    assert.equal(pool.state.heardMs, null)
    hear(whole(10))
    assert.equal(pool.members?.length, 10)
    assert.equal(pool.state.held?.servers, 1)
    pool.accept()
    assert.deepEqual(pool.members, members(10))
    pool.close()
  })

  test('the same set is no change', () => {
    const pool = watch()
    hear(whole(10, 11))
    hear(whole(11, 10))
    assert.equal(changes, 1)
    pool.close()
  })
})

test('pauses grow, have an end, and are not the same for all', () => {
  const longest = Array.from({ length: 20 }, (_, n) => pauseMs(n + 1, () => 0.999999))
  assert.deepEqual(longest.map((ms) => Math.round(ms)).slice(0, 4), [100, 200, 400, 800])
  assert.ok(longest.every((ms) => ms <= PAUSE_MS_MAX))
  assert.equal(
    pauseMs(1, () => 0),
    50,
  )
})

test('what was written down and is no set of real servers is not remembered', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-pools-'))
  const file = join(folder, 'pools.json')
  const pool = poolOf(addressOf('consul', ['http://127.0.0.1:9']), 'web')
  const remembered = (...list: readonly unknown[]): readonly Member[] | null => {
    const set = JSON.stringify(['consul', ['http://127.0.0.1:9'], null, 'web'])
    writeFileSync(file, JSON.stringify({ version: 1, sets: { [set]: list } }))
    const pools = new FollowedPools({ file, changed: () => {}, told: () => {} })
    try {
      return pools.watch(pool).members
    } finally {
      pools.close()
    }
  }
  try {
    const good = { address: '10.0.0.1:80', weight: null }
    assert.deepEqual(remembered(good), [good])
    assert.equal(remembered(good, { address: '10.0.0.1:99999', weight: null }), null)
    assert.equal(remembered(good, { address: 'web-7', weight: null }), null)
    assert.equal(remembered(good, { address: '10.0.0.2:80', weight: -1 }), null)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
