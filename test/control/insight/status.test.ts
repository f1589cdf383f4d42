import assert from 'node:assert/strict'
import { test } from 'node:test'
import { statusText } from '../../../control/cli/text.ts'
import { readStatus } from '../../../control/insight/status.ts'
import { Sources } from '../../../control/source/sources.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { check, site, stage } from '../health/stage.ts'
import { openDirector } from '../opened-director.ts'
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
      health: null,
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

test('what checks have found is on the first page, and the link of their questions is not', async () => {
  const dataplane = new MemoryDataplane()
  const { director, applier } = openDirector({ dataplane, host: testHost() })
  await dataplane.attach(
    ['eth0', 'pm-check'].map((name, index) => ({ name, ifindex: 2 + index, wanted: name })),
  )
  const { health, say, pass } = stage()
  const read = () =>
    readStatus({
      ...{ sendFailures: null, version: '0', startedAt: new Date(0), reason: 'a test', adopted: true },
      ...{ dataplane, applier, director, sources: new Sources(), holds: [], warnings: [], attachments: [] },
      health: health.inShort(),
    })
  assert.equal(read().health, null)
  assert.deepEqual(
    read().dataplane.interfaces.map(({ name }) => name),
    ['eth0'],
  )

  const asked = check({ rise: 1, fall: 1 })
  health.want([
    site('tcp 10.0.0.1:80', ['10.1.0.1:80', '10.1.0.2:80'], [asked]),
    site('tcp 10.0.0.2:80', ['10.2.0.1:80'], [asked]),
  ])
  await pass(100)
  assert.match(statusText(read()), /^checks +2 of 2 services up, 3 of 3 real servers up$/m)
  say('10.1.0.2', 'bad', 'no')
  say('10.2.0.1', 'bad', 'no')
  await pass(1500)
  const text = statusText(read())
  assert.match(text, /^checks +1 of 2 services up, 1 of 3 real servers up: pointsman health$/m)
  assert.match(text, /^down +tcp 10\.0\.0\.2:80, for /m)
})
