import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDirector } from '../../../control/apply/open.ts'
import { statusText } from '../../../control/cli/text.ts'
import { readStatus } from '../../../control/insight/status.ts'
import { Sources } from '../../../control/source/sources.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { server, service, testHost } from '../support.ts'

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
      sources: new Sources(),
      holds: director.holds(),
      warnings: [],
      attachments: [],
    })
  assert.equal(applier.sweepSlice(1), false)
  assert.equal(read().connections, null)
  assert.match(statusText(read()), /^connections +not counted yet$/m)
  while (!applier.sweepSlice(1000)) assert.equal(read().connections, null)
  assert.deepEqual(read().connections, { ipv4: 0, ipv6: 0, templates: 0 })
  assert.match(statusText(read()), /^connections +0 IPv4, 0 IPv6$/m)

  // What a person has done at night is on the first page in the morning.
  const web = service('tcp 10.0.0.1:80')
  director.addService(web)
  director.addServer(web.id, server('10.1.0.1:80'))
  const sinceMs = Date.now() - 3 * 3_600_000
  director.hold(web.id, server('10.1.0.1:80').id, {
    weight: 0,
    sinceMs,
    untilMs: null,
    by: 'pointsman drain',
  })
  assert.match(
    statusText(read()),
    /^held by hand +tcp 10\.0\.0\.1:80 10\.1\.0\.1:80: weight 0 by pointsman drain for 3 h$/m,
  )
})
