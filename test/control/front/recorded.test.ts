/** What is written down of changes of filters, which need a data plane to be made. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { recorded } from '../../../control/front/recorded.ts'
import type { Director } from '../../../control/model/director.ts'
import type { FilterBatch } from '../../../control/model/filter.ts'
import { Journal } from '../../../control/model/journal.ts'
import { done, refuse } from '../../../control/model/outcome.ts'
import { ip, service, serviceId } from '../support.ts'

const batch = (count: number, more: Partial<FilterBatch> = {}): FilterBatch => ({
  prefixes: Array.from({ length: count }, (_, n) => ({
    address: ip(`198.51.100.${n}`),
    family: 4,
    length: 32,
  })),
  ...{ action: 'deny', service: null, forMs: null },
  ...more,
})

test('of a long restore settings are told by name, and rules by their number', async () => {
  const journal = new Journal(() => 0)
  const draft = { addService: () => done, setSysctl: () => done } as unknown as Director
  const plain = { transact: async (body: (draft: Director) => unknown) => body(draft) } as unknown as Director
  await recorded(plain, 'somebody', journal).transact(async (inside) => {
    for (let port = 1; port < 20; port++) inside.addService(service(`tcp 10.0.0.1:${port}`))
    inside.setSysctl('conn_reuse_mode', 1)
    inside.setSysctl('expire_nodest_conn', 1)
  })
  assert.deepEqual(
    journal.since(0).map(({ about, words }) => [about, words]),
    [['restore', 'settings: conn_reuse_mode=1, settings: expire_nodest_conn=1, service added: 19']],
  )
})

test('who denied what is written down, a long list by its number, and what was refused is not', () => {
  const journal = new Journal(() => 0)
  let outcome = done
  const plain = { changeFilters: () => outcome } as unknown as Director
  const director = recorded(plain, 'somebody', journal)
  const nothing = { flush: null, delete: [], add: [] }
  director.changeFilters({
    ...nothing,
    add: [
      batch(1, { forMs: 60_000 }),
      batch(200, { action: 'allow', service: serviceId('tcp 10.0.0.1:80') }),
    ],
  })
  director.changeFilters({ ...nothing, flush: { action: 'deny', service: null }, delete: [batch(2)] })
  outcome = refuse('ENOMEM', 'there is no room')
  director.changeFilters({ ...nothing, add: [batch(1)] })
  assert.deepEqual(
    journal.since(0).map(({ kind, about, words, by }) => [kind, about, words, by]),
    [
      [
        ...['rules', 'filters'],
        'deny added: 198.51.100.0/32 for 60 s, allow added: 200 prefixes for tcp 10.0.0.1:80',
        'somebody',
      ],
      ...[['rules', 'filters', 'deny flushed, deny deleted: 198.51.100.0/32 198.51.100.1/32', 'somebody']],
    ],
  )
})
