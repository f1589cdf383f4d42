/** The short form of `npm run soak -- --sources`. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { etcdMissing } from '../../lab/etcd.ts'
import { runSources } from '../soak/sources.ts'
import { missingFor } from './scene.ts'

const SECONDS = 12

test('xdp: entries and checks that flap at 10 Hz, garbage, megabytes, an emptied pool: nobody notices, memory is flat', {
  skip: missingFor('xdp') || etcdMissing,
}, async (t) => {
  const tell = (line: string): void => t.diagnostic(line)
  assert.deepEqual(await runSources({ plane: 'xdp', seconds: SECONDS, tell }), [])
})
