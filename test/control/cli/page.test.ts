/** What the page shows, without a browser. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import {
  connections,
  corners,
  counts,
  directorWords,
  events,
  figures,
  servers,
  services,
  type Table,
} from '../../../control/cli/page/content.ts'
import { START, type View, withOverview } from '../../../control/cli/top/view.ts'
import type { Overview } from '../../../control/front/api/schema/overview.ts'

const rates = { cps: 1.5, inPps: 3400, outPps: 0, inBps: 1e6, outBps: 2e6 }
const numbers = { rates, numbers: { active: 7, inactive: 2 }, weight: 3 }

function overview(more: Partial<Overview> = {}): Overview {
  const service = { ...numbers, scheduler: 'rr', inForce: true, health: null, servers: 3, down: 0 }
  return {
    at: '2026-01-01T01:00:00.000Z',
    ...{ version: '1', startedAt: '2026-01-01T00:00:00.000Z', dataplane: 'xdp', forwarding: true, rates },
    services: ['tcp/192.0.2.1:80', 'tcp/192.0.2.2:80'].map((name) => ({ ...service, name })),
    ...{ more: 0, total: 2, servers: null, counts: {} },
    ...more,
  }
}

const texts = ({ rows }: Table): string[][] => rows.map(({ cells }) => cells.map(({ text }) => text))
const seen = (more: Partial<Overview> = {}, before: View = START): View =>
  withOverview(before, overview(more), 1000)

test('the director and its traffic are told in short', () => {
  assert.equal(directorWords(overview()), 'forwarding, xdp data plane, version 1, up for 1 h 0 min')
  assert.match(directorWords(overview({ forwarding: false })), /^NOT forwarding/)
  assert.deepEqual(
    figures(seen({}, seen())).map(({ text, line }) => [text, line.length]),
    [
      ['1.5', 2],
      ['3.4k', 2],
      ['8.0M', 0],
      ['16M', 0],
    ],
  )
  assert.equal(corners([0, 2, 1], 100, 30), '0.0,30.0 50.0,0.0 100.0,15.0')
  assert.equal(corners([0, 0], 100, 30), '0.0,30.0 100.0,30.0')
})

test('services are rows with their rates, and what is wrong with them is said in words', () => {
  const [one] = overview().services
  const odd = [
    { ...one!, name: 'tcp/192.0.2.3:80', health: 'down' as const, down: 2 },
    { ...one!, name: 'tcp/192.0.2.4:80', inForce: false },
  ]
  const table = services(seen({ services: odd, more: 5, total: 9 }))
  assert.deepEqual(texts(table)[0], [
    ...['tcp/192.0.2.3:80', 'rr', 'down, 2 of 3 down', '1.5', '3.4k', '0', '8.0M', '16M', '7', '2', '0'],
  ])
  assert.equal(texts(table)[1]![2], 'not in force: see pointsman status')
  assert.equal(table.words, '2 of 9; 5 more are left out')
  assert.ok(table.rows.every(({ cells }) => cells.length === table.columns.length))
  assert.match(services(seen({ services: [], total: 0 })).words, /^None yet/)
  assert.equal(services(START).rows.length, 0)
})

test('real servers are those of the open service, which may go', () => {
  assert.equal(servers(seen()), null)
  const open = { ...START, open: 'tcp/192.0.2.1:80' }
  assert.equal(servers(seen({}, open))!.words, 'There is no such service any more')
  const list = [{ ...numbers, weight: 0, name: '10.0.0.1:80', method: 'nat', health: null, words: '' }]
  const table = servers(seen({ servers: list }, open))!
  assert.deepEqual(texts(table)[0]!.slice(0, 4), ['10.0.0.1:80', 'nat', '0, drained', 'not checked'])
  assert.ok(table.rows.every(({ cells }) => cells.length === table.columns.length))
})

test('connections are counted from the first page on', () => {
  const one = {
    protocol: 'tcp',
    family: 6,
    remainingMs: 90_000,
    state: 'ESTABLISHED',
    template: false,
  } as const
  const ends = { client: '2001:db8::7', clientPort: 4000, virtual: '2001:db8::10', virtualPort: 80 }
  const listed = { ...one, ...ends, destination: '10.0.0.1', destinationPort: 8080, engine: null }
  const template = { ...listed, template: true, state: 'ASSURED' }
  const table = connections({ connections: [listed, template], matched: 152, next: null }, 150)
  assert.equal(table.words, '151 to 152 of 152, at that moment')
  assert.deepEqual(texts(table), [
    ['[2001:db8::7]:4000', 'tcp/[2001:db8::10]:80', '10.0.0.1:8080', 'ESTABLISHED', '1 min'],
    ['[2001:db8::7]:4000', 'tcp/[2001:db8::10]:80', '10.0.0.1:8080', 'persistence, ASSURED', '1 min'],
  ])
  assert.equal(new Set(table.rows.map(({ key }) => key)).size, 2)
  assert.equal(connections({ connections: [], matched: 0, next: null }, 0).words, 'None')
})

test('what was not forwarded is told newest first', () => {
  const before = seen({ counts: { forward_nat: 9, drop_no_route: 5, pass_icmp: 2 } })
  const now = withOverview(
    before,
    overview({ counts: { forward_nat: 10, drop_no_route: 5, pass_icmp: 4 } }),
    3000,
  )
  assert.deepEqual(texts(counts(now)), [
    ['pass_icmp', '1.0', '4', '0 s ago'],
    ['drop_no_route', '0', '5', 'before'],
  ])
})

test('events are told newest first, and no more than somebody reads', () => {
  const event = { at: '2026-01-01T00:00:00.000Z', about: 'service', service: null, server: null, check: null }
  const many = Array.from({ length: 150 }, (_, id) => ({
    ...{ id, kind: 'rules' as const, state: null, words: `number ${id}`, by: null, ...event },
  }))
  const { rows, columns } = events(many)
  assert.equal(rows.length, 100)
  assert.equal(rows[0]!.cells[3]!.text, 'number 149')
  assert.ok(rows.every(({ cells }) => cells.length === columns.length))
})

test('nothing of the page comes from elsewhere, and its script is no part of its text', () => {
  const folder = fileURLToPath(new URL('../../../control/cli/page', import.meta.url))
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  for (const name of names.filter((one) => /\.(html|css|ts)$/.test(one))) {
    const path = join(folder, name)
    const text = readFileSync(path, 'utf8').replaceAll('http://www.w3.org/2000/svg', '')
    assert.doesNotMatch(text, /https?:\/\/|innerHTML|\son[a-z]+="|\sstyle="/, name)
  }
})
