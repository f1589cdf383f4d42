import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDirector } from '../../../control/apply/open.ts'
import { statusText } from '../../../control/cli/text.ts'
import { readStatus } from '../../../control/insight/status.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { testHost } from '../support.ts'

test('connections are not counted yet until a sweep has been over all lines, and then as it says', () => {
  const dataplane = new MemoryDataplane()
  const { director, applier } = openDirector({ dataplane, host: testHost() })
  const read = () =>
    readStatus({
      sendFailures: null,
      version: '0',
      startedAt: new Date(0),
      reason: 'a test',
      adopted: true,
      dataplane,
      applier,
      director,
      warnings: [],
      attachments: [],
    })
  assert.equal(applier.sweepSlice(1), false)
  assert.equal(read().connections, null)
  assert.match(statusText(read()), /^connections +not counted yet$/m)
  while (!applier.sweepSlice(1000)) assert.equal(read().connections, null)
  assert.deepEqual(read().connections, { ipv4: 0, ipv6: 0, templates: 0 })
  assert.match(statusText(read()), /^connections +0 IPv4, 0 IPv6$/m)
})
