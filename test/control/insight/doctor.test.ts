import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { diagnosisText, statusText, table } from '../../../control/cli/text.ts'
import { type DoctorFacts, diagnose, type InterfaceFacts } from '../../../control/insight/doctor/checks.ts'
import type { Status } from '../../../control/insight/status.ts'

const status: Status = {
  version: '0.1.0',
  pid: 1,
  startedAt: '2026-11-23T06:00:00.000Z',
  forwarding: true,
  dataplane: {
    kind: 'xdp',
    reason: 'asked for',
    adopted: false,
    program: { name: 'pointsman', id: 7, tag: 'abc' },
    interfaces: [{ name: 'c0', ifindex: 3, mode: 'native' }],
    missing: [],
    warnings: [],
  },
  services: 1,
  realServers: 2,
  connections: { ipv4: 3, ipv6: 0, templates: 0 },
  capacity: {},
  unsupported: [],
  memoryMiB: 90,
}
const off = { receiveChecksum: false, transmitChecksum: false, gro: true, lro: false }
const nic: InterfaceFacts = {
  name: 'c0',
  driver: 'veth',
  up: true,
  mtu: 1500,
  mode: 'native',
  note: null,
  offloads: off,
  peer: { name: 'wire', offloads: off, hasXdp: false },
}
const healthy: DoctorFacts = {
  status,
  unreachable: null,
  verdicts: { forward_nat: 10 },
  kernel: '6.1.0-40-amd64',
  root: true,
  together: true,
  interfaces: [nic],
  servers: [{ address: '10.0.0.1', methods: ['nat'], route: 'ok', mtu: 1500 }],
  virtual: [{ address: '192.0.2.100', local: true }],
  forwarding: { ipv4: true, ipv6: false },
}

describe('doctor', () => {
  test('finds nothing where nothing is wrong', () => {
    const diagnosis = diagnose(healthy)
    assert.deepEqual(
      diagnosis.checks.flatMap(({ findings }) => findings),
      [],
    )
    assert.ok(diagnosis.healthy)
  })

  const traps: readonly (readonly [string, Partial<DoctorFacts>, string, RegExp])[] = [
    [
      'no daemon',
      { status: null, unreachable: 'No pointsmand is running' },
      'failure',
      /pointsmand --interface/,
    ],
    ['not forwarding', { status: { ...status, forwarding: false } }, 'failure', /pointsmand --interface/],
    ['an old kernel', { kernel: '5.10.0-30-amd64' }, 'failure', /userspace/],
    [
      'an interface that is down',
      { interfaces: [{ ...nic, up: false }] },
      'failure',
      /ip link set dev c0 up/,
    ],
    [
      'generic mode',
      { interfaces: [{ ...nic, mode: 'generic', note: 'driver refuses' }] },
      'warning',
      /native/,
    ],
    [
      'LRO',
      { interfaces: [{ ...nic, offloads: { ...off, lro: true } }] },
      'failure',
      /ethtool -K c0 lro off/,
    ],
    [
      'a veth peer that takes no frames',
      { interfaces: [{ ...nic, peer: { name: 'wire', offloads: { ...off, gro: false }, hasXdp: false } }] },
      'failure',
      /ethtool -K wire gro on/,
    ],
    [
      'a veth peer with transmit checksum offload',
      {
        interfaces: [
          { ...nic, peer: { name: 'wire', offloads: { ...off, transmitChecksum: true }, hasXdp: true } },
        ],
      },
      'failure',
      /ethtool -K wire tx off/,
    ],
    [
      'virtio with guest checksums',
      {
        interfaces: [
          { ...nic, driver: 'virtio_net', peer: null, offloads: { ...off, receiveChecksum: true } },
        ],
      },
      'warning',
      /ethtool -K c0 rx off/,
    ],
    ['a bond', { interfaces: [{ ...nic, driver: 'bonding', peer: null }] }, 'warning', /member/],
    [
      'a VLAN device',
      { interfaces: [{ ...nic, driver: '802.1Q VLAN Support', peer: null }] },
      'warning',
      /parent/,
    ],
    [
      'IPv4 forwarding off',
      { forwarding: { ipv4: false, ipv6: true } },
      'failure',
      /sysctl -w net\.ipv4\.ip_forward=1/,
    ],
    [
      'a virtual address nobody answers for',
      { virtual: [{ address: '2001:db8::1', local: false }] },
      'warning',
      /ip addr add 2001:db8::1\/128 dev c0/,
    ],
    [
      'a real server without a route',
      { servers: [{ address: '10.0.0.9', methods: ['nat'], route: 'none', mtu: null }] },
      'failure',
      /ip route add 10\.0\.0\.9/,
    ],
    [
      'a real server that does not answer',
      { servers: [{ address: '10.0.0.9', methods: ['nat'], route: 'unresolved', mtu: null }] },
      'warning',
      /ping 10\.0\.0\.9/,
    ],
    [
      'a tunnel that is too narrow',
      { servers: [{ address: '10.0.0.9', methods: ['tunnel'], route: 'ok', mtu: 1500 }] },
      'warning',
      /mtu 1520/,
    ],
    [
      'a rule that is not in force',
      {
        status: {
          ...status,
          unsupported: [{ service: { fwmark: 7, family: 4 }, reasons: ['firewall marks'] }],
        },
      },
      'warning',
      /ipvsadm -E/,
    ],
    ['a full connection table', { verdicts: { drop_table_full: 3 } }, 'warning', /--connections/],
    [
      'pins that end with the session',
      { status: { ...status, dataplane: { ...status.dataplane, warnings: ['private mount'] } } },
      'warning',
      /nsenter/,
    ],
  ]
  for (const [name, facts, severity, remedy] of traps) {
    test(`${name}: ${severity}, with what mends it`, () => {
      const diagnosis = diagnose({ ...healthy, ...facts })
      const findings = diagnosis.checks.flatMap((check) => check.findings)
      assert.equal(findings.length, 1, JSON.stringify(findings))
      assert.equal(findings[0]!.severity, severity)
      assert.match(findings[0]!.remedy, remedy)
      assert.ok(!diagnosis.healthy)
      assert.match(diagnosisText(diagnosis), /so: .+\n {9}do: /)
    })
  }

  test('forwarding that is off does not matter without NAT of that family', () => {
    const servers = [{ address: '10.0.0.1', methods: ['direct-routing'], route: 'ok', mtu: 1500 } as const]
    assert.ok(diagnose({ ...healthy, servers, forwarding: { ipv4: false, ipv6: false } }).healthy)
  })

  test('what cannot be seen is a note and keeps the status', () => {
    const diagnosis = diagnose({ ...healthy, root: false, interfaces: [{ ...nic, peer: null }] })
    assert.deepEqual(
      diagnosis.checks.flatMap(({ findings }) => findings.map(({ severity }) => severity)),
      ['note', 'note'],
    )
    assert.ok(diagnosis.healthy)
  })
})

describe('what pointsman prints', () => {
  test('columns line up, numbers stand to the right, no line ends in blanks', () => {
    assert.equal(
      table([
        ['a', 1, 'x'],
        ['long', 100, ''],
      ]),
      'a       1  x\nlong  100\n',
    )
  })

  test('status says first whether it forwards', () => {
    assert.match(statusText(status), /^forwarding +yes\n/)
    assert.match(statusText({ ...status, forwarding: false }), /^forwarding +no\n/)
  })
})
