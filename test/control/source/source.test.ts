/** A file as a source of services, from its text to the maps, by the API and the command's own words. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, describe, test } from 'node:test'
import type { MapApplier } from '../../../control/apply/map-applier.ts'
import { Turns } from '../../../control/apply/turns.ts'
import { findService } from '../../../control/cli/service-name.ts'
import { applyFile, checkFile, diffFile, drain, exportSite, undrain } from '../../../control/cli/site.ts'
import { servicesText } from '../../../control/cli/text.ts'
import { type Api, createApi } from '../../../control/front/api/server.ts'
import { serverKey, serviceKey } from '../../../control/model/identity.ts'
import type { RuleDirector } from '../../../control/rules/director.ts'
import { SiteSource } from '../../../control/source/site-source.ts'
import { Sources } from '../../../control/source/sources.ts'
import { SiteReader } from '../../../control/source/thread/site-reader.ts'
import { ConnKind, ConnRecord, ConnStatus, PM_NONE } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { contextOf } from '../front/context.ts'
import { realsOf } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'
import { siteServices } from './sites.ts'

const web = service('tcp 192.0.2.10:80')
const reader = new SiteReader()
after(() => reader.close())

describe('a file as a source', () => {
  let folder: string
  let file: string
  let socket: string
  let api: Api
  let dataplane: MemoryDataplane
  let director: RuleDirector
  let applier: MapApplier
  let source: SiteSource
  const failures: unknown[] = []
  const logged: string[] = []

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pointsman-site-'))
    file = join(folder, 'pm.yaml')
    socket = join(folder, 'api.sock')
    dataplane = new MemoryDataplane({ ...SMALL_SIZES, members: 65536, services: 256, reals: 4096 })
    ;({ director, applier } = openDirector({ dataplane, host: testHost() }))
    const sources = new Sources()
    source = new SiteSource({
      source: 'file',
      path: file,
      director,
      reader,
      pace: () => new Turns(),
      log: { info: () => {}, error: (_details, message) => void logged.push(message) },
      applied: () => {},
    })
    sources.add(source)
    api = createApi({
      context: contextOf(director, { sources }),
      failed: (error) => failures.push(error),
    })
    await api.listen(socket, 'all')
  })
  afterEach(async () => {
    await api.close(0)
    rmSync(folder, { recursive: true })
    logged.length = 0
  })
  after(() => assert.deepEqual(failures, []))

  const apply = (path?: string, takeOver = false) =>
    applyFile(socket, path, takeOver, (notice) => logged.push(notice))
  const weights = () =>
    Object.fromEntries(
      director.rules().flatMap(({ servers }) => servers.map((real) => [serverKey(real.id), real.weight])),
    )

  test('comes in force as a whole; a bad or half-written one changes nothing and is told', async () => {
    writeFileSync(file, 'services:\n  - tcp: 192.0.2.10:80\n    real_servers: [10.0.0.1, 10.0.0.2]\n')
    assert.match((await apply()).text(), /add service 1, add server 2/)
    assert.equal(realsOf(dataplane, web).length, 2)
    assert.match((await apply()).text(), /nothing has changed/)

    for (const [bad, wanted] of [
      [
        'services:\n  - tcp: 192.0.2.10:80\n    real_servers: [10.0.0.1, 10.0.0.',
        /pm\.yaml:3:37: Flow sequence/,
      ],
      ['services:\n  - tcp: 192.0.2.11:80\n  - tcp: 192.0.2.10:80\n    weight: 3\n', /:4:5: Unknown key/],
      // Only the director knows that this is no address of a real server.
      [
        'services:\n  - tcp: 192.0.2.11:80\n    real_servers: [224.0.0.1]\n',
        /:2:5: .*expected a unicast address/,
      ],
    ] as const) {
      writeFileSync(file, bad)
      await assert.rejects(apply(), wanted)
      await assert.rejects(diffFile(socket, undefined, false), wanted)
      assert.deepEqual(weights(), { '10.0.0.1 80': 1, '10.0.0.2 80': 1 })
      assert.equal(source.state.state, 'refused')
      assert.equal(realsOf(dataplane, web).length, 2)
    }
    assert.equal(logged.length, 3)
    writeFileSync(file, 'services: []\n')
    assert.match((await apply()).text(), /delete server 2, delete service 1/)
    assert.equal(source.state.state, 'in force')
  })

  test('says beforehand what changes, and how many live connections each change touches', async () => {
    writeFileSync(
      file,
      `services:
  - tcp: 192.0.2.10:80
    real_servers: [10.0.0.1, 10.0.0.2, 10.0.0.3]
`,
    )
    await apply()
    const [third, second, first] = realsOf(dataplane, web)
    const lines = [
      [first!, 3],
      [second!, 2],
      [third!, 0],
    ] as const
    let line = 0
    for (const [real, count] of lines) {
      for (let i = 0; i < count; i++) {
        ConnRecord.write(
          dataplane.map('connections4').view,
          line++ * dataplane.map('connections4').entrySize,
          {
            ...EMPTY_LINE,
            real,
          },
        )
      }
    }
    const other = join(folder, 'other.yaml')
    writeFileSync(
      other,
      `services:
  - udp: 192.0.2.10:53
  - tcp: 192.0.2.10:80
    scheduler: rr
    real_servers: [{ address: 10.0.0.1, weight: 3 }, 10.0.0.3, 10.0.0.4]
`,
    )
    await drain(socket, '192.0.2.10:80', '10.0.0.1', undefined)
    const { json, text } = await diffFile(socket, other, false)
    const { changes } = json as { changes: { change: string; server?: string; connections: number }[] }
    assert.deepEqual(
      changes.map(({ change, server: real = '', connections }) => [change, real, connections]),
      [
        ['add service', '', 0],
        ['delete server', '10.0.0.2:80', 2],
        ['edit service', '', 5],
        ['edit server', '10.0.0.1:80', 3],
        ['add server', '10.0.0.4:80', 0],
      ],
    )
    assert.match(
      text(),
      /~ {2,}tcp 192\.0\.2\.10:80 10\.0\.0\.1:80 +weight 1 -> 3, held by hand at 0 +3 connections/,
    )
    assert.equal(director.rules().length, 1, 'nothing was changed')
    // Applied once from elsewhere, and said so.
    await apply(other)
    assert.match(logged.join('\n'), /the next reload and the next start read .*pm\.yaml, not .*other\.yaml/)
  })

  test('whatever the rules are, exported and applied they are the same, and the file’s', async () => {
    await fc.assert(
      fc.asyncProperty(siteServices, fc.boolean(), async (services, stated) => {
        director.flush()
        writeFileSync(file, 'services: []\n')
        await apply()
        if (stated) {
          const statements = services.map(({ service: one, servers }) => ({
            service: one,
            servers: servers.map(({ real }) => real),
          }))
          await director.restate(
            { source: 'file', services: statements, takeOver: false, filters: [], limits: [], marks: [] },
            { interfaces: [], timeouts: null, sysctls: {}, daemons: [], fullNat: null },
            new Turns(),
          )
        } else {
          for (const { service: one, servers } of services) {
            director.addService(one)
            for (const { real } of servers) director.addServer(one.id, real)
          }
        }
        await director.settle([])
        const before = director.rules().map(({ service: one, servers }) => ({ service: one, servers }))
        writeFileSync(file, (await exportSite(socket)).text())
        assert.equal(checkFile(file).good, true)
        const applied = (await apply()).json as { counts: Record<string, number> }
        const taken = stated || services.length === 0 ? {} : { 'take over': before.length }
        assert.deepEqual(applied.counts, before.length === 0 ? {} : taken)
        assert.deepEqual(
          director.rules().map(({ service: one, servers }) => ({ service: one, servers })),
          before,
        )
        assert.ok(director.rules().every(({ source: owner }) => owner === 'file'))
      }),
      { numRuns: 40 },
    )
  })

  test('has pools that are watched, without anything else of it being read again', async () => {
    const pool = join(folder, 'pool.json')
    writeFileSync(pool, '["10.0.0.1"]')
    writeFileSync(
      file,
      'pools: { apps: { file: pool.json } }\nservices:\n  - { tcp: "192.0.2.10:80", pools: [apps] }\n',
    )
    await apply()
    const looked = async (until: () => boolean): Promise<void> => {
      for (let tries = 0; tries < 3000 && !until(); tries++) {
        source.watch()
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      assert.ok(until())
    }
    writeFileSync(file, 'services: []\n')
    writeFileSync(pool, '[{"targets": ["10.0.0.2:80", "10.0.0.3:80"], "labels": {"weight": "4"}}]')
    await looked(() => Object.keys(weights()).length === 2)
    assert.deepEqual(weights(), { '10.0.0.2 80': 4, '10.0.0.3 80': 4 })
    // Half of it is on the disk: nobody loses a real server.
    writeFileSync(pool, '[{"targets": ["10.0.0.2:80", "10.')
    await looked(() => source.state.state === 'refused')
    assert.deepEqual(weights(), { '10.0.0.2 80': 4, '10.0.0.3 80': 4 })
    writeFileSync(pool, '["10.0.0.4"]')
    await looked(() => source.state.state === 'in force')
    assert.deepEqual(weights(), { '10.0.0.4 80': 1 })
    await apply()
    assert.deepEqual(director.rules(), [], 'and now all of it was read')
  })

  test('has pools that are read, too, when they are written again before every look', async () => {
    const pool = join(folder, 'pool.json')
    writeFileSync(pool, '["10.0.0.1"]')
    writeFileSync(
      file,
      'pools: { apps: { file: pool.json } }\nservices:\n  - { tcp: "192.0.2.10:80", pools: [apps] }\n',
    )
    await apply()
    for (let n = 2; n < 3000 && Object.keys(weights()).includes('10.0.0.1 80'); n++) {
      writeFileSync(pool, `["10.0.${n >> 8}.${n & 255}"]${' '.repeat(n)}`)
      source.watch()
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    assert.ok(!Object.keys(weights()).includes('10.0.0.1 80'))
  })

  test('stays refused as a whole while its pools go wrong and right again', async () => {
    const pool = join(folder, 'pool.json')
    writeFileSync(pool, '["10.0.0.1"]')
    const words =
      'pools: { apps: { file: pool.json } }\nservices:\n  - { tcp: "192.0.2.10:80", pools: [apps] }\n'
    writeFileSync(file, words)
    await apply()
    writeFileSync(file, 'servicse: []\n')
    await source.apply()
    const complaints = () =>
      source.state.state === 'refused' ? source.state.complaints.map(({ message }) => message) : []
    const [unknown] = complaints()
    assert.match(unknown ?? '', /servicse/)
    const looked = async (until: () => boolean): Promise<void> => {
      for (let tries = 0; tries < 3000 && !until(); tries++) {
        source.watch()
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      assert.ok(until())
    }
    writeFileSync(pool, '["10.')
    await looked(() => complaints().some((message) => message !== unknown))
    writeFileSync(pool, '["10.0.0.2"]')
    await looked(() => Object.keys(weights()).includes('10.0.0.2 80'))
    assert.deepEqual(complaints(), [unknown], 'the next start reads that file')
    writeFileSync(file, words)
    await source.apply()
    assert.equal(source.state.state, 'in force')
  })

  test('lets a person drain its real servers, and shows it', async () => {
    writeFileSync(file, 'services:\n  - { tcp: "192.0.2.10:80", real_servers: [10.0.0.1, 10.0.0.2] }\n')
    await apply()
    assert.match(
      await drain(socket, 'tcp/192.0.2.10:80', '10.0.0.1:80', '10m'),
      /^held at weight 0 until .*; 0 connections go on; end it: pointsman undrain tcp\/192\.0\.2\.10:80 10\.0\.0\.1:80\n$/,
    )
    const shown = servicesText([(await findService(socket, '192.0.2.10:80')).service])
    assert.match(shown, /stated by: file/)
    assert.match(
      shown,
      /10\.0\.0\.1:80 .*draining .*held by hand \(pointsman drain\) for .*, until .*; its source says 1\n/,
    )
    await undrain(socket, '192.0.2.10:80', '10.0.0.1')
    const back = director.server(web.id, server('10.0.0.1:80').id)
    assert.deepEqual(back.ok && [back.value.weight, back.value.hold], [1, null])
    await assert.rejects(
      drain(socket, '192.0.2.10:81', '10.0.0.1', undefined),
      /No service "sctp 192\.0\.2\.10:81"/,
    )
    await assert.rejects(
      drain(socket, '192.0.2.10:80', '10.0.0.9', undefined),
      /No real server "10\.0\.0\.9:80"/,
    )
    await assert.rejects(
      drain(socket, 'web', '10.0.0.9', undefined),
      /Cannot read service "web": expected tcp\//,
    )
    await assert.rejects(drain(socket, '192.0.2.10:80', '10.0.0.1', 'soon'), /Cannot read time "soon"/)
    assert.equal(serviceKey(web.id), 'tcp 192.0.2.10 80')
    assert.equal(applier.repairs.size, 0)
  })
})

const EMPTY_LINE = {
  word: ConnStatus.Live,
  sport: 1,
  dport: 80,
  protocol: 6,
  traits: ConnKind.In,
  expires: 0x7fffffff,
  peer: PM_NONE,
  neighbour: 0,
}
