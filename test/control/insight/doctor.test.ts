import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { diagnosisText, statusText, table } from '../../../control/cli/text.ts'
import { diagnose } from '../../../control/insight/doctor/checks.ts'
import type {
  DoctorFacts,
  InterfaceFacts,
  NeighbourDevice,
  ServerFacts,
  WayOut,
} from '../../../control/insight/doctor/facts.ts'
import type { Finding } from '../../../control/insight/doctor/finding.ts'
import type { Status } from '../../../control/insight/status.ts'
import { verdictNames } from '../../../dataplane/layout/layout.gen.ts'

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
    answers: null,
    cutting: null,
    own: null,
    warnings: [],
    sendFailures: { counted: true, why: null, ways: [] },
  },
  services: 1,
  realServers: 2,
  connections: { ipv4: 3, ipv6: 0, templates: 0 },
  capacity: {},
  sources: [],
  pools: [],
  holds: [],
  health: null,
  notInForce: [],
  repairs: {},
  unsupported: [],
  memoryMiB: 90,
}
const off = {
  receiveChecksum: false,
  transmitChecksum: false,
  gro: true,
  lro: false,
  segmentation: false,
  receiveVlan: false,
}
const wire: NeighbourDevice = { name: 'wire', namespace: null, offloads: off, hasXdp: false }
const nic: InterfaceFacts = {
  name: 'c0',
  driver: 'veth',
  kind: 'veth',
  up: true,
  mtu: 1500,
  mode: 'native',
  note: null,
  offloads: off,
  peer: wire,
  below: [],
  mergingBelow: [],
  answersBelow: null,
  vlans: [],
  hasProgram: true,
  unknownMacs: [],
  forwarding: { ipv4: true, ipv6: false },
}
const way: WayOut = {
  name: 'r0',
  kind: '',
  families: ['ipv4'],
  towardsClients: false,
  limit: null,
  peer: null,
}
const server = { address: '10.0.0.1', methods: ['nat'], route: 'ok', wayOut: 'r0', mtu: 1500 } as const
const direct = { ...server, methods: ['direct-routing'] }
const healthy: DoctorFacts = {
  status,
  unreachable: null,
  forbidden: false,
  verdicts: { forward_nat: 10 },
  sysctls: { sloppy_tcp: 1, backup_only: 0 },
  kernel: '6.1.0-40-amd64',
  onlineCpus: 4,
  root: true,
  service: false,
  candidate: 'c0',
  orphaned: false,
  runDirectory: null,
  together: true,
  interfaces: [nic],
  servers: [server],
  serverCount: 1,
  waysOut: [way],
  virtual: [{ address: '192.0.2.100', ports: [80], local: true }],
  fullNat: [{ address: '10.0.2.5', local: true, shared: null, realServer: false, sockets: [] }],
  ownAddresses: 3,
  forwarding: { ipv4: true, ipv6: false },
  claims: null,
  firewall: [],
}

/**
 * A command that can be typed as it stands: a program that a director has, words without a gap to be filled
 * in, perhaps a second command behind the first.
 */
function assertTypable({ remedy }: Finding): void {
  const programs =
    'ip|ethtool|sysctl|pointsman|pointsmand|ipvsadm|nft|iptables|ip6tables|ping|systemctl|nsenter|lsns|findmnt|sudo|apt-get'
  for (const command of remedy.split(' && ')) {
    assert.match(command, new RegExp(`^(${programs})( [-+\\w.:/=@%,]+)*$`), remedy)
    assert.doesNotMatch(command, /(^| )[A-Z][A-Z_]+( |$)/, `a gap to be filled in: ${remedy}`)
    assert.doesNotMatch(command, /\b(the|or|see|once|with a)\b/, `prose: ${remedy}`)
  }
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

  const dataplane = (change: Partial<Status['dataplane']>): Partial<DoctorFacts> => ({
    status: { ...status, dataplane: { ...status.dataplane, ...change } },
  })
  const interfaces = (change: Partial<InterfaceFacts>): Partial<DoctorFacts> => ({
    interfaces: [{ ...nic, ...change }],
  })
  const ofFullNat = (change: Partial<DoctorFacts['fullNat'][number]>): Partial<DoctorFacts> => ({
    fullNat: healthy.fullNat.map((one) => ({ ...one, ...change })),
  })
  const hidden = { name: 'eth0', namespace: 'shop', offloads: off, hasXdp: false }
  const chain = {
    name: 'inet filter input',
    command: 'nft -a list chain inet filter input',
    closed: false,
    rules: [{ text: 'input handle 4', to: null, ports: null, interfaces: null }],
  }
  const traps: readonly (readonly [string, Partial<DoctorFacts>, string, RegExp])[] = [
    [
      'no daemon',
      { status: null, unreachable: 'No pointsmand is running' },
      'failure',
      /^pointsmand --interface c0$/,
    ],
    [
      'an address of full NAT that this host has not got',
      ofFullNat({ local: false }),
      'warning',
      /^ip addr add 10\.0\.2\.5\/32 dev c0$/,
    ],
    [
      'ports of full NAT that the kernel gives to sockets, too',
      ofFullNat({ shared: '30000-32000,40000-40000' }),
      'warning',
      /ip_local_reserved_ports=30000-32000,40000-40000$/,
    ],
    [
      'an address of full NAT that is a real server’s',
      ofFullNat({ realServer: true }),
      'failure',
      /^pointsman full-nat delete 10\.0\.2\.5$/,
    ],
    [
      'an own socket that has a port of full NAT',
      ofFullNat({ sockets: ['tcp 10.0.2.5:5000 to 10.0.2.11:8080'] }),
      'warning',
      /^pointsman full-nat list$/,
    ],
    [
      'no daemon where it is a service',
      { status: null, unreachable: 'No pointsmand is running', service: true },
      'failure',
      /^systemctl restart pointsmand$/,
    ],
    [
      'no daemon, and what it left goes on by its own interfaces',
      { status: null, unreachable: 'No pointsmand is running', orphaned: true },
      'failure',
      /^pointsmand$/,
    ],
    [
      'no daemon in a folder of its own',
      { status: null, unreachable: 'No pointsmand is running', service: true, runDirectory: '/run/lab' },
      'failure',
      /^pointsmand --run-dir \/run\/lab --interface c0$/,
    ],
    [
      'a daemon that does not talk to us',
      { status: null, unreachable: 'permission denied', forbidden: true },
      'failure',
      /^sudo pointsman doctor$/,
    ],
    ['not forwarding', { status: { ...status, forwarding: false } }, 'failure', /pointsmand --interface c0/],
    [
      'an interface that is waited for',
      dataplane({ missing: [{ name: 'd1', state: 'waiting', why: 'No interface "d1"' }] }),
      'failure',
      /^ip -br link$/,
    ],
    ['an old kernel', { kernel: '5.10.0-30-amd64' }, 'failure', /userspace/],
    ['an interface that is down', interfaces({ up: false }), 'failure', /ip link set dev c0 up/],
    ['generic mode', interfaces({ mode: 'generic', note: 'driver refuses' }), 'warning', /native/],
    [
      'an interface that does not run the program (C3, B5)',
      interfaces({ hasProgram: false }),
      'failure',
      /^pointsmand --interface c0$/,
    ],
    [
      'a MAC address that the program does not know (C3, S3)',
      interfaces({ unknownMacs: ['00:00:5e:00:01:33'] }),
      'failure',
      /^pointsmand --interface c0$/,
    ],
    ['LRO', interfaces({ offloads: { ...off, lro: true } }), 'failure', /^ethtool -K c0 lro off$/],
    [
      'VLAN tags taken off by hardware (S10)',
      interfaces({ kind: '', driver: 'igb', offloads: { ...off, receiveVlan: true }, vlans: ['c0.100'] }),
      'failure',
      /^ethtool -K c0 rxvlan off$/,
    ],
    [
      'a way out whose other end sleeps (C4)',
      { servers: [direct], waysOut: [{ ...way, kind: 'veth', limit: 'takes no frames', peer: hidden }] },
      'failure',
      /^ip netns exec shop ethtool -K eth0 gro on$/,
    ],
    [
      'a bridge as way out of direct routing (C4)',
      { servers: [direct], waysOut: [{ ...way, kind: 'bridge', limit: 'takes no frames' }] },
      'failure',
      /^pointsman dataplane userspace$/,
    ],
    [
      'a bridge as way out of NAT (C4)',
      { waysOut: [{ ...way, kind: 'bridge', limit: 'takes no frames' }] },
      'warning',
      /^pointsman dataplane userspace$/,
    ],
    [
      'clients behind an interface that takes no frames, not attached (C4)',
      {
        servers: [],
        waysOut: [{ ...way, name: 'br0', kind: 'bridge', limit: 'takes no frames', towardsClients: true }],
      },
      'failure',
      /^pointsman dataplane userspace$/,
    ],
    [
      'a layer-3 device as way out',
      {
        servers: [{ ...direct, wayOut: 'tun0' }],
        waysOut: [{ ...way, name: 'tun0', kind: 'tun', limit: 'no Ethernet' }],
      },
      'failure',
      /^ip -d link show dev tun0$/,
    ],
    [
      'a veth peer with transmit checksum offload',
      interfaces({ peer: { ...wire, offloads: { ...off, transmitChecksum: true } } }),
      'failure',
      /^ethtool -K wire tx off$/,
    ],
    [
      'the same in a namespace of its own',
      interfaces({ peer: { ...hidden, offloads: { ...off, transmitChecksum: true } } }),
      'failure',
      /^ip netns exec shop ethtool -K eth0 tx off$/,
    ],
    [
      'virtio with guest checksums',
      interfaces({ driver: 'virtio_net', kind: '', peer: null, offloads: { ...off, receiveChecksum: true } }),
      'warning',
      /^ethtool -K c0 rx off$/,
    ],
    [
      'a bridge that packets are taken from',
      interfaces({ kind: 'bridge', driver: 'bridge', peer: null, below: ['wire'] }),
      'warning',
      /^pointsmand --interface wire$/,
    ],
    [
      'a VLAN device that packets are taken from',
      interfaces({ kind: 'vlan', driver: '802.1Q VLAN Support', peer: null }),
      'warning',
      /^pointsman dataplane userspace$/,
    ],
    [
      'IPv4 forwarding off (S4)',
      { forwarding: { ipv4: false, ipv6: true } },
      'failure',
      /^sysctl -w net\.ipv4\.ip_forward=1$/,
    ],
    [
      'forwarding off on one interface (S4)',
      interfaces({ forwarding: { ipv4: false, ipv6: false } }),
      'failure',
      /^sysctl -w net\.ipv4\.conf\.c0\.forwarding=1$/,
    ],
    [
      'the same where its name has a dot',
      interfaces({ name: 'c0.7', forwarding: { ipv4: false, ipv6: false } }),
      'failure',
      /^sysctl -w net\/ipv4\/conf\/c0\.7\/forwarding=1$/,
    ],
    [
      'a virtual address nobody answers for',
      { virtual: [{ address: '2001:db8::1', ports: [80], local: false }] },
      'warning',
      /ip addr add 2001:db8::1\/128 dev c0/,
    ],
    [
      'a real server without a route',
      { servers: [{ ...server, route: 'none', wayOut: null, mtu: null }] },
      'failure',
      /^ip route get 10\.0\.0\.1$/,
    ],
    [
      'a real server that does not answer',
      { servers: [{ ...server, route: 'unresolved', mtu: null }] },
      'warning',
      /^ping -c 3 10\.0\.0\.1$/,
    ],
    [
      'a tunnel that is too narrow',
      { servers: [{ ...server, methods: ['tunnel'] }] },
      'warning',
      /^ip link set dev r0 mtu 1520$/,
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
      /^ipvsadm -Ln$/,
    ],
    [
      'a setting that is kept and not acted on (B20)',
      { sysctls: { backup_only: 1 } },
      'warning',
      /^pointsman set backup_only=0$/,
    ],
    [
      'the table of the userspace plane gone (C6, B9)',
      { ...dataplane({ kind: 'userspace' }), claims: false },
      'failure',
      /^pointsmand --interface c0$/,
    ],
    [
      'rules of the host that see no packet for virtual services (S6)',
      { firewall: [chain] },
      'warning',
      /^nft -a list chain inet filter input$/,
    ],
    [
      'frames that the kernel lost (C4)',
      dataplane({
        sendFailures: {
          counted: true,
          why: null,
          ways: [{ interface: 'r0', error: 'ENXIO', frames: 7 }],
        },
      }),
      'warning',
      /^ip -s link$/,
    ],
    ['a full connection table', { verdicts: { drop_table_full: 3 } }, 'warning', /--connections 2097152$/],
    ['frames that found no way out', { verdicts: { drop_egress: 3 } }, 'warning', /userspace$/],
    ['pins that end with the session', dataplane({ warnings: ['private mount'] }), 'warning', /findmnt/],
  ]
  for (const [name, facts, severity, remedy] of traps) {
    test(`${name}: ${severity}, with what mends it`, () => {
      const diagnosis = diagnose({ ...healthy, ...facts })
      const findings = diagnosis.checks.flatMap((check) => check.findings)
      assert.equal(findings.length, 1, JSON.stringify(findings))
      assert.equal(findings[0]!.severity, severity)
      assert.match(findings[0]!.remedy, remedy)
      assertTypable(findings[0]!)
      assert.ok(!diagnosis.healthy)
      assert.match(diagnosisText(diagnosis), /so: .+\n {9}do: /)
    })
  }

  test('forwarding that is off does not matter to direct routing, nor without real servers of that family', () => {
    assert.ok(diagnose({ ...healthy, servers: [direct], forwarding: { ipv4: false, ipv6: true } }).healthy)
    assert.ok(diagnose({ ...healthy, servers: [], forwarding: { ipv4: false, ipv6: false } }).healthy)
  })

  test('packets merged below generic XDP, whatever it is stacked on (S1)', () => {
    const merging = { name: 'd0', by: ['gro'] } as const
    const below = (kind: string, facts: Partial<InterfaceFacts>): Finding[] =>
      diagnose({ ...healthy, ...interfaces({ kind, mode: 'generic', peer: null, ...facts }) }).checks.flatMap(
        ({ name, findings }) => (name === 'packets merged below generic XDP' ? findings : []),
      )
    for (const kind of ['macvlan', 'vlan', 'bond', 'bridge']) {
      const [finding] = below(kind, { mergingBelow: [merging] })
      assert.equal(finding?.severity, 'failure', kind)
      assert.equal(finding?.remedy, 'ethtool -K d0 gro off')
    }
    assert.deepEqual(below('macvlan', { below: ['d0'] }), [])
    const cutting = { ...wire, offloads: { ...off, segmentation: true } }
    assert.equal(below('veth', { peer: cutting })[0]?.remedy, 'ethtool -K wire tso off gso off')
    assert.deepEqual(below('macvlan', { mode: 'native', mergingBelow: [merging] }), [])
  })

  test('a device below a macvlan that answers ARP for a virtual address of this host', () => {
    const below = (address: string, local: boolean): Finding[] =>
      diagnose({
        ...healthy,
        ...interfaces({ kind: 'macvlan', mode: 'tc', peer: null, answersBelow: 'd0.7' }),
        virtual: [{ address, ports: [80], local }],
      }).checks.flatMap(({ name, findings }) => (name === 'devices below macvlans' ? findings : []))
    const [finding] = below('192.0.2.100', true)
    assert.equal(finding?.severity, 'warning')
    assert.equal(finding?.remedy, 'sysctl -w net.ipv4.conf.d0/7.arp_ignore=1')
    assertTypable(finding!)
    assert.deepEqual(below('192.0.2.100', false), [], 'nobody asks it for an address that is not here')
    assert.deepEqual(below('2001:db8::100', true), [], 'IPv6 answers where an address is')
  })

  test('a NAT real server on this host is what the userspace plane would drop', () => {
    const notes = (dataplane: Partial<Status['dataplane']>, servers: readonly ServerFacts[]): Finding[] =>
      diagnose({
        ...healthy,
        servers,
        status: { ...status, dataplane: { ...status.dataplane, ...dataplane } },
      }).checks.flatMap(({ name, findings }) => (name === 'real servers on this host' ? findings : []))
    const local = { ...server, route: 'local' } as const
    const [finding, ...more] = notes({ kind: 'tc' }, [server, local])
    assert.deepEqual(more, [])
    assert.equal(finding?.severity, 'note')
    assert.match(finding!.consequence, /userspace plane.*resets/)
    assertTypable(finding!)
    assert.deepEqual(notes({ kind: 'tc' }, [{ ...local, methods: ['direct-routing'] }]), [])
    assert.deepEqual(notes({ kind: 'tc' }, [{ ...local, address: '192.0.2.100' }]), [], 'as it came')
    assert.deepEqual(notes({ kind: 'userspace' }, [local]), [], 'said by the rules in force')
  })

  test('a chain that only drops what it does not accept is a note, for nearly every host has one', () => {
    const diagnosis = diagnose({ ...healthy, firewall: [{ ...chain, closed: true, rules: [] }] })
    assert.ok(diagnosis.healthy)
    assert.match(diagnosisText(diagnosis), /note .*inet filter input/)
  })

  test('first packets to neighbours that had to be found are no trouble, many of them are', () => {
    const causes = (drop_next_hop_unresolved: number, forward_nat: number): string[] =>
      diagnose({ ...healthy, verdicts: { drop_next_hop_unresolved, forward_nat } }).checks.flatMap(
        ({ findings }) => findings.map(({ cause }) => cause),
      )
    assert.deepEqual(causes(10, 10), [])
    assert.deepEqual(causes(11, 10), ['Verdict drop_next_hop_unresolved: 11 packets'])
    assert.deepEqual(causes(100, 100_000), [])
    assert.deepEqual(causes(101, 100_000), ['Verdict drop_next_hop_unresolved: 101 packets'])
  })

  test('every remedy of every verdict can be typed', () => {
    const verdicts = Object.fromEntries(Object.values(verdictNames).map((name) => [name, 11]))
    const { checks } = diagnose({ ...healthy, verdicts })
    const findings = checks.flatMap((check) => check.findings)
    assert.ok(findings.length > 8)
    for (const finding of findings) assertTypable(finding)
  })

  test('what cannot be seen is a note and keeps the status', () => {
    const diagnosis = diagnose({
      ...healthy,
      root: false,
      firewall: null,
      serverCount: 600,
      interfaces: [{ ...nic, peer: null }],
    })
    for (const { findings } of diagnosis.checks) findings.forEach(assertTypable)
    assert.deepEqual(
      diagnosis.checks.flatMap(({ findings }) => findings.map(({ severity }) => severity)),
      ['note', 'note', 'note'],
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

  test('counters for CPUs that never come: told by their memory (S16)', () => {
    const told = (cpus: number, online: number): readonly Finding[] =>
      diagnose({
        ...healthy,
        onlineCpus: online,
        status: { ...status, capacity: { reals: 131_072, cpus } },
      }).checks.find(({ name }) => name === 'memory of counters')?.findings ?? []
    assert.deepEqual(told(64, 64), [], 'each of them counts')
    assert.deepEqual(told(8, 2), [])
    const [finding] = told(240, 4)
    assert.equal(finding?.severity, 'warning')
    assert.match(finding.cause, /rows for 240 CPUs, and 4 run/)
    assert.match(finding.consequence, /^1888 MiB/)
    assert.equal(finding.remedy, 'pointsman detach && pointsmand --interface c0')
    assertTypable(finding)
  })

  test('status says first whether it forwards', () => {
    assert.match(statusText(status), /^forwarding +yes\n/)
    assert.match(statusText({ ...status, forwarding: false }), /^forwarding +no\n/)
  })
})
