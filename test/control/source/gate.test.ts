/** What a file says of sources and marks: in force, owned by the file, and never later than its services. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, describe, test } from 'node:test'
import type { MapApplier } from '../../../control/apply/map-applier.ts'
import { Turns } from '../../../control/apply/turns.ts'
import { changeFilters } from '../../../control/cli/filters.ts'
import { addLimit, deleteLimit } from '../../../control/cli/limits.ts'
import { changeMark } from '../../../control/cli/marks.ts'
import { applyFile, checkFile, diffFile, exportSite } from '../../../control/cli/site.ts'
import { type Api, createApi } from '../../../control/front/api/server.ts'
import { serviceText } from '../../../control/model/identity.ts'
import { markText } from '../../../control/model/mark.ts'
import type { Operation } from '../../../control/plan/operations.ts'
import type { RuleDirector } from '../../../control/rules/director.ts'
import { SiteSource } from '../../../control/source/site-source.ts'
import { Sources } from '../../../control/source/sources.ts'
import { SiteReader } from '../../../control/source/thread/site-reader.ts'
import { Setting, SettingsRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { prefixText } from '../../../net/prefix.ts'
import { contextOf } from '../front/context.ts'
import { openDirector } from '../opened-director.ts'
import { testHost } from '../support.ts'

const reader = new SiteReader()
after(() => reader.close())

const SITE = `deny: [198.51.100.0/24]
marks:
  - { mark: 7, to: 192.0.2.0/24, protocol: tcp, ports: [80, 1000-1999] }
services:
  - tcp: 192.0.2.10:80
    deny: [0.0.0.0/0]
    allow: [10.0.0.0/8]
    limit: { rate: 50, connections: 8, prefix: 24 }
    real_servers: [10.0.0.1]
`

describe('what a file says of sources and marks', () => {
  let folder: string
  let file: string
  let socket: string
  let api: Api
  let dataplane: MemoryDataplane
  let director: RuleDirector
  let applier: MapApplier
  /** How many prefixes there were, and whether packets looked at them, when a service was published. */
  const published: { readonly prefixes: number; readonly looked: boolean }[] = []

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pointsman-gate-'))
    file = join(folder, 'pm.yaml')
    socket = join(folder, 'api.sock')
    dataplane = new MemoryDataplane(SMALL_SIZES)
    published.length = 0
    ;({ director, applier } = openDirector({ dataplane, host: testHost(), trace }))
    const sources = new Sources()
    sources.add(
      new SiteSource({
        source: 'file',
        path: file,
        director,
        reader,
        pace: () => new Turns(),
        log: { info: () => {}, error: () => {} },
        applied: () => {},
      }),
    )
    api = createApi({
      context: contextOf(director, { sources }),
      failed: (error) => assert.fail(String(error)),
    })
    await api.listen(socket, 'all')
  })
  afterEach(async () => {
    await api.close(0)
    rmSync(folder, { recursive: true })
  })

  function trace(operation: Operation): void {
    if (operation.op !== 'index' || operation.entry === 0n) return
    const flags = dataplane.map('settings').u32[SettingsRecord.offsets.flags / 4]!
    const both = Setting.Filters | Setting.Limits
    published.push({
      prefixes: applier.filters.count,
      looked: applier.limits.count === 1 && (flags & both) === both,
    })
  }
  const apply = async (text: string, takeOver = false) => {
    writeFileSync(file, text)
    return (await applyFile(socket, undefined, takeOver, () => {})).text()
  }
  const diff = async (text: string) => {
    writeFileSync(file, text)
    return (await diffFile(socket, undefined, false)).text()
  }
  const filters = () =>
    Array.from(
      director.filters(),
      ({ prefix, action, service, owner }) =>
        `${owner} ${action} ${prefixText(prefix)} ${service === null ? '*' : serviceText(service)}`,
    ).sort()
  const limits = () =>
    director
      .limits()
      .map(
        ({ owner, service, rate, connections, length }) =>
          `${owner} ${serviceText(service)} ${rate} ${connections} /${length}`,
      )
  const marks = () => director.marks().map((rule) => `${rule.owner} ${markText(rule)}`)

  test('comes in force, is told by diff, changes and goes with it', async () => {
    assert.match(await diff(SITE), /\+ +all services +deny 198\.51\.100\.0\/24/)
    assert.deepEqual(filters(), [], 'only told')
    assert.match(await apply(SITE), /add mark 2, add filter 3, add limit 1/)
    assert.deepEqual(filters(), [
      'file allow 10.0.0.0/8 tcp 192.0.2.10:80',
      'file deny 0.0.0.0/0 tcp 192.0.2.10:80',
      'file deny 198.51.100.0/24 *',
    ])
    assert.deepEqual(marks(), [
      'file 7 --to 192.0.2.0/24 --protocol tcp --port 80',
      'file 7 --to 192.0.2.0/24 --protocol tcp --port 1000-1999',
    ])
    assert.deepEqual(limits(), ['file tcp 192.0.2.10:80 50 8 /24'])
    assert.match(await apply(SITE), /nothing has changed/)
    const changed = SITE.replace('10.0.0.0/8', '10.0.0.0/9')
      .replace('mark: 7', 'mark: 8')
      .replace('rate: 50', 'rate: 60')
    assert.match(await diff(changed), /- +tcp 192\.0\.2\.10:80 +allow 10\.0\.0\.0\/8/)
    assert.match(
      await diff(changed),
      /- +tcp 192\.0\.2\.10:80 +limit 50 new connections\/s, 8 connections at a time per \/24/,
    )
    await apply(changed)
    assert.deepEqual(limits(), ['file tcp 192.0.2.10:80 60 8 /24'])
    await apply(changed.replace(/ {4}limit.*\n/, ''))
    assert.deepEqual(limits(), [])
    await apply(changed)
    assert.ok(filters().includes('file allow 10.0.0.0/9 tcp 192.0.2.10:80'))
    assert.equal(filters().length, 3)
    assert.ok(marks().every((rule) => rule.startsWith('file 8')))
    await apply('services: []\n')
    assert.deepEqual([filters(), marks(), limits()], [[], [], []])
  })

  test('no packet finds a service before those are kept out who may not reach it', async () => {
    await apply(SITE)
    assert.deepEqual(published, [{ prefixes: 3, looked: true }])
    // Another service of the same name, in the very same slot or another one.
    await apply('services: []\n')
    applier.filters.expireSlice()
    assert.equal(applier.filters.count, 0, 'nothing of a service outlives it')
    published.length = 0
    await apply(SITE)
    assert.deepEqual(published, [{ prefixes: 3, looked: true }])
  })

  test('belongs to the file: commands are told whose it is and what to do instead', async () => {
    await apply(SITE)
    const before = [filters(), marks()]
    const owned = /belongs to the file .*pm\.yaml: change it there, then: pointsman apply/
    await assert.rejects(changeFilters(socket, 'deny', 'delete', ['198.51.100.0/24'], {}), owned)
    await assert.rejects(changeFilters(socket, 'allow', 'add', ['198.51.100.0/24'], {}), owned)
    await assert.rejects(
      changeFilters(socket, 'allow', 'delete', ['10.0.0.0/8'], { service: '192.0.2.10:80' }),
      owned,
    )
    const options = { to: '192.0.2.0/24', protocol: 'tcp', port: '80' }
    await assert.rejects(changeMark(socket, 'delete', '7', options), owned)
    await assert.rejects(changeMark(socket, 'add', '9', options), owned)
    await assert.rejects(deleteLimit(socket, '192.0.2.10:80'), owned)
    await assert.rejects(addLimit(socket, '192.0.2.10:80', { rate: '9' }), owned)
    assert.deepEqual(limits(), ['file tcp 192.0.2.10:80 50 8 /24'])
    assert.deepEqual([filters(), marks()], before)
    // What the file says nothing of is anybody's.
    await changeFilters(socket, 'deny', 'add', ['203.0.113.0/24'], { service: '192.0.2.10:80' })
    await apply(SITE)
    assert.ok(filters().includes('manual deny 203.0.113.0/24 tcp 192.0.2.10:80'))
  })

  test('what commands have said otherwise refuses the file at its place, unless that takes over', async () => {
    await apply('services:\n  - tcp: 192.0.2.10:80\n')
    await changeFilters(socket, 'allow', 'add', ['198.51.100.0/24'], {})
    await changeFilters(socket, 'deny', 'add', ['0.0.0.0/0'], { service: '192.0.2.10:80' })
    await addLimit(socket, '192.0.2.10:80', { rate: '9', prefix: '/32' })
    await changeMark(socket, 'add', '9', { to: '192.0.2.0/24', protocol: 'tcp', port: '80' })
    const before = [filters(), marks()]
    const refused =
      /pm\.yaml:1:8: 198\.51\.100\.0\/24 belongs to commands: delete it there: pointsman allow delete 198\.51\.100\.0\/24, or take it over: pointsman apply --take-over/
    await assert.rejects(diff(SITE), refused)
    await assert.rejects(apply(SITE), /pm\.yaml:5:5: The limit of service .* belongs to commands/)
    await assert.rejects(apply(SITE), refused)
    await assert.rejects(
      apply(SITE),
      /pm\.yaml:3:5: .*mark 9.*|pm\.yaml:3:5: Marking rule .* belongs to commands/,
    )
    assert.deepEqual([filters(), marks()], before)
    await apply(SITE, true)
    assert.ok([...filters(), ...marks(), ...limits()].every((one) => one.startsWith('file ')))
    assert.equal(filters().length, 3)
  })

  test('what is exported says it again', async () => {
    await apply(SITE)
    await changeFilters(socket, 'deny', 'add', ['2001:db8::/32'], {})
    await changeFilters(socket, 'deny', 'add', ['2001:db9::/32'], { for: '1h' })
    const text = (await exportSite(socket)).text()
    assert.doesNotMatch(text, /2001:db9/, 'what ends by itself is nothing for a file')
    assert.match(await apply(text), /nothing has changed/)
    assert.ok(filters().includes('file deny 2001:db8::/32 *'))
  })

  test('a list that does not fit leaves everything as it was', async () => {
    await apply(SITE)
    const before = [filters(), marks()]
    const many = Array.from({ length: 8192 }, (_, i) => `10.${i >> 8}.${i & 255}.1`)
    await assert.rejects(apply(`deny: [${many.join(', ')}]\nservices: []\n`), /No room for .*--filters/)
    assert.deepEqual([filters(), marks()], before)
  })
})

describe('a file that is wrong about sources and marks', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-gate-'))
  after(() => rmSync(folder, { recursive: true }))
  for (const [text, wanted] of [
    ['deny:\n  - 10.0.0.1/8\n', /:2:5: deny\.0: expected 10\.0\.0\.0\/8, got "10\.0\.0\.1\/8"/],
    ['allow: [nobody]\n', /:1:9: allow\.0: expected a prefix|:1:9: allow\.0: expected 10\.0\.0\.0\/8/],
    [
      'deny: [10.0.0.0/8]\nallow: [10.0.0.0/8]\n',
      /:\d:\d: Source "10\.0\.0\.0\/8" is denied or allowed twice/,
    ],
    [
      'services:\n  - tcp: 192.0.2.10:80\n    deny: ["::/0"]\n',
      /:3:12: Source "::\/0" never reaches this service: expected an IPv4 prefix/,
    ],
    ['marks:\n  - { mark: 7, to: 192.0.2.0/24, from: "2001:db8::/32" }\n', /:2:5: .* one family/],
    ['marks:\n  - { mark: 7, ports: 90-80 }\n', /:2:23: marks\.0\.ports: expected a port or a range/],
    ['marks:\n  - { mark: 7 }\n  - { mark: 8, family: ipv4 }\n', /:3:5: These packets have a mark already/],
    ['marks: [{ mark: 7, too: 10.0.0.1 }]\n', /Unknown key "too": did you mean "to"/],
    [
      'services:\n  - tcp: 192.0.2.10:80\n    limit: { rate: 9, prefix: 33 }\n',
      /:3:31: Addresses of IPv4 have 32 bits, not 33/,
    ],
    [
      'services:\n  - tcp: 192.0.2.10:80\n    limit: { rate: 0 }\n',
      /:3:20: .*limit\.rate: expected at least 1/,
    ],
    [
      'services:\n  - tcp: 192.0.2.10:80\n    limit: { prefix: 24 }\n',
      /:3:12: .*A limit without a number: expected rate, connections or both/,
    ],
  ] as const) {
    test(text.replaceAll('\n', ' '), () => {
      const path = join(folder, 'pm.yaml')
      writeFileSync(path, text)
      const { good, text: told } = checkFile(path)
      assert.equal(good, false)
      assert.match(told(), wanted)
    })
  }
})
