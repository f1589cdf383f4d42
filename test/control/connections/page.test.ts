/** Pages of connections: searched, in an order, each beginning where the last one ended. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listConnections } from '../../../control/connections/list.ts'
import { readPage } from '../../../control/connections/page.ts'
import { ConnectionTable } from '../../../control/connections/table.ts'
import {
  CONNECTION_ORDERS,
  type ConnectionListing,
  type ConnectionPage,
  type PageQuestion,
} from '../../../control/model/connection.ts'
import {
  ConnKind,
  ConnStatus,
  Method,
  PM_CONN_STATE_SHIFT,
  PM_NONE,
  RealRecord,
  TcpState,
} from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import type { Family } from '../../../net/address.ts'
import { ip } from '../support.ts'

const NOW = 1_000_000

class Scene {
  readonly plane: MemoryDataplane
  readonly tables: readonly [ConnectionTable, ConnectionTable]
  passes = 0

  constructor(lines = 1024) {
    this.plane = new MemoryDataplane({ ...SMALL_SIZES, connections4: lines, connections6: lines }, NOW)
    this.tables = [new ConnectionTable(this.plane, 4), new ConnectionTable(this.plane, 6)]
    const { view, bytes } = this.plane.map('reals')
    for (const [real, address] of ['10.0.0.1', '10.0.0.2', '10.0.1.1', '2001:db8:1::1'].entries()) {
      const at = real * RealRecord.size
      const family: Family = real === 3 ? 6 : 4
      bytes.set(family === 4 ? address.split('.').map(Number) : [0x20, 1, 0xd, 0xb8, 0, 1], at + 8)
      if (family === 6) bytes[at + 8 + 15] = 1
      RealRecord.setFamily(view, at, family)
      RealRecord.setPort(view, at, 8080)
    }
  }

  /** So many, in both families, of two services, at four real servers. */
  fill(count: number): this {
    for (let i = 0; i < count; i++) {
      const isSix = i % 10 === 9
      const table = this.tables[isSix ? 1 : 0]
      const line = isSix ? (i - 9) / 10 : i
      const claimed = { word: ConnStatus.Claimed, until: 0 }
      table.swapHead(line, table.head(line), claimed)
      table.fill(line, {
        ...{
          protocol: i % 3 === 0 ? 17 : 6,
          sport: 1024 + ((i * 31) % 60_000),
          dport: i % 2 === 0 ? 80 : 443,
        },
        source: ip(
          isSix
            ? `2001:db8:${(i % 7) + 2}::${i.toString(16)}`
            : `198.${18 + (i % 2)}.${(i * 7) % 256}.${i % 251}`,
        ),
        destination: ip(isSix ? '2001:db8::10' : '192.0.2.10'),
        ...{ kind: ConnKind.In, method: Method.Nat, flags: 0, real: isSix ? 3 : i % 3 },
        ...{ peer: PM_NONE, neighbour: 0 },
      })
      const state = i % 5 === 0 ? TcpState.FinWait : TcpState.Established
      const word = (ConnStatus.Live | (state << PM_CONN_STATE_SHIFT)) >>> 0
      table.swapHead(line, claimed, { word, until: NOW + ((i * 7919) % 100_000) })
    }
    return this
  }

  get #reals() {
    return this.plane.map('reals')
  }

  all(): readonly ConnectionListing[] {
    return [...listConnections(this.tables, this.#reals, () => this.plane.nowTicks())]
  }

  ask(question: Partial<PageQuestion>, isOver = () => false): Promise<ConnectionPage | string | null> {
    const pace = { over: true, pass: async () => void this.passes++ }
    const whole: PageQuestion = { ...{ search: '', order: 'ends', limit: 50, after: null }, ...question }
    const { plane, tables } = this
    return readPage({ tables, reals: this.#reals, nowTicks: () => plane.nowTicks() }, whole, pace, isOver)
  }

  async page(question: Partial<PageQuestion>): Promise<ConnectionPage> {
    const page = await this.ask(question)
    assert.ok(page !== null && typeof page !== 'string', String(page))
    return page
  }

  /** @param between what happens between two pages */
  async pages(question: Partial<PageQuestion>, between = () => {}): Promise<ConnectionListing[]> {
    const rows: ConnectionListing[] = []
    for (let after: string | null = null; ; between()) {
      const page: ConnectionPage = await this.page({ ...question, after })
      rows.push(...page.connections)
      if (page.next === null) return rows
      assert.equal(page.connections.length, question.limit ?? 50)
      after = page.next
    }
  }
}

const name = (one: ConnectionListing): string =>
  `${one.protocol} ${one.client} ${one.clientPort} ${one.virtualPort} ${one.destination}`
const names = (rows: readonly ConnectionListing[]): string[] => rows.map(name).sort()

test('pages in every order have each connection once, in that order', async () => {
  const scene = new Scene().fill(530)
  const all = names(scene.all())
  assert.equal(all.length, 530)
  const values: Readonly<Record<string, (one: ConnectionListing) => number | string>> = {
    ends: ({ remainingMs }) => remainingMs,
    state: ({ state }) => state,
    client: ({ client, family }) =>
      family === 4
        ? client
            .split('.')
            .map((part) => part.padStart(3, '0'))
            .join('.')
        : '',
    server: ({ destination, family }) => (family === 4 ? destination : ''),
    service: ({ virtualPort, family }) => family * 65_536 + virtualPort,
  }
  for (const order of CONNECTION_ORDERS) {
    const rows = await scene.pages({ order, limit: 37 })
    assert.deepEqual(names(rows), all, order)
    const value = values[order.replace('-', '')]!
    const ordered = rows.filter(({ family }) => family === 4 || !/client|server/.test(order)).map(value)
    if (order.startsWith('-')) ordered.reverse()
    for (const [i, one] of ordered.entries()) {
      if (i > 0) assert.ok(ordered[i - 1]! <= one, `${order}: ${ordered[i - 1]} before ${one}`)
    }
  }
})

test('pages stay in their order while time goes on, and leave out who has ended', async () => {
  const scene = new Scene().fill(400)
  const before = scene.all()
  const rows = await scene.pages({ order: '-ends', limit: 100 }, () =>
    scene.plane.setTicks(scene.plane.nowTicks() + 2_000),
  )
  assert.equal(new Set(rows.map(name)).size, rows.length)
  const missing = names(before).filter((one) => !rows.some((row) => name(row) === one))
  const ended = names(before.filter((one) => !scene.all().some((row) => name(row) === name(one))))
  assert.ok(ended.length > 0 && missing.length > 0)
  assert.ok(missing.every((one) => ended.includes(one)))
})

test('words of a search all have to fit, and are about any end', async () => {
  const scene = new Scene().fill(500)
  const all = scene.all()
  const cases: readonly (readonly [string, (one: ConnectionListing) => boolean])[] = [
    ['udp', ({ protocol }) => protocol === 'udp'],
    ['est', ({ state }) => state === 'ESTABLISHED'],
    ['FIN_WAIT tcp', ({ state, protocol }) => state === 'FIN_WAIT' && protocol === 'tcp'],
    [':443', ({ virtualPort }) => virtualPort === 443],
    ['10.0.0.2', ({ destination }) => destination === '10.0.0.2'],
    ['10.0.0.0/24', ({ destination }) => destination.startsWith('10.0.0.')],
    ['198.18.', ({ client }) => client.startsWith('198.18.')],
    ['2001:db8:1:', ({ destination }) => destination === '2001:db8:1::1'],
    ['[2001:db8:1::1]:8080', ({ destination }) => destination === '2001:db8:1::1'],
    ['192.0.2.10:80', ({ virtualPort, family }) => virtualPort === 80 && family === 4],
    ['tcp/192.0.2.10:80', (one) => one.protocol === 'tcp' && one.virtualPort === 80 && one.family === 4],
    ['203.0.113.1', () => false],
  ]
  for (const [search, fits] of cases) {
    const wanted = names(all.filter(fits))
    const { matched } = await scene.page({ search, limit: 10 })
    assert.equal(matched, wanted.length, search)
    assert.deepEqual(names(await scene.pages({ search, limit: 64 })), wanted, search)
  }
})

test('what cannot be looked for is refused with what can', async () => {
  const scene = new Scene().fill(10)
  for (const search of ['300.1.2.3', '10.0.0.1/33', ':70000', 'tcp/nonsense', '"><script>'])
    assert.match(String(await scene.ask({ search })), /^Cannot look for ".*": expected a protocol/, search)
  assert.match(String(await scene.ask({ search: 'tcp '.repeat(9) })), /at most 8 words, got 9/)
  const { next } = await scene.page({ limit: 3 })
  assert.match(String(await scene.ask({ after: next, order: 'client' })), /is no place in this order/)
  for (const after of ['', 'ends', 'ends~1~2', `${next}~1`, 'ends~NaN~1~1~1~1~1~1~1'])
    assert.match(String(await scene.ask({ after })), /is no place in this order/, after)
})

test('others get their turn all the time, and who is gone is not looked for to the end', async () => {
  const scene = new Scene(65_536).fill(60_000)
  assert.equal((await scene.page({ order: 'client', limit: 5 })).matched, 60_000)
  assert.ok(scene.passes >= 64, String(scene.passes))
  scene.passes = 0
  assert.equal(await scene.ask({}, () => scene.passes === 3), null)
  assert.equal(scene.passes, 3)
})
