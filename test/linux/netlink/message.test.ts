import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  decodeAttributes,
  decodeMessages,
  encodeRequest,
  errorOf,
  NLM_F_REQUEST,
} from '../../../linux/netlink/message.ts'
import {
  decodeAddress,
  decodeLink,
  decodeNeighbour,
  decodeNetConf,
  decodeRoute,
  manageNeighbour,
  routeQuery,
} from '../../../linux/netlink/rtnetlink.ts'
import { parseAddress } from '../../../net/address.ts'
import { link as plainLink } from '../plain-link.ts'

const bytes = (...lines: string[]): Uint8Array => Buffer.from(lines.join('').replaceAll(' ', ''), 'hex')
const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex')
const address = (text: string) => parseAddress(text)!

test('a route request carries family, prefix length and destination', () => {
  const query = routeQuery(address('10.0.2.11'), null, 0)
  const request = encodeRequest(
    { type: query.type, flags: NLM_F_REQUEST, sequence: 7 },
    query.header,
    query.attributes,
  )
  const want = bytes(
    '24000000 1a00 0100 07000000 00000000', // nlmsghdr: 36 bytes, RTM_GETROUTE, request, sequence 7
    '02 20 00 00 00 00 00 00 00000000', // rtmsg: AF_INET, /32
    '0800 0100 0a00020b', // RTA_DST
  )
  assert.equal(hex(request), hex(want))
})

test('a route request names its source and leaves the ECN bits out of the TOS', () => {
  const query = routeQuery(address('2001:db8::1'), address('2001:db8::2'), 0xbb)
  assert.equal(hex(query.header), '0a808018000000000000000000000000'.slice(0, 24))
  assert.deepEqual(
    query.attributes.map(({ type, value }) => [type, hex(value)]),
    [
      [1, '20010db8000000000000000000000001'],
      [2, '20010db8000000000000000000000002'],
    ],
  )
})

test('a managed neighbour is requested as learned elsewhere, with its owner', () => {
  const query = manageNeighbour(address('10.0.2.11'), 3, 0x70)
  assert.equal(hex(query.header), '020000000300000000001000')
  assert.deepEqual(
    query.attributes.map(({ type, value }) => [type, hex(value)]),
    [
      [1, '0a00020b'],
      [12, '70'],
      [15, '01000000'],
    ],
  )
})

test('a route answer gives gateway, interface, source and path MTU', () => {
  const [message] = decodeMessages(
    bytes(
      '48000000 1800 0000 07000000 01000000',
      '02 20 00 00 fe 00 00 01 00020000', // unicast, main table, RTM_F_CLONED
      '0800 0100 0a000311', // RTA_DST
      '0800 0400 02000000', // RTA_OIF 2
      '0800 0500 0a0002fe', // RTA_GATEWAY
      '0800 0700 0a000201', // RTA_PREFSRC
      '0c00 0800 0800 0200 78050000', // RTA_METRICS { RTAX_MTU 1400 }
    ),
  )
  assert.deepEqual(decodeRoute(message!), {
    family: 4,
    kind: 1,
    ifindex: 2,
    gateway: '10.0.2.254',
    preferredSource: '10.0.2.1',
    mtu: 1400,
  })
})

test('an IPv4 route may have an IPv6 gateway', () => {
  const [message] = decodeMessages(
    bytes(
      '34000000 1800 0000 07000000 01000000',
      '02 20 00 00 fe 00 00 01 00000000',
      '1600 1200 0a00 fe800000000000000000000000000001 0000', // RTA_VIA, two bytes of padding
    ),
  )
  assert.equal(decodeRoute(message!)?.gateway, 'fe80::1')
})

test('link, address, neighbour and forwarding are decoded from their messages', () => {
  const [link, ifaddr, neighbour, conf] = decodeMessages(
    bytes(
      '3c000000 1000 0000 00000000 00000000',
      '00 00 0100 03000000 43100100 00000000', // ethernet, ifindex 3, UP BROADCAST RUNNING MULTICAST LOWER_UP
      '0700 0300 633000 00', // IFLA_IFNAME "c0"
      '0a00 0100 020000000101 0000', // IFLA_ADDRESS
      '0800 0400 dc050000', // IFLA_MTU
      '28000000 1400 0000 00000000 00000000',
      '02 18 80 00 03000000',
      '0800 0100 c0000201 0800 0200 c0000202', // peer 192.0.2.1, local 192.0.2.2
      '40000000 1c00 0000 00000000 00000000',
      '02 00 0000 03000000 0400 00 01', // STALE
      '0800 0100 c0000232',
      '0a00 0200 020000000150 0000',
      '0500 0c00 70 000000', // NDA_PROTOCOL
      '0800 0f00 01000000', // NTF_EXT_MANAGED
      '24000000 5000 0000 00000000 00000000',
      '02 000000',
      '0800 0100 03000000 0800 0200 01000000',
    ),
  )
  assert.deepEqual(decodeLink(link!), plainLink(3, 'c0', { mac: bytes('020000000101') }))
  assert.deepEqual(decodeAddress(ifaddr!), {
    ifindex: 3,
    family: 4,
    address: '192.0.2.2',
    prefixLength: 24,
    tentative: false,
  })
  assert.deepEqual(decodeNeighbour(neighbour!), {
    ifindex: 3,
    address: '192.0.2.50',
    state: 4,
    valid: true,
    permanent: false,
    managed: true,
    mac: bytes('020000000150'),
    protocol: 0x70,
  })
  assert.deepEqual(decodeNetConf(conf!), { family: 4, ifindex: 3, forwarding: true })
})

test('an error message gives its number as a positive one', () => {
  const [message] = decodeMessages(
    bytes('24000000 0200 0000 01000000 00000000', '9bffffff', '00000000 0000 0000 00000000 00000000'),
  )
  assert.equal(errorOf(message!), 101)
})

test('cut or senseless lengths end the decoding', () => {
  assert.deepEqual(decodeMessages(bytes('24000000 0200 0000')), [])
  assert.deepEqual(decodeMessages(bytes('00000000 0200 0000 01000000 00000000')), [])
  assert.deepEqual(decodeMessages(bytes('ffffff7f 0200 0000 01000000 00000000')), [])
  assert.equal(decodeAttributes(bytes('0000 0100 ffff'), 0).size, 0)
  assert.equal(decodeAttributes(bytes('ff00 0100'), 0).size, 0)
})
