/** The addresses of full NAT in the maps: as packets read them, and as the next director finds them. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { fullNatWord, readFullNat, writeFullNat } from '../../../control/compile/full-nat.ts'
import type { FullNatAddress } from '../../../control/model/full-nat.ts'
import { FullNatRecord, PM_FULL_NATS, SettingsRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { openDirector } from '../opened-director.ts'
import { ip, testHost } from '../support.ts'

const VERSION = FullNatRecord.offsets.version / 4
const WORDS = FullNatRecord.size / 4

const one = (address: string, from = 1024, to = 32767): FullNatAddress => ({
  address: ip(address),
  ports: { from, to },
})

function scene() {
  const dataplane = new MemoryDataplane()
  const map = dataplane.map('full_nat')
  const settings = dataplane.map('settings')
  const write = (addresses: readonly FullNatAddress[]): void => {
    writeFullNat(map, addresses)
    SettingsRecord.setFullNat(settings.view, 0, fullNatWord(addresses))
  }
  return { map, write, read: () => readFullNat(map, settings) }
}

describe('addresses of full NAT in the maps', () => {
  test('are found as they were written, of both families, up to the last place', () => {
    const { write, read } = scene()
    assert.deepEqual(read(), [])
    const many = Array.from({ length: PM_FULL_NATS }, (_, n) => one(`10.0.0.${n}`, 1, 65535))
    const six = [one('2001:db8::5', 5000, 5000), one('2001:db8::6')]
    write([...many, ...six])
    assert.deepEqual(read(), [...many, ...six])
    write([six[1]!, many[3]!])
    assert.deepEqual(read(), [many[3], six[1]])
    write([])
    assert.deepEqual(read(), [])
  })

  test('a record is of another version when its contents are, and of the same when they are not', () => {
    const { map, write } = scene()
    write([one('10.0.0.5')])
    const first = map.u32[VERSION]!
    assert.equal(first % 2, 0)
    write([one('10.0.0.5')])
    assert.equal(map.u32[VERSION], first)
    write([one('10.0.0.5', 2000, 3000)])
    assert.equal(map.u32[VERSION], first + 2)
  })

  test('what somebody died at is whole once it is written again, though nothing was missing but that', () => {
    const { map, write, read } = scene()
    write([one('10.0.0.5'), one('10.0.0.6')])
    map.u32[WORDS + VERSION]!++
    assert.deepEqual(read(), [one('10.0.0.5')], 'half of one address and half of another are none')
    write([one('10.0.0.5'), one('10.0.0.6')])
    assert.equal(map.u32[WORDS + VERSION]! % 2, 0)
    assert.deepEqual(read(), [one('10.0.0.5'), one('10.0.0.6')])
  })

  test('one that moves to another place is one, whenever its writer dies', () => {
    const { map, write, read } = scene()
    write([one('10.0.0.5'), one('10.0.0.6'), one('10.0.0.7')])
    writeFullNat(map, [one('10.0.0.6')])
    assert.deepEqual(read(), [one('10.0.0.6'), one('10.0.0.7')])
  })

  test('a director has those of the one before, and packets as many as it says', async () => {
    const dataplane = new MemoryDataplane()
    const word = (): number => SettingsRecord.getFullNat(dataplane.map('settings').view, 0)
    const before = openDirector({ dataplane, host: testHost() })
    const add = [{ address: ip('10.0.0.5'), ports: { from: 1024, to: 2047 } }, { address: ip('2001:db8::5') }]
    assert.ok(before.director.changeFullNat({ add, delete: [] }).ok)
    assert.equal(word(), 0, 'not before it is settled')
    await before.director.settle()
    assert.equal(word(), 0x0101)
    await before.applier.stop()
    const { director, applier } = openDirector({ dataplane, host: testHost() })
    assert.deepEqual(director.fullNat(), [one('10.0.0.5', 1024, 2047), one('2001:db8::5')])
    await director.settle()
    assert.equal(word(), 0x0101)
    assert.ok(director.changeFullNat({ add: [], delete: [ip('10.0.0.5')] }).ok)
    await director.settle()
    assert.equal(word(), 0x0100)
    await applier.stop()
  })
})
