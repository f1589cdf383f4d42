import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { type EgressFacts, egressFlags, readEgress } from '../../../dataplane/kernel/egress.ts'
import { EgressFlag } from '../../../dataplane/layout/layout.gen.ts'
import { readLinks } from '../../../linux/links.ts'
import { readXdpFeatures, XdpFeature } from '../../../linux/netlink/netdev.ts'
import { HARDWARE_ETHERNET, type Link } from '../../../linux/netlink/rtnetlink.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../private-network.ts'

const nic: Link = {
  ifindex: 2,
  name: 'eth0',
  mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  mtu: 1500,
  up: true,
  carrier: true,
  loopback: false,
  noArp: false,
  hardware: HARDWARE_ETHERNET,
  kind: '',
  master: 0,
  lower: 0,
  lowerElsewhere: false,
  otherNames: [],
}
const old: EgressFacts = {
  features: null,
  driver: 'mlx4_en',
  attached: null,
  relayed: false,
  peerWakes: null,
}
const FULL = XdpFeature.BASIC | XdpFeature.REDIRECT | XdpFeature.TRANSMIT

describe('what an interface can do as a way out', () => {
  test('a driver is believed where the kernel tells what it says', () => {
    assert.equal(egressFlags(nic, { ...old, features: FULL, driver: 'virtio_net' }), 0)
    assert.equal(egressFlags(nic, { ...old, features: XdpFeature.BASIC }), EgressFlag.NoRedirect)
  })

  test('before Linux 6.3 stacked devices take nothing, and nothing is held against unknown drivers', () => {
    for (const kind of ['bridge', 'vlan', 'macvlan', 'team', 'vxlan']) {
      assert.equal(egressFlags({ ...nic, kind }, old), EgressFlag.NoRedirect, kind)
    }
    assert.equal(egressFlags(nic, old), 0)
  })

  test('before Linux 6.3 some drivers send only while a program is attached natively', () => {
    for (const driver of ['virtio_net', 'i40e', 'ice', 'ixgbe', 'mlx5_core']) {
      assert.equal(egressFlags(nic, { ...old, driver }), EgressFlag.NoRedirect, driver)
      assert.equal(egressFlags(nic, { ...old, driver, attached: 'native' }), 0, driver)
      const generic = EgressFlag.NoRedirect | EgressFlag.Generic
      assert.equal(egressFlags(nic, { ...old, driver, attached: 'generic' }), generic, driver)
    }
  })

  test('nothing is turned round on a veth, and only an end that sleeps is no way out', () => {
    const veth = { ...nic, kind: 'veth' }
    assert.equal(egressFlags(veth, { ...old, peerWakes: true }), EgressFlag.NoTurn)
    assert.equal(egressFlags(veth, old), EgressFlag.NoTurn)
    assert.equal(egressFlags(veth, { ...old, peerWakes: false }), EgressFlag.NoTurn | EgressFlag.NoRedirect)
  })

  test('a frame makes no sense where there is no Ethernet, whatever the driver takes', () => {
    const flags = egressFlags({ ...nic, kind: 'tun', hardware: 65534 }, { ...old, features: FULL })
    assert.equal(flags & EgressFlag.NoEthernet, EgressFlag.NoEthernet)
  })
})

test('the kernel is asked: bridge, macvlan, tun, and a veth whose other end wakes or sleeps', {
  skip: skipWithoutPrivileges,
}, () => {
  enterPrivateNetwork()
  ip('link add eg0 type veth peer name eg1')
  ip('link add br0 type bridge')
  ip('link add mv0 link eg0 type macvlan')
  ip('tuntap add tun0 mode tun')
  for (const name of ['eg0', 'eg1']) ip(`link set ${name} up`)
  const flagsOf = (known = readXdpFeatures()): Record<string, number> => {
    const links = readLinks()
    const flags = readEgress(links, new Map(), new Set(), known)
    return Object.fromEntries(links.all().map(({ name, ifindex }) => [name, flags.get(ifindex) ?? 0]))
  }
  const asleep = {
    lo: 0,
    eg0: EgressFlag.NoTurn | EgressFlag.NoRedirect,
    eg1: EgressFlag.NoTurn | EgressFlag.NoRedirect,
    br0: EgressFlag.NoRedirect,
    mv0: EgressFlag.NoRedirect,
  }
  const { tun0 = 0, ...others } = flagsOf()
  assert.deepEqual(others, asleep)
  assert.equal(tun0 & EgressFlag.NoEthernet, EgressFlag.NoEthernet)
  assert.deepEqual({ ...flagsOf(null), tun0 }, { ...asleep, tun0 }, 'without the netdev family')

  execFileSync('ethtool', ['-K', 'eg1', 'gro', 'on'])
  for (const known of [readXdpFeatures(), null]) {
    const flags = flagsOf(known)
    assert.equal(flags.eg0, EgressFlag.NoTurn)
    assert.equal(flags.eg1, EgressFlag.NoTurn | EgressFlag.NoRedirect)
  }
})
