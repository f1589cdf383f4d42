/** What is known of neighbours that are kept, by readings and events. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KeptNeighbours } from '../../../linux/netlink/kept-neighbours.ts'
import type { Questions } from '../../../linux/netlink/questions.ts'
import type { Neighbour } from '../../../linux/netlink/rtnetlink.ts'
import { parseAddress } from '../../../net/address.ts'

const nobody: Questions = {
  ask: () => assert.fail('asked'),
  change: () => assert.fail('changed'),
  dump: () => assert.fail('read'),
  close: () => {},
}

test('one that a whole reading does not have is not kept any more, though no event told so', () => {
  const kept = new KeptNeighbours(nobody)
  const entry = (text: string): Neighbour =>
    ({ address: parseAddress(text)!, ifindex: 2, managed: true, protocol: 0x70 }) as Neighbour
  for (const text of ['10.0.0.1', '10.0.0.2']) kept.saw(entry(text), false)
  const missing = kept.keys
  missing.delete('2 10.0.0.1')
  assert.equal(kept.notRead(missing), true)
  assert.deepEqual([...kept.keys], ['2 10.0.0.1'])
  assert.equal(kept.notRead(new Set()), false)
})
