import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MarkRule } from '../../../control/model/mark.ts'
import { ORIGINS } from '../../../control/model/source.ts'
import { MarkBook } from '../../../control/rules/marks.ts'
import { PM_MARK_KINDS, PM_MARK_RULES, SettingsRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { ipv4FromNumber, parseAddress } from '../../../net/address.ts'
import { cut } from '../../../net/prefix.ts'
import { openDirector } from '../opened-director.ts'
import { memoryState, service, testHost } from '../support.ts'

const rule = (mark: number, more: Partial<MarkRule> = {}): MarkRule => ({
  family: 4,
  mark,
  source: null,
  destination: cut(parseAddress('192.0.2.0')!, 24),
  protocol: null,
  ports: null,
  interface: null,
  ...more,
})
const origins = (owner: keyof typeof ORIGINS) => ORIGINS[owner]
const none = { add: [], delete: [], flush: false }

test('the same rule may be said again; another mark for the same packets may not', () => {
  const book = new MarkBook()
  assert.ok(book.add(rule(1), 'manual', origins).ok)
  assert.ok(book.add(rule(1), 'manual', origins).ok)
  const other = book.add(rule(2), 'manual', origins)
  assert.ok(!other.ok && other.errno === 'EEXIST')
  assert.match(other.message, /pointsman mark delete 1 --to 192\.0\.2\.0\/24/)
  assert.equal(book.count, 1)
})

test('a rule belongs to who states it', () => {
  const book = new MarkBook()
  assert.ok(book.add(rule(1), 'file', origins).ok)
  const refused = [book.add(rule(1), 'manual', origins), book.delete(rule(1), 'manual', origins)]
  for (const outcome of refused) {
    assert.ok(!outcome.ok && outcome.errno === 'EBUSY')
    assert.match(outcome.message, /belongs to the configuration file: .*pointsman apply/)
  }
  assert.equal(book.flush('manual', null), 0)
  assert.equal(book.flush('file', null), 1)
})

test('there is an end to rules, and to what a new connection has to be looked up by', () => {
  const book = new MarkBook()
  for (let i = 0; i < PM_MARK_RULES; i++) {
    const destination = cut(ipv4FromNumber(0x0a000000 + i), 32)
    assert.ok(book.add(rule(1, { destination }), 'manual', origins).ok)
  }
  const full = book.add(rule(1), 'manual', origins)
  assert.ok(!full.ok && full.errno === 'ENOSPC')
  assert.equal(book.flush('manual', 1), PM_MARK_RULES)
  let kinds = 0
  const add = (to: number, from: number) =>
    book.add(
      rule(1, {
        destination: cut(parseAddress('10.0.0.0')!, to),
        source: cut(parseAddress('10.0.0.0')!, from),
      }),
      'manual',
      origins,
    )
  for (let to = 9; to <= 32 && kinds < PM_MARK_KINDS; to++) {
    for (let from = 9; from <= 32 && kinds < PM_MARK_KINDS; from++, kinds++) assert.ok(add(to, from).ok)
  }
  const many = add(32, 32)
  assert.ok(!many.ok && many.errno === 'ENOSPC' && /prefix lengths/.test(many.message))
  // Another one of a kind that is there costs nobody more.
  const again = rule(1, {
    destination: cut(parseAddress('11.0.0.0')!, 9),
    source: cut(parseAddress('10.0.0.0')!, 9),
  })
  assert.ok(book.add(again, 'manual', origins).ok)
})

test('a change is made as a whole, or not at all', () => {
  const { director } = openDirector({ dataplane: new MemoryDataplane(), host: testHost() })
  assert.ok(director.changeMarks({ ...none, add: [rule(1)] }).ok)
  const change = { add: [rule(5, { protocol: 'tcp' })], delete: [rule(9)], flush: false }
  const outcome = director.changeMarks(change)
  assert.ok(!outcome.ok && outcome.errno === 'ENOENT')
  assert.deepEqual(
    director.marks().map(({ mark }) => mark),
    [1],
  )
})

test('rules are in force after a restart, without a moment between, and go along with a restore', async () => {
  const dataplane = new MemoryDataplane()
  const options = { dataplane, host: testHost(), stateFile: memoryState() }
  const first = openDirector(options).director
  first.addService(service('fwmark 7'))
  first.changeMarks({ ...none, add: [rule(7), rule(8, { protocol: 'udp' })] })
  await first.settle()
  const word = () => SettingsRecord.read(dataplane.map('settings').view, 0).marks
  const used = word()
  assert.notEqual(used, 0)

  const { director } = openDirector(options)
  assert.equal(word(), used)
  assert.deepEqual(
    director.marks().map(({ mark, owner }) => [mark, owner]),
    [
      [8, 'manual'],
      [7, 'manual'],
    ],
  )
  await director.settle()
  assert.notEqual(word(), used, 'the half that packets may still look at is not written to')
  await director.transact(async (draft) => {
    draft.flush()
    // Somebody else, meanwhile.
    director.changeMarks({ ...none, delete: [rule(7)] })
  })
  assert.deepEqual(
    director.marks().map(({ mark }) => mark),
    [8],
  )
})
