/** Events of the kernel as they come: by the thousand. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import type { NetlinkMessage } from '../../../linux/netlink/message.ts'
import { decodePrefix, Group, Rtm } from '../../../linux/netlink/rtnetlink.ts'
import { EventSocket } from '../../../linux/netlink/socket.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, until } from '../../dataplane/private-network.ts'

const ROUTES = 5000
const prefixes = Array.from({ length: ROUTES }, (_, i) => `198.18.${i >> 8}.${i & 255}`)

function storm(verb: 'add' | 'del'): void {
  const lines = prefixes.map((prefix) => `route ${verb} ${prefix}/32 dev u0`)
  execFileSync('ip', ['-batch', '-'], { input: lines.join('\n') })
}

test('a storm of events comes whole and in order, and leaves others their turns', {
  skip: skipWithoutPrivileges,
}, async () => {
  enterPrivateNetwork()
  ip('link add u0 type veth peer name u1')
  ip('addr add 10.0.0.1/24 dev u0')
  for (const name of ['u0', 'u1']) ip(`link set ${name} up`)
  const heard: NetlinkMessage[] = []
  let turns = 0
  const others = setInterval(() => turns++, 1)
  const socket = new EventSocket(
    [Group.IPV4_ROUTE],
    (messages) => {
      heard.push(...messages)
      // Slower than the kernel: what is handled in one go must not be all there is.
      const end = performance.now() + 1
      while (performance.now() < end);
    },
    () => assert.fail('events were lost'),
  )
  try {
    storm('add')
    storm('del')
    await until(() => heard.length >= 2 * ROUTES, `all to be heard: ${heard.length}`)
  } finally {
    socket.close()
    clearInterval(others)
  }
  assert.ok(turns > 20, `others had ${turns} turns`)
  const told = heard.map((message) => {
    const { bytes = [], length } = decodePrefix(message) ?? {}
    return `${message.type === Rtm.NEWROUTE ? 'add' : 'del'} ${[...bytes].join('.')}/${length}`
  })
  const wanted = ['add', 'del'].flatMap((verb) => prefixes.map((prefix) => `${verb} ${prefix}/32`))
  assert.deepEqual(told, wanted)
})

test('lost events are told when those that follow are heard again', {
  skip: skipWithoutPrivileges,
}, async () => {
  enterPrivateNetwork()
  ip('link add u0 type veth peer name u1')
  for (const name of ['u0', 'u1']) ip(`link set ${name} up`)
  let [lost, last] = [0, '']
  const socket = new EventSocket(
    [Group.IPV4_ROUTE],
    (messages) => {
      last = [...(decodePrefix(messages.at(-1)!)?.bytes ?? [])].join('.')
    },
    () => lost++,
  )
  try {
    // Nobody listens meanwhile; a storm of this size does not fit.
    for (let i = 0; i < 6; i++) {
      storm('add')
      storm('del')
    }
    await until(() => lost > 0, 'the loss to be told')
    ip('route add 203.0.113.1/32 dev u0')
    await until(() => last === '203.0.113.1', 'what comes later to be heard')
  } finally {
    socket.close()
  }
})
