/** A director in memory with something to count, and its collector. */
import assert from 'node:assert/strict'
import { readVerdicts } from '../../../control/counting/verdicts.ts'
import { Collector } from '../../../control/insight/metrics/collector.ts'
import { HourHistory } from '../../../control/insight/metrics/history.ts'
import { Journal } from '../../../control/model/journal.ts'
import { Sources } from '../../../control/source/sources.ts'
import { CountersRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { stage } from '../health/stage.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'

/** A director with a NAT service, one of IPv6, a mark, and numbers in its maps. */
export async function scene(health = stage().health) {
  const dataplane = new MemoryDataplane()
  const { director, applier } = openDirector({ dataplane, host: testHost() })
  const web = service('tcp 192.0.2.10:80', { scheduler: 'rr' })
  const six = service('udp [2001:db8::10]:53', { scheduler: 'rr' })
  const mark = service('fwmark 268443648', { scheduler: 'rr' })
  for (const one of [web, six, mark]) assert.ok(director.addService(one).ok)
  director.addServer(web.id, server('10.1.0.1:8080', { weight: 3 }))
  director.addServer(web.id, server('10.1.0.2:8080', { weight: 0 }))
  director.addServer(six.id, server('[2001:db8:77::2]:53'))
  director.addServer(mark.id, server('10.1.0.3:443', { method: 'direct-routing' }))
  await director.settle()
  const collector = new Collector(
    () => ({
      ...{ version: '1.2', startedAt: new Date(5000), reason: 'a test', adopted: false },
      ...{ dataplane, applier, director, sources: new Sources(), holds: [], health: null },
      ...{ warnings: [], attachments: [], sendFailures: null },
      counted: () => director.counted(),
      totals: director.totals().counters,
      totalRates: director.totals().rates,
      checkedOf: (key) => health.of(key),
      pushed: { whole: 3, failed: 2, refused: 1 },
      verdicts: readVerdicts(dataplane),
      checked: () => health.checked(),
    }),
    'real-server',
    new HourHistory(() => Date.now(), new Journal(() => 0)),
  )
  const text = async (...[format = 'text', detail = null]: Partial<Parameters<Collector['text']>>) => {
    const all: Uint8Array[] = []
    for await (const piece of collector.text(format, detail)!) all.push(piece)
    return Buffer.concat(all).toString()
  }
  return { dataplane, director, applier, collector, web, six, mark, text }
}

/** Adds to what the packet program has counted for a real server, on one CPU. */
export function count(
  dataplane: MemoryDataplane,
  real: number,
  cpu: number,
  counted: Record<string, number>,
): void {
  const { view } = dataplane.map('counters')
  const at = (real * dataplane.sizes.cpus + cpu) * CountersRecord.size
  for (const [name, value] of Object.entries(counted)) {
    const offset = at + CountersRecord.offsets[name as 'conns']
    view.setBigUint64(offset, view.getBigUint64(offset, true) + BigInt(value), true)
  }
}
