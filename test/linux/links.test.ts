/** What follows from how links are stacked. The kernel of a test machine has not all kinds: plain data. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Link, Links, whyNotTaken } from '../../linux/links.ts'
import { link } from './plain-link.ts'

const addresses = (links: Links, ifindex: number): number[] =>
  links.addressesOf(ifindex).map((mac) => mac[5] ?? -1)

test('a macvlan on top brings its address, while it is up and in this namespace', () => {
  const links = new Links([
    link(2, 'eth0'),
    link(3, 'vrrp51', { kind: 'macvlan', lower: 2 }),
    link(4, 'down', { kind: 'macvlan', lower: 2, up: false }),
    link(5, 'eth0.7', { kind: 'vlan', lower: 2 }),
    link(6, 'other', { kind: 'macvlan', lower: 2, lowerElsewhere: true }),
    link(7, 'tap', { kind: 'macvtap', lower: 2 }),
  ])
  assert.deepEqual(addresses(links, 2), [2, 3])
  assert.deepEqual(
    links.upperOf(2).map(({ name }) => name),
    ['vrrp51', 'down', 'eth0.7', 'tap'],
  )
})

test('slaves of a bond receive for it, under its address and those on top of it', () => {
  const links = new Links([
    link(2, 'eth0', { master: 9 }),
    link(3, 'eth1', { master: 9 }),
    link(9, 'bond0', { kind: 'bond' }),
    link(10, 'vrrp51', { kind: 'macvlan', lower: 9 }),
    link(4, 'eth2', { master: 8 }),
    link(8, 'blue', { kind: 'vrf' }),
  ])
  assert.deepEqual(
    links.receivingFor(9).map(({ name }) => name),
    ['bond0', 'eth0', 'eth1'],
  )
  assert.deepEqual(addresses(links, 3), [3, 9, 10])
  assert.deepEqual(addresses(links, 4), [4], 'a VRF has no frames of its own')
})

test('slaves that have the address of their bond have one address', () => {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 9)
  const links = new Links([link(2, 'eth0', { master: 9, mac }), link(9, 'bond0', { kind: 'bond', mac })])
  assert.deepEqual(addresses(links, 2), [9])
})

test('the other end of a veth pair is known in this namespace only, and is not stacked', () => {
  const links = new Links([
    link(2, 'a', { kind: 'veth', lower: 3 }),
    link(3, 'b', { kind: 'veth', lower: 2 }),
    // Both ends have the same index, as eth0 in every container.
    link(4, 'c', { kind: 'veth', lower: 4, lowerElsewhere: true }),
  ])
  assert.equal(links.peerOf(links.at(2)!)?.name, 'b')
  assert.equal(links.peerOf(links.at(4)!), null)
  assert.deepEqual(links.upperOf(2), [])
  assert.deepEqual(links.upperOf(4), [])
})

test('a link is found by every name it has', () => {
  const links = new Links([link(2, 'eth0', { otherNames: ['enp1s0', 'wan'] }), link(3, 'wan')])
  assert.equal(links.named('enp1s0')?.ifindex, 2)
  assert.equal(links.named('wan')?.ifindex, 3, 'its own name before that of another')
  assert.equal(links.named('eth1'), null)
})

test('masters in a circle, as two readings of a change may show them, do no harm', () => {
  const links = new Links([
    link(2, 'a', { kind: 'bond', master: 3 }),
    link(3, 'b', { kind: 'bond', master: 2 }),
  ])
  assert.deepEqual(addresses(links, 2), [2, 3])
  assert.equal(links.receivingFor(2).length, 2)
})

const refused: readonly (readonly [string, Partial<Link>, RegExp])[] = [
  ['the loopback interface', { loopback: true, hardware: 772 }, /it is the loopback interface.*ip -br link$/],
  [
    'a layer-3 device',
    { kind: 'wireguard', hardware: 65534 },
    /a layer-3 device \(wireguard\).*ip -br link$/,
  ],
  ['a link without MAC address', { mac: new Uint8Array(6) }, /ip link set dev eth0 address \S+$/],
]
for (const [name, more, want] of refused) {
  test(`no packets are taken from ${name}`, () => {
    assert.match(whyNotTaken(link(2, 'eth0', more)) ?? '', want)
  })
}
test('packets are taken from an Ethernet interface', () => {
  assert.equal(whyNotTaken(link(2, 'eth0')), null)
})
