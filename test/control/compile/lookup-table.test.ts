import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  dhTable,
  mhHash,
  mhStart,
  mhTable,
  mhTurns,
  shSlot,
  shTable,
  type TableEntry,
} from '../../../control/compile/lookup-table.ts'
import { siphash13Word } from '../../../control/compile/siphash.ts'
import { MH_TABLE_SIZE } from '../../../control/model/scheduler.ts'
import { ipv4FromNumber, parseAddress } from '../../../net/address.ts'
import fc from '../../property.ts'

const address = (text: string) => parseAddress(text)!
const entry = (text: string, weight: number, lastWeight = weight): TableEntry => ({
  address: address(text),
  port: 80,
  weight,
  lastWeight,
})

/** List order of the vectors recorded from kernel IPVS. */
const servers = [entry('10.2.1.23', 2), entry('10.2.1.22', 3), entry('10.2.1.21', 1)]

/** SipHash-1-3 written with bigints, to compare the fast one with. */
function slowSiphash(word: number, key: number): number {
  const mask = (1n << 64n) - 1n
  const rotl = (x: bigint, bits: bigint) => ((x << bits) | (x >> (64n - bits))) & mask
  const k = BigInt(key)
  let [v0, v1, v2, v3] = [
    0x736f6d6570736575n ^ k,
    0x646f72616e646f6dn ^ k,
    0x6c7967656e657261n ^ k,
    0x7465646279746573n ^ k,
  ]
  const round = () => {
    v0 = (v0 + v1) & mask
    v1 = rotl(v1, 13n) ^ v0
    v0 = rotl(v0, 32n)
    v2 = (v2 + v3) & mask
    v3 = rotl(v3, 16n) ^ v2
    v0 = (v0 + v3) & mask
    v3 = rotl(v3, 21n) ^ v0
    v2 = (v2 + v1) & mask
    v1 = rotl(v1, 17n) ^ v2
    v2 = rotl(v2, 32n)
  }
  const block = (4n << 56n) | BigInt(word)
  v3 ^= block
  round()
  v0 ^= block
  v2 ^= 0xffn
  for (let i = 0; i < 3; i++) round()
  return Number((v0 ^ v1 ^ v2 ^ v3) & 0xffffffffn)
}

describe('lookup tables', () => {
  test('the halves of SipHash add up to the whole', () => {
    const word = fc.integer({ min: 0, max: 0xffffffff })
    fc.assert(fc.property(word, word, (x, key) => siphash13Word(x, key) === slowSiphash(x, key)))
  })

  const sh: readonly (readonly [string, number | null, string])[] = [
    ['10.9.0.1', 224, '10.2.1.22'],
    ['192.0.2.1', 50, '10.2.1.22'],
    ['198.51.100.7', 171, '10.2.1.22'],
    ['203.0.113.200', 52, '10.2.1.22'],
    ['10.10.7.14', null, '10.2.1.23'],
    ['10.12.21.40', null, '10.2.1.21'],
  ]
  for (const [client, slot, server] of sh) {
    test(`sh: ${client} goes to ${server}`, () => {
      const at = shSlot(address(client), 4, 0)
      if (slot !== null) assert.equal(at, slot)
      assert.equal(servers[shTable(servers)[at]!]!.address, server)
    })
  }

  test('sh: a real server of weight 0 keeps one slot per round, large weights starve later ones', () => {
    assert.deepEqual(
      [...shTable([entry('10.0.0.1', 0), entry('10.0.0.2', 2)]).subarray(0, 6)],
      [0, 1, 1, 0, 1, 1],
    )
    assert.ok(shTable([entry('10.0.0.1', 300), entry('10.0.0.2', 1)]).every((index) => index === 0))
    assert.equal(shTable([]).length, 0)
  })

  test('dh: one slot each whatever the weight', () => {
    assert.deepEqual([...dhTable(servers).subarray(0, 7)], [0, 1, 2, 0, 1, 2, 0])
    assert.equal(dhTable([]).length, 0)
  })

  test('mh: offsets and skips are those of the kernel', () => {
    assert.deepEqual(
      servers.map((server) => mhStart(server, 4)),
      [
        { offset: 1618, skip: 2530 },
        { offset: 1345, skip: 3704 },
        { offset: 1256, skip: 2181 },
      ],
    )
  })

  test('mh: the table is that of the kernel', () => {
    const table = mhTable(servers, 4)
    assert.deepEqual([...table.subarray(0, 12)], [1, 2, 0, 1, 0, 1, 2, 0, 0, 1, 1, 1])
    assert.deepEqual(
      [0, 1, 2].map((index) => table.filter((slot) => slot === index).length),
      [1365, 2046, 682],
    )
  })

  const mh: readonly (readonly [string, number, number, string])[] = [
    ['10.9.0.1', 0xd51b73d7, 124, '10.2.1.23'],
    ['192.0.2.1', 0x92889c88, 2891, '10.2.1.23'],
    ['198.51.100.7', 0xadb98ab6, 924, '10.2.1.22'],
    ['203.0.113.200', 0x9da0894b, 3310, '10.2.1.23'],
  ]
  for (const [client, hash, slot, server] of mh) {
    test(`mh: ${client} goes to ${server}`, () => {
      assert.equal(mhHash(address(client), 4, 0), hash)
      assert.equal(hash % MH_TABLE_SIZE, slot)
      assert.equal(servers[mhTable(servers, 4)[slot]!]!.address, server)
    })
  }

  test('mh: a drained real server keeps its slots, one that never had a weight gets none', () => {
    const drained = [entry('10.2.1.23', 0, 2), servers[1]!, servers[2]!]
    assert.deepEqual(mhTable(drained, 4), mhTable(servers, 4))
    const never = [entry('10.2.1.24', 0, 0), ...servers]
    assert.equal(mhTurns(never)[0], 0)
    assert.ok(mhTable(never, 4).every((index) => index !== 0))
    assert.equal(mhTable([entry('10.2.1.24', 0, 0)], 4).length, 0)
  })

  test('mh: shares differ by at most one turn, and a removed server hardly moves the others', () => {
    const equal = Array.from({ length: 20 }, (_, i) => entry(ipv4FromNumber(0x0a000001 + i), 1))
    const table = mhTable(equal, 4)
    const shares = equal.map((_, index) => table.filter((slot) => slot === index).length)
    assert.ok(Math.max(...shares) - Math.min(...shares) <= 1)
    const fewer = mhTable(equal.slice(0, -1), 4)
    const moved = table.filter((index, slot) => index !== 19 && fewer[slot] !== index).length
    assert.ok(moved < MH_TABLE_SIZE * 0.1, `${moved} slots moved`)
  })
})
