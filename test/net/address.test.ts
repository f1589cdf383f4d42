import assert from 'node:assert/strict'
import { isIPv4, isIPv6 } from 'node:net'
import { describe, test } from 'node:test'
import {
  addressToBytes,
  addressWords,
  familyOf,
  ipv4FromNumber,
  ipv4ToNumber,
  isIpv6LinkLocal,
  isMulticast,
  parseAddress,
  parseClassicIpv4,
  readAddress,
} from '../../net/address.ts'
import fc from '../property.ts'

/** [text, canonical text or null, wire bytes] */
const rows: readonly (readonly [string, string | null, string?])[] = [
  ['0.0.0.0', '0.0.0.0', '00000000'],
  ['192.0.2.10', '192.0.2.10', 'c000020a'],
  ['255.255.255.255', '255.255.255.255', 'ffffffff'],
  ['::', '::', '00000000000000000000000000000000'],
  ['::1', '::1', '00000000000000000000000000000001'],
  ['2001:DB8::A', '2001:db8::a', '20010db800000000000000000000000a'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1', '20010db8000000000001000000000001'],
  ['2001:0db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1', '20010db8000000010001000100010001'],
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1', '20010000000000010000000000000001'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0', '00010002000300040005000600070000'],
  ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8', '00000002000300040005000600070008'],
  ['1::', '1::', '00010000000000000000000000000000'],
  ['::ffff:192.0.2.1', '::ffff:192.0.2.1', '00000000000000000000ffffc0000201'],
  ['::ffff:c000:201', '::ffff:192.0.2.1', '00000000000000000000ffffc0000201'],
  ['::192.0.2.1', '::192.0.2.1', '000000000000000000000000c0000201'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221', '0064ff9b0000000000000000c0000221'],
  ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304', '00010002000300040005000601020304'],
  ['', null],
  ['1.2.3', null],
  ['1..2.3', null],
  ['1.2.3.4.', null],
  ['.1.2.3.4', null],
  ['1.2.3.4.5', null],
  ['01.2.3.4', null],
  ['1.2.3.00', null],
  ['1.2.3.256', null],
  ['0x10.1.1.1', null],
  ['1.2.3.4 ', null],
  [' 1.2.3.4', null],
  ['1.2.3.-4', null],
  ['+1.2.3.4', null],
  ['1e0.2.3.4', null],
  ['１.2.3.4', null],
  [':', null],
  [':::', null],
  [':1', null],
  ['1:', null],
  ['1:2:3:4:5:6:7', null],
  ['1:2:3:4:5:6:7:8:9', null],
  ['1:2:3:4:5:6:7:8::', null],
  ['::1:2:3:4:5:6:7:8', null],
  ['1::2::3', null],
  ['1:::2', null],
  ['12345::', null],
  ['g::', null],
  ['::1%lo', null],
  ['[::1]', null],
  ['::1.2.3', null],
  ['::1.2.3.4:5', null],
  ['1:2:3:4:5:6:7:1.2.3.4', null],
  ['::ffff:01.2.3.4', null],
  ['::12345', null],
  ['2001:db8::1 ', null],
]

describe('address', () => {
  for (const [text, want, hex] of rows) {
    test(`${JSON.stringify(text)} is ${want ?? 'refused'}`, () => {
      const address = parseAddress(text)
      assert.equal(address, want)
      if (address === null) return
      const bytes = addressToBytes(address)
      assert.equal(Buffer.from(bytes).toString('hex'), hex)
      assert.equal(readAddress(bytes, 0, familyOf(address)), want)
    })
  }

  test('every 16 bytes print to a text that parses to the same bytes', () => {
    // Half of the groups are zero, so that runs of zeros of every length and place occur.
    const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }))
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (words) => {
        const bytes = new Uint8Array(16)
        words.forEach((word, i) => {
          bytes[2 * i] = word >>> 8
          bytes[2 * i + 1] = word
        })
        const text = readAddress(bytes, 0, 6)
        assert.equal(parseAddress(text), text)
        assert.deepEqual(addressToBytes(text), bytes)
        assert.equal(addressWords(text)[3], words[6]! * 65536 + words[7]!)
      }),
    )
  })

  test('accepts exactly what the platform parser accepts', () => {
    const piece = fc.constantFrom('0', '1', 'ff', '255', '256', '01', '::', ':', '.', 'db8', '1.2.3.4', 'g')
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
        const text = pieces.join('')
        assert.equal(parseAddress(text) !== null, isIPv4(text) || isIPv6(text), text)
      }),
      { numRuns: 3000 },
    )
  })

  test('numbers and dotted quads are the same thing', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (value) => {
        assert.equal(ipv4ToNumber(ipv4FromNumber(value)), value)
      }),
    )
  })

  const classic: readonly (readonly [string, string | null])[] = [
    ['10.1', '10.0.0.1'],
    ['10.0.0', '10.0.0.0'],
    ['0x0a000001', '10.0.0.1'],
    ['167772161', '10.0.0.1'],
    ['24', '0.0.0.24'],
    ['012.1.2.3', '10.1.2.3'],
    ['1.2.65535', '1.2.255.255'],
    ['1.2.3.4 trailing', '1.2.3.4'],
    ['0', '0.0.0.0'],
    ['', null],
    ['4294967296', null],
    ['1.2.65536', null],
    ['1.256.1', null],
    ['08.1.1.1', null],
    ['0x', null],
    ['1.2.3.4.5', null],
    ['1.2.3.4.', null],
    ['-1', null],
    ['10.1x', null],
    ['localhost', null],
  ]
  for (const [text, want] of classic) {
    test(`classic ${JSON.stringify(text)} is ${want ?? 'refused'}`, () => {
      assert.equal(parseClassicIpv4(text), want)
    })
  }

  test('multicast and link-local are told by their prefix', () => {
    const is = (check: typeof isMulticast, text: string): boolean => check(parseAddress(text)!)
    assert.deepEqual(
      ['223.255.255.255', '224.0.0.0', '239.255.255.255', '240.0.0.0', 'feff::1', 'ff02::1'].map((text) =>
        is(isMulticast, text),
      ),
      [false, true, true, false, false, true],
    )
    assert.deepEqual(
      ['fe7f::1', 'fe80::1', 'febf::1', 'fec0::1', '254.128.0.1'].map((text) => is(isIpv6LinkLocal, text)),
      [false, true, true, false, false],
    )
  })
})
