/** Interfaces on which XDP would do harm without a word: plain data, and once for real. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { mergingTrap, type Switches, vlanTrap } from '../../../dataplane/kernel/traps.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { Links, readLinks } from '../../../linux/links.ts'
import { link } from '../../linux/plain-link.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../private-network.ts'

/** Those of these names do it, the others do not. */
const only =
  (...names: string[]): Switches =>
  (name) => ({ receiveVlan: names.includes(name), gro: names.includes(name), lro: null })

test('tags taken off in hardware are a trap while VLAN devices are on top', () => {
  const eth0 = link(2, 'eth0')
  const vlan = link(3, 'eth0.7', { kind: 'vlan', lower: 2 })
  assert.match(
    vlanTrap(eth0, new Links([eth0, vlan]), only('eth0'))?.refusal ?? '',
    /^Cannot take packets from eth0: .* packets of eth0\.7 look untagged .*: ethtool -K eth0 rxvlan off, or use --dataplane tc/,
  )
  assert.equal(vlanTrap(eth0, new Links([eth0, vlan]), only()), null)
  assert.equal(vlanTrap(eth0, new Links([eth0]), only('eth0')), null, 'nobody needs the tags')
  const macvlan = link(4, 'vrrp', { kind: 'macvlan', lower: 2 })
  assert.equal(vlanTrap(eth0, new Links([eth0, macvlan]), only('eth0')), null)
})

test('the slave that takes the tags off is named, where VLANs are on the bond', () => {
  const links = [
    link(2, 'eth0', { master: 9 }),
    link(3, 'eth1', { master: 9 }),
    link(9, 'bond0', { kind: 'bond' }),
    link(10, 'bond0.7', { kind: 'vlan', lower: 9 }),
  ]
  assert.match(
    vlanTrap(links[2]!, new Links(links), only('eth1'))?.refusal ?? '',
    /ethtool -K eth1 rxvlan off/,
  )
})

test('merging below is a trap for generic XDP: of a macvlan, a bridge, a VLAN on a bond', () => {
  const eth0 = link(2, 'eth0', { master: 9 })
  const links = new Links([
    eth0,
    link(9, 'bond0', { kind: 'bond' }),
    link(10, 'bond0.7', { kind: 'vlan', lower: 9 }),
    link(11, 'mv', { kind: 'macvlan', lower: 10 }),
  ])
  for (const ifindex of [9, 10, 11]) {
    const found = mergingTrap(links.at(ifindex)!, links, only('eth0'))
    assert.match(found ?? '', /eth0 below it makes one packet of several \(GRO\).*: ethtool -K eth0 gro off/)
    assert.equal(mergingTrap(links.at(ifindex)!, links, only()), null)
  }
  assert.equal(mergingTrap(eth0, links, only('eth0')), null, 'its own is switched off by the kernel')
})

test('generic XDP on a macvlan over an interface with GRO is refused, and the remedy helps', {
  skip: skipWithoutPrivileges,
}, async () => {
  enterPrivateNetwork()
  ip('link add tr0 type veth peer name tr0p')
  ip('link set tr0 up')
  ip('link add tr1 link tr0 type macvlan mode bridge')
  const { execFileSync } = await import('node:child_process')
  const ethtool = (...words: string[]) => execFileSync('ethtool', ['-K', 'tr0', ...words])
  ethtool('gro', 'on')
  const plane = await KernelDataplane.open({
    sizes: { ...SMALL_SIZES, cpus: possibleCpus() },
    pinDirectory: null,
    mode: 'generic',
  })
  try {
    const [refused] = await plane.attach(['tr1'])
    assert.ok(refused !== undefined && 'refused' in refused)
    assert.match(refused.refused, /tr0 below it .*: ethtool -K tr0 gro off, or/)
    assert.doesNotMatch(ip('link show tr1'), /xdp/)
    ethtool('gro', 'off')
    const [attached] = await plane.attach(['tr1'])
    assert.ok(attached !== undefined && 'attached' in attached)
    assert.equal(readLinks().named('tr1')?.kind, 'macvlan')
  } finally {
    await plane.close()
  }
})
