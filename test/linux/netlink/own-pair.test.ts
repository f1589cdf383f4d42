/** The pair of links of own clients: taken for whole only where packets get through. */
import assert from 'node:assert/strict'
import { afterEach, before, describe, test } from 'node:test'
import { MachineError } from '../../../linux/machine-error.ts'
import { findOwnPair, makeOwnPair, OWN_MTU, removeOwnPair } from '../../../linux/netlink/own-pair.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../../dataplane/private-network.ts'

describe('the pair of own clients', { skip: skipWithoutPrivileges }, () => {
  let socket: RequestSocket
  before(() => {
    enterPrivateNetwork()
    socket = new RequestSocket()
  })
  afterEach(() => void removeOwnPair(socket))

  test('is found as it was made', () => {
    assert.deepEqual(makeOwnPair(socket), findOwnPair(socket))
  })

  const left = 'link add pm-serve type veth peer name pm-own'
  for (const [what, commands] of [
    ['whose maker was killed before it was set up', [left]],
    [
      'of two links that do not belong together',
      ['link add pm-own type veth peer name x0', 'link add pm-serve type veth peer name x1'],
    ],
    ['that somebody has set down', ['link set pm-serve down']],
    ['whose other end somebody has set down', ['link set pm-own down']],
    ['that has become narrower', [`link set pm-own mtu ${OWN_MTU - 1}`]],
    ['that has another address', ['link set pm-serve address 02:00:00:00:00:07']],
    ['that has become part of a bridge', ['link add br0 type bridge', 'link set pm-own master br0']],
  ] as const) {
    test(`${what} is no pair, and made anew`, () => {
      if (!commands[0].includes(' add pm-')) makeOwnPair(socket)
      for (const command of commands) ip(command)
      assert.equal(findOwnPair(socket), null)
      const pair = makeOwnPair(socket)
      assert.deepEqual(findOwnPair(socket), pair)
      if (commands[0].includes('bridge')) ip('link del br0')
    })
  }

  test('stays unmade where its name is another link’s, which stays', () => {
    ip('link add name theirs type bridge')
    ip('link property add dev theirs altname pm-own')
    assert.throws(() => makeOwnPair(socket), MachineError)
    assert.match(ip('-br link show theirs'), /^theirs/)
    ip('link del theirs')
  })
})
