import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import type { Director } from '../../../control/model/director.ts'
import { createDirector } from '../../../control/rules/director.ts'
import { answer, ip, server, service, serviceId, testHost } from '../support.ts'

const web = service('tcp 10.0.0.1:80')
const web6 = service('tcp [2001:db8::1]:80')

describe('director without a data plane', () => {
  let director: Director
  beforeEach(() => {
    director = createDirector({ host: testHost() })
  })

  test('a service is added once, edited, deleted once', () => {
    assert.equal(answer(director.editService(web)), 'ESRCH')
    assert.equal(answer(director.addService(web)), 'ok')
    assert.equal(answer(director.addService(web)), 'EEXIST')
    assert.equal(answer(director.editService({ ...web, scheduler: 'rr' })), 'ok')
    assert.equal(director.rules()[0]?.service.scheduler, 'rr')
    assert.equal(answer(director.deleteService(web.id)), 'ok')
    assert.equal(answer(director.deleteService(web.id)), 'ESRCH')
  })

  const services: readonly (readonly [string, Parameters<Director['addService']>[0], string])[] = [
    ['an unknown scheduler', { ...web, scheduler: 'nosuch' }, 'ENOENT'],
    ['a scheduler of ours', { ...web, scheduler: 'wrandom' }, 'ok'],
    ['a scheduler named like an object property', { ...web, scheduler: 'constructor' }, 'ENOENT'],
    ['an unknown persistence engine', { ...web, persistenceEngine: 'h323' }, 'ENOENT'],
    ['an IPv6 prefix of 0', { ...web6, netmask: 0 }, 'EINVAL'],
    ['an IPv6 prefix of 129', { ...web6, netmask: 129 }, 'EINVAL'],
    ['a family that is not its address', { ...web, id: { ...web.id, family: 6 } }, 'EAFNOSUPPORT'],
    ['any virtual address', service('udp 224.0.0.1:9'), 'ok'],
    ['scheduler none', { ...web, scheduler: 'none' }, 'ok'],
    ['port 0 without persistence', service('tcp 10.0.0.1:0'), 'ok'],
  ]
  for (const [name, request, want] of services) {
    test(`adding a service with ${name}: ${want}`, () => {
      assert.equal(answer(director.addService(request)), want)
      assert.equal(director.rules().length, want === 'ok' ? 1 : 0)
    })
  }

  test('existence is judged before names', () => {
    director.addService(web)
    assert.equal(answer(director.addService({ ...web, scheduler: 'nosuch' })), 'EEXIST')
    assert.equal(answer(director.editService({ ...web6, scheduler: 'nosuch' })), 'ESRCH')
    assert.equal(answer(director.editService({ ...web, scheduler: 'nosuch' })), 'ENOENT')
  })

  const servers: readonly (readonly [string, ReturnType<typeof server>, string])[] = [
    ['0.0.0.0', server('0.0.0.0:80'), 'EINVAL'],
    ['0.1.2.3', server('0.1.2.3:80'), 'EINVAL'],
    ['multicast', server('224.0.0.1:80'), 'EINVAL'],
    ['limited broadcast', server('255.255.255.255:80'), 'EINVAL'],
    ['broadcast of a local subnet', server('192.168.77.255:80'), 'EINVAL'],
    ['broadcast of a foreign subnet', server('192.168.79.255:80'), 'ok'],
    ['class E', server('240.0.0.1:80'), 'ok'],
    ['loopback', server('127.0.0.1:80'), 'ok'],
    ['an address of this host', server('192.168.77.1:80'), 'ok'],
    ['port 0', server('10.1.0.1:0'), 'ok'],
    ['weight -1', server('10.1.0.1:80', { weight: -1 }), 'ERANGE'],
    ['weight 2^31 - 1', server('10.1.0.1:80', { weight: 2147483647 }), 'ok'],
    ['weight 2^31', server('10.1.0.1:80', { weight: 2147483648 }), 'ERANGE'],
    ['lower threshold without upper', server('10.1.0.1:80', { lowerThreshold: 1 }), 'ERANGE'],
    ['lower above upper', server('10.1.0.1:80', { upperThreshold: 5, lowerThreshold: 10 }), 'ERANGE'],
    ['lower equal to upper', server('10.1.0.1:80', { upperThreshold: 5, lowerThreshold: 5 }), 'ok'],
    ['upper 2^31', server('10.1.0.1:80', { upperThreshold: 2147483648 }), 'EINVAL'],
    ['gue port 0', server('10.1.0.1:80', { tunnel: { type: 'gue', port: 0, checksum: 'none' } }), 'EINVAL'],
    ['another family by nat', server('[2001:db8::2]:80'), 'EINVAL'],
    ['another family by tunnel', server('[2001:db8::2]:80', { method: 'tunnel' }), 'ok'],
    ['another family wins over weight', server('[2001:db8::2]:80', { weight: -1 }), 'EINVAL'],
    ['weight wins over the address', server('0.0.0.0:80', { weight: -1 }), 'ERANGE'],
  ]
  for (const [name, request, want] of servers) {
    test(`adding a real server with ${name}: ${want}`, () => {
      director.addService(web)
      assert.equal(answer(director.addServer(web.id, request)), want)
      assert.equal(director.rules()[0]!.servers.length, want === 'ok' ? 1 : 0)
    })
  }

  const servers6: readonly (readonly [string, string])[] = [
    ['[::]:80', 'EINVAL'],
    ['[::1]:80', 'ok'],
    ['[ff02::1]:80', 'EINVAL'],
    ['[fe80::2]:80', 'EINVAL'],
    ['[fe80::1]:80', 'ok'],
    ['[::ffff:10.1.0.1]:80', 'EINVAL'],
    ['[::10.1.0.1]:80', 'ok'],
    ['[2001:db8::9]:80', 'ok'],
    ['[fec0::1]:80', 'ok'],
  ]
  for (const [text, want] of servers6) {
    test(`adding real server ${text}: ${want}`, () => {
      director.addService(web6)
      assert.equal(answer(director.addServer(web6.id, server(text))), want)
    })
  }

  test('real servers are known by address and port', () => {
    assert.equal(answer(director.addServer(web.id, server('10.1.0.1:80'))), 'ESRCH')
    director.addService(web)
    assert.equal(answer(director.addServer(web.id, server('10.1.0.1:80'))), 'ok')
    assert.equal(answer(director.addServer(web.id, server('10.1.0.1:80', { weight: 5 }))), 'EEXIST')
    assert.equal(answer(director.addServer(web.id, server('10.1.0.1:81'))), 'ok')
    assert.equal(answer(director.editServer(web.id, server('10.1.0.2:80'))), 'ENOENT')
    assert.equal(answer(director.deleteServer(web.id, server('10.1.0.2:80').id)), 'ENOENT')
    assert.equal(answer(director.editServer(web.id, server('10.1.0.1:80', { weight: 7 }))), 'ok')
    assert.deepEqual(
      director.rules()[0]!.servers.map(({ id, weight }) => [id.port, weight]),
      [
        [81, 1],
        [80, 7],
      ],
    )
    assert.equal(answer(director.deleteServer(web.id, server('10.1.0.1:80').id)), 'ok')
    assert.equal(director.rules()[0]!.servers.length, 1)
  })

  test('lists newest first, marks last, edits move nothing', () => {
    for (const text of ['fwmark 1', 'tcp 10.0.0.1:80', 'fwmark6 1', 'udp 10.0.0.1:80', 'fwmark 2']) {
      assert.equal(answer(director.addService(service(text))), 'ok')
    }
    director.editService(service('tcp 10.0.0.1:80', { scheduler: 'rr' }))
    assert.deepEqual(
      director.rules().map(({ service }) => service.id),
      ['udp 10.0.0.1:80', 'tcp 10.0.0.1:80', 'fwmark 2', 'fwmark6 1', 'fwmark 1'].map(serviceId),
    )
  })

  test('a fwmark of IPv4 and one of IPv6 are two services', () => {
    assert.equal(answer(director.addService(service('fwmark 7'))), 'ok')
    assert.equal(answer(director.addService(service('fwmark6 7'))), 'ok')
    assert.equal(answer(director.deleteService(serviceId('fwmark 7'))), 'ok')
    assert.equal(director.rules().length, 1)
  })

  test('a sync daemon and real servers of another family exclude each other', () => {
    const tunnel6 = server('[2001:db8::2]:80', { method: 'tunnel' })
    director.addService(web)
    const start = () => answer(director.startDaemon({ state: 'master', interface: 'eth0', syncId: 0 }))
    assert.equal(start(), 'ok')
    assert.equal(answer(director.addServer(web.id, tunnel6)), 'EINVAL')
    assert.equal(answer(director.stopDaemon('master')), 'ok')
    assert.equal(answer(director.addServer(web.id, tunnel6)), 'ok')
    assert.equal(start(), 'EINVAL')
    director.flush()
    assert.equal(start(), 'ok')
  })

  test('an unknown interface is judged before a running daemon', () => {
    const start = (name: string, state: 'master' | 'backup' = 'backup') =>
      answer(director.startDaemon({ state, interface: name, syncId: 0 }))
    assert.equal(start('eth0'), 'ok')
    assert.equal(start('eth0'), 'EEXIST')
    assert.equal(start('nosuch0'), 'ENODEV')
    assert.equal(start('eth1', 'master'), 'ok')
    assert.equal(answer(director.stopDaemon('master')), 'ok')
    assert.equal(answer(director.stopDaemon('master')), 'ESRCH')
  })

  const daemons = [
    [
      { state: 'master', interface: 'lo' },
      { maxLength: 1472, group: '224.0.0.81', port: 8848, ttl: 1 },
    ],
    [{ state: 'backup', interface: 'lo' }, { maxLength: 65507 }],
    [{ state: 'backup', interface: 'eth0', maxLength: 1 }, { maxLength: 1024 }],
    [{ state: 'master', interface: 'eth0', maxLength: 1400 }, { maxLength: 1400 }],
    [
      { state: 'master', interface: 'eth0', group: ip('ff02::99') },
      { maxLength: 1452, group: 'ff02::99' },
    ],
  ] as const
  for (const [request, want] of daemons) {
    test(`a daemon started with ${JSON.stringify(request)} runs with ${JSON.stringify(want)}`, () => {
      assert.equal(answer(director.startDaemon({ ...request, syncId: 3 })), 'ok')
      const daemon = director.daemons()[0]!
      assert.deepEqual({ ...daemon, ...want }, daemon)
    })
  }

  test('a group that is not multicast is refused', () => {
    const request = { state: 'master', interface: 'eth0', syncId: 0, group: ip('10.0.0.1') } as const
    assert.equal(answer(director.startDaemon(request)), 'EINVAL')
  })

  test('timeout 0 keeps a value, too large ones change nothing', () => {
    assert.equal(answer(director.setTimeouts({ tcp: 100, tcpFin: 0, udp: 30 })), 'ok')
    assert.deepEqual(director.timeouts(), { tcp: 100, tcpFin: 120, udp: 30 })
    assert.equal(answer(director.setTimeouts({ tcp: 5, tcpFin: 8589935, udp: 5 })), 'EINVAL')
    assert.deepEqual(director.timeouts(), { tcp: 100, tcpFin: 120, udp: 30 })
  })

  test('sysctls have the ranges of the kernel', () => {
    assert.equal(answer(director.setSysctl('drop_packet', 3)), 'ok')
    assert.equal(answer(director.setSysctl('drop_packet', 4)), 'EINVAL')
    assert.equal(answer(director.setSysctl('sloppy_tcp', -1)), 'EINVAL')
    assert.equal(answer(director.setSysctl('sync_ports', 3)), 'EINVAL')
    assert.equal(answer(director.setSysctl('toString', 3)), 'ENOENT')
    assert.equal(director.sysctls().drop_packet, 3)
    assert.equal(director.sysctls().conn_reuse_mode, 1)
  })
})
