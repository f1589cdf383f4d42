import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDirector } from '../../../control/rules/director.ts'
import { fixedHost } from '../../../control/rules/host.ts'
import { ip, server, service } from '../support.ts'

const host = fixedHost({
  interfaces: [
    {
      name: 'c0',
      ifindex: 2,
      mac: new Uint8Array(6),
      mtu: 1500,
      up: true,
      addresses: [
        { address: ip('192.0.2.1'), family: 4, prefixLength: 24 },
        { address: ip('192.0.2.100'), family: 4, prefixLength: 32 },
      ],
    },
  ],
})

test('NAT to an address of the director is kept and named as not in force', () => {
  const director = createDirector({ host })
  const virtual = service('tcp 192.0.2.100:80')
  const reasons = (...servers: Parameters<typeof server>[]) =>
    director.unsupported(
      virtual,
      servers.map((words) => server(...words)),
    )
  assert.deepEqual(reasons(['192.0.2.1:8888', { method: 'nat' }]), [
    'NAT to 192.0.2.1:8888, an address of this host: there is no data plane',
  ])
  assert.deepEqual(
    reasons(['192.0.2.100:8080', { method: 'nat' }]).length,
    1,
    'another port is translated, too',
  )
  assert.deepEqual(reasons(['127.0.0.1:80', { method: 'nat' }]), [], 'no loopback interface here')
  assert.deepEqual(reasons(['192.0.2.100:80', { method: 'nat' }]), [], 'nothing to translate')
  assert.deepEqual(reasons(['192.0.2.1:80', { method: 'direct-routing' }]), [])
  assert.deepEqual(reasons(['10.0.2.11:8080', { method: 'nat' }]), [])
})

test('full NAT without an address of the family is kept and named as not in force', () => {
  const director = createDirector({ host })
  const virtual = service('tcp 192.0.2.100:80')
  const reasons = (...words: Parameters<typeof server>) => director.unsupported(virtual, [server(...words)])
  const lacking = ['full NAT has no IPv4 address: pointsman full-nat add ADDRESS']
  assert.deepEqual(reasons('10.0.2.11:8080', { method: 'full-nat' }), lacking)
  assert.deepEqual(
    reasons('192.0.2.1:8888', { method: 'full-nat' }),
    ['NAT to 192.0.2.1:8888, an address of this host: there is no data plane'],
    'to this host it is NAT',
  )
  assert.ok(director.changeFullNat({ add: [{ address: ip('2001:db8::5') }], delete: [] }).ok)
  assert.deepEqual(reasons('10.0.2.11:8080', { method: 'full-nat' }), lacking, 'of another family')
  assert.ok(director.changeFullNat({ add: [{ address: ip('192.0.2.1') }], delete: [] }).ok)
  assert.deepEqual(reasons('10.0.2.11:8080', { method: 'full-nat' }), [])
})
