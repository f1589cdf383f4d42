/** Which addresses and ports full NAT may have, and what is said of those that it may not. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  changedFullNat,
  FULL_NAT_MAX,
  type FullNatAddress,
  fullNatAddress,
  hasFullNat,
} from '../../../control/model/full-nat.ts'
import { USUAL_LOCAL_PORTS } from '../../../net/ports.ts'
import { ip } from '../support.ts'

const ports = (text: string) => {
  const [from = 0, to = 0] = text.split('-').map(Number)
  return { from, to }
}
const said = (address: string, range?: string, local = USUAL_LOCAL_PORTS): string => {
  const request = { address: ip(address), ...(range === undefined ? {} : { ports: ports(range) }) }
  const outcome = fullNatAddress(request, local)
  return outcome.ok ? `${outcome.value.ports.from}-${outcome.value.ports.to}` : outcome.message
}

describe('an address of full NAT', () => {
  test('without ports gets the larger range of those that the host gives to no socket', () => {
    assert.equal(said('10.0.0.5'), '1024-32767')
    assert.equal(said('2001:db8::5'), '1024-32767')
    assert.equal(said('10.0.0.5', undefined, [ports('1024-30000')]), '30001-65535')
    assert.equal(said('10.0.0.5', undefined, []), '1024-65535')
    assert.equal(said('10.0.0.5', undefined, [ports('1024-9999'), ports('20000-65535')]), '10000-19999')
    assert.match(
      said('10.0.0.5', undefined, [ports('1-65535')]),
      /gives all ports .* sysctl -w net\.ipv4\.ip_local_/,
    )
  })

  test('with ports has those, if no socket gets them', () => {
    assert.equal(said('10.0.0.5', '5000-5000'), '5000-5000')
    assert.equal(said('10.0.0.5', '61000-65535'), '61000-65535')
    assert.match(
      said('10.0.0.5', '30000-40000'),
      /Cannot use ports 30000-40000 of 10\.0\.0\.5 .* gives 32768-60999 .*ip_local_reserved_ports=30000-40000/,
    )
    for (const wrong of ['0-5000', '6000-5000', '1024-70000'])
      assert.match(said('10.0.0.5', wrong), new RegExp(`Cannot use ports ${wrong} .* the lower one first`))
  })

  test('is one that a host can have for itself towards others', () => {
    for (const [address, why] of [
      ['0.0.0.0', 'for this host alone'],
      ['127.0.0.1', 'for this host alone'],
      ['224.0.0.1', 'no address of one host'],
      ['255.255.255.255', 'no address of one host'],
      ['::', 'for this host alone'],
      ['::1', 'for this host alone'],
      ['fe80::1', 'for one link alone'],
      ['febf::1', 'for one link alone'],
      ['ff02::1', 'no address of one host'],
    ] as const)
      assert.equal(said(address), `Cannot use ${address} for full NAT: it is ${why}`)
    assert.equal(said('fec0::1'), '1024-32767')
    assert.equal(said('12.7.0.1'), '1024-32767')
  })
})

describe('the list of them', () => {
  const have = (...addresses: string[]): FullNatAddress[] =>
    addresses.map((address) => ({ address: ip(address), ports: ports('1024-32767') }))
  const change = (present: readonly FullNatAddress[], add: string[], remove: string[] = []) =>
    changedFullNat(
      present,
      { add: add.map((address) => ({ address: ip(address) })), delete: remove.map(ip) },
      USUAL_LOCAL_PORTS,
    )

  test('an address that is there gets other ports, and keeps its place', () => {
    const outcome = changedFullNat(
      have('10.0.0.5', '10.0.0.6'),
      { add: [{ address: ip('10.0.0.5'), ports: ports('2000-2999') }], delete: [] },
      USUAL_LOCAL_PORTS,
    )
    assert.deepEqual(outcome.ok && outcome.value, [
      { address: '10.0.0.5', ports: ports('2000-2999') },
      ...have('10.0.0.6'),
    ])
  })

  test('all of a change, or nothing', () => {
    const gone = change(have('10.0.0.5'), ['10.0.0.6'], ['10.0.0.7'])
    assert.deepEqual(
      gone.ok ? '' : gone.message,
      'Cannot delete 10.0.0.7: full NAT does not have it, see pointsman full-nat list',
    )
    assert.equal(change(have('10.0.0.5'), ['10.0.0.6', '127.0.0.1']).ok, false)
  })

  test('so many of each family, and not one more', () => {
    const many = Array.from({ length: FULL_NAT_MAX }, (_, n) => `10.0.1.${n}`)
    assert.ok(change([], [...many, '2001:db8::1']).ok)
    const over = change(have(...many), ['10.0.2.1'])
    assert.match(over.ok ? '' : over.message, /Cannot use 65 IPv4 addresses .* there is room for 64/)
    assert.ok(change(have(...many), ['10.0.2.1'], ['10.0.1.0']).ok, 'in the place of another')
  })

  test('which families have any', () => {
    assert.ok(hasFullNat(have('10.0.0.5'), 4))
    assert.ok(!hasFullNat(have('10.0.0.5'), 6))
    assert.ok(hasFullNat(have('10.0.0.5', '2001:db8::5'), 6))
  })
})
