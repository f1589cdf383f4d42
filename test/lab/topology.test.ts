import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allRules, describe } from '../../lab/rules.ts'
import { hostNamed, realServers, topology, WIRES } from '../../lab/topology.ts'

test('every address and MAC address of the lab belongs to one host', () => {
  const stations = topology.hosts.flatMap((host) => WIRES.flatMap((wire) => host[wire] ?? []))
  const all = [
    ...stations.flatMap(({ ipv4, ipv6, mac }) => [ipv4, ipv6, mac]),
    ...Object.values(topology.virtual).flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]),
  ]
  assert.equal(new Set(all).size, all.length)
})

test('the lab has one client, one director and three real servers on both wires', () => {
  assert.equal(hostNamed('client').role, 'client')
  assert.equal(hostNamed('director').role, 'director')
  assert.deepEqual(
    realServers().map(({ name }) => name),
    ['rs1', 'rs2', 'rs3'],
  )
})

test('rules of a NAT service map the port, those of the others keep it', () => {
  const nat = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' } as const
  assert.deepEqual(allRules(nat).slice(0, 2), [
    '-A -t 192.0.2.100:80 -s rr',
    '-a -t 192.0.2.100:80 -r 10.0.2.11:8080 -m -w 1',
  ])
  const tunnel = { method: 'tunnel', protocol: 'udp', family: 'ipv4', serverFamily: 'ipv6' } as const
  assert.equal(allRules(tunnel)[1], '-a -u 192.0.2.102:7 -r [2001:db8:2::11]:7 -i -w 1')
  assert.equal(describe(tunnel), 'tunnel, ipv4 in ipv6, udp')
})
