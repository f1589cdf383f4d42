import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { interfaceFacts } from '../../../control/insight/doctor/devices.ts'
import type { InterfaceFacts } from '../../../control/insight/doctor/facts.ts'
import type { Status } from '../../../control/insight/status.ts'
import { readLinks } from '../../../linux/links.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../../dataplane/private-network.ts'

const skip = skipWithoutPrivileges
const NAME = `pmdoc${process.pid}`
if (skip === false) {
  enterPrivateNetwork()
  ip(`netns add ${NAME}`)
}
after(() => {
  if (skip === false) ip(`netns del ${NAME}`)
})

function factsOf(name: string): InterfaceFacts {
  const links = readLinks()
  const status = {
    dataplane: {
      kind: 'xdp',
      program: null,
      interfaces: [{ name, ifindex: links.named(name)!.ifindex, mode: 'generic' }],
    },
  } as unknown as Status
  return interfaceFacts(status, links)[0]!
}

test('an interface is never taken for its own peer, though both ends have the same index', { skip }, () => {
  ip(`link add rb0 index 77 type veth peer name far netns ${NAME} index 77`)
  execFileSync('ip', ['netns', 'exec', NAME, 'ethtool', '-K', 'far', 'tx', 'off', 'gro', 'on'])
  const { peer } = factsOf('rb0')
  assert.equal(peer?.name, 'far')
  assert.equal(peer.namespace, NAME)
  assert.equal(peer.offloads.transmitChecksum, false)
  assert.equal(peer.offloads.gro, true)
})

test('what lies below a stacked device is told, and what merges packets there, however far down', {
  skip,
}, () => {
  ip('link add d0 type veth peer name d0p')
  ip('link add mv0 link d0 type macvlan')
  execFileSync('ethtool', ['-K', 'd0', 'gro', 'on'])
  const { below, mergingBelow, kind, answersBelow } = factsOf('mv0')
  assert.equal(answersBelow, 'd0')
  assert.equal(kind, 'macvlan')
  assert.deepEqual(below, ['d0'])
  assert.deepEqual(mergingBelow, [{ name: 'd0', by: ['gro'] }])
  writeFileSync('/proc/sys/net/ipv4/conf/d0/arp_ignore', '1')
  assert.equal(factsOf('mv0').answersBelow, null)
  ip('link add br0 type bridge')
  ip('link set mv0 master br0')
  const bridge = factsOf('br0')
  assert.deepEqual(bridge.below, ['mv0'])
  assert.deepEqual(bridge.mergingBelow, [{ name: 'd0', by: ['gro'] }])
  assert.equal(factsOf('d0').peer?.name, 'd0p')
})
