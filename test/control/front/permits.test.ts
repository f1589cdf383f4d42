import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PATIENCE_MS, Permits } from '../../../control/front/api/permits.ts'

const unhurried = () => assert.fail('told to hurry')
const LONG_MS = 60_000

test('requests go side by side', async () => {
  const permits = new Permits()
  const [one, two] = [await permits.shared(LONG_MS, unhurried), await permits.shared(LONG_MS, unhurried)]
  assert.ok(one && two)
  assert.equal(permits.reserved, false)
})

test('what goes alone waits for those before it, and those after it wait for it', async () => {
  const permits = new Permits()
  const order: string[] = []
  const first = await permits.shared(LONG_MS, unhurried)
  const alone = permits.alone(LONG_MS).then((permit) => {
    order.push('alone')
    return permit
  })
  const later = permits.shared(LONG_MS, unhurried).then((permit) => {
    order.push('later')
    return permit
  })
  await sleep(10)
  assert.deepEqual(order, [])
  assert.equal(permits.reserved, true)
  first?.release()
  const permit = await alone
  await sleep(10)
  assert.deepEqual(order, ['alone'])
  permit?.release()
  permit?.release()
  await later
  assert.deepEqual(order, ['alone', 'later'])
  assert.equal(permits.reserved, false)
})

test('two that want to be alone come one after the other', async () => {
  const permits = new Permits()
  const one = await permits.alone(LONG_MS)
  assert.equal(permits.exclusive, true)
  const two = permits.alone(LONG_MS)
  one?.release()
  const permit = await two
  assert.ok(permit)
  permit.release()
  assert.ok(await permits.shared(LONG_MS, unhurried))
})

test('a turn that does not come in time is given up, and lets those behind it in', async () => {
  const permits = new Permits()
  await permits.shared(LONG_MS, unhurried)
  const alone = permits.alone(20)
  const behind = permits.shared(LONG_MS, unhurried)
  assert.equal(await alone, null)
  assert.ok(await behind)
  assert.equal(permits.reserved, false)
})

test('those inside are told to hurry by what wants to be alone', async () => {
  const permits = new Permits()
  let hurried = 0
  const inside = await permits.shared(LONG_MS, () => {
    hurried++
    inside?.release()
  })
  const startedAt = performance.now()
  const alone = await permits.alone(LONG_MS)
  assert.ok(alone)
  assert.equal(hurried, 1)
  assert.ok(performance.now() - startedAt >= PATIENCE_MS - 5)
})

test('closed, it sends away who waits and who comes, and waits for who is inside', async () => {
  const permits = new Permits()
  const inside = await permits.shared(LONG_MS, unhurried)
  const alone = permits.alone(LONG_MS)
  const waiting = permits.shared(LONG_MS, unhurried)
  let left: boolean | null = null
  const closing = permits.close(LONG_MS).then((value) => {
    left = value
  })
  assert.deepEqual([await alone, await waiting, await permits.shared(LONG_MS, unhurried)], [null, null, null])
  assert.equal(left, null)
  inside?.release()
  await closing
  assert.equal(left, true)
})

test('closed, it does not wait for ever', async () => {
  const permits = new Permits()
  await permits.shared(LONG_MS, () => {})
  assert.equal(await permits.close(20), false)
})
