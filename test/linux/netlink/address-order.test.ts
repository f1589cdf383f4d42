/** Addresses in order, held against a plain list. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AddressOrder } from '../../../linux/netlink/address-order.ts'
import {
  addressToBytes,
  familyOf,
  type IpAddress,
  ipv4FromNumber,
  parseAddress,
} from '../../../net/address.ts'
import fc from '../../property.ts'

const v4 = fc.integer({ min: 0, max: 4000 }).map((n) => ipv4FromNumber(0x0a00_0000 + n))
const v6 = fc.integer({ min: 0, max: 4000 }).map((n) => parseAddress(`2001:db8::${n.toString(16)}`)!)
const change = fc.record({ address: fc.oneof(v4, v6), add: fc.boolean() })

function isWithin(address: IpAddress, prefix: IpAddress, length: number): boolean {
  if (familyOf(address) !== familyOf(prefix)) return false
  const [a, b] = [addressToBytes(address), addressToBytes(prefix)]
  for (let bit = 0; bit < length; bit++)
    if (((a[bit >> 3]! ^ b[bit >> 3]!) & (0x80 >> (bit & 7))) !== 0) return false
  return true
}

test('whatever is added and deleted, a prefix finds the addresses within it, each once', () => {
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 3000, size: 'max' }),
      fc.array(fc.tuple(fc.oneof(v4, v6), fc.nat(128)), { minLength: 1, maxLength: 20 }),
      (changes, prefixes) => {
        const order = new AddressOrder()
        const plain = new Set<IpAddress>()
        for (const { address, add } of changes) {
          if (add) {
            order.add(address)
            plain.add(address)
          } else {
            order.delete(address)
            plain.delete(address)
          }
        }
        for (const [prefix, bits] of prefixes) {
          const family = familyOf(prefix)
          const length = Math.min(bits, family === 4 ? 32 : 128)
          const found: IpAddress[] = []
          const count = order.within({ family, bytes: addressToBytes(prefix), length }, (one) =>
            found.push(one),
          )
          assert.equal(count, found.length)
          assert.deepEqual(found.sort(), [...plain].filter((one) => isWithin(one, prefix, length)).sort())
        }
      },
    ),
    { numRuns: 40 },
  )
})

test('thousands in a row are split into chunks, and taken out again', () => {
  const order = new AddressOrder()
  const addresses = Array.from({ length: 5000 }, (_, i) => ipv4FromNumber(0x0a00_0000 + ((i * 7919) % 5000)))
  for (const address of addresses) order.add(address)
  const all = { family: 4, bytes: new Uint8Array(4), length: 0 } as const
  const inOrder: IpAddress[] = []
  assert.equal(
    order.within(all, (address) => inOrder.push(address)),
    5000,
  )
  assert.deepEqual(
    inOrder,
    Array.from({ length: 5000 }, (_, i) => ipv4FromNumber(0x0a00_0000 + i)),
  )
  for (const address of addresses) order.delete(address)
  assert.equal(
    order.within(all, () => assert.fail()),
    0,
  )
})
