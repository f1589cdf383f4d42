/** Refusals: in words for every trap, and as this kernel really utters them. */
import assert from 'node:assert/strict'
import test, { after } from 'node:test'
import { KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { explainRefusal } from '../../../dataplane/kernel/xdp.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { Errno } from '../../../linux/libc.ts'
import { skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../private-network.ts'
import { TinyPrograms } from './tiny-program.ts'

type Refusal = Parameters<typeof explainRefusal>[0]
const base: Refusal = {
  device: { name: 'eth0', driver: 'virtio_net', kind: '', mtu: 1500 },
  mode: 'native',
  errno: Errno.EOPNOTSUPP,
  message: '',
  occupant: null,
}

const cases: { name: string; refusal: Partial<Refusal>; want: RegExp }[] = [
  {
    name: 'missing privileges',
    refusal: { errno: Errno.EPERM },
    want: /Operation not permitted \(errno 1\); it takes CAP_NET_ADMIN and CAP_BPF/,
  },
  {
    name: 'a program of somebody else',
    refusal: { errno: Errno.EBUSY, occupant: 'program 12 (firewall)' },
    want: /program 12 \(firewall\) is attached there: .*ip link set dev eth0 xdp off$/,
  },
  {
    name: 'a VLAN device',
    refusal: { device: { name: 'eth0.5', driver: '802.1Q VLAN Support', kind: 'vlan', mtu: 1500 } },
    want: /eth0\.5 is a VLAN device, .*use --dataplane tc/,
  },
  {
    name: 'a macvlan',
    refusal: { device: { name: 'vrrp51', driver: 'macvlan', kind: 'macvlan', mtu: 1500 } },
    want: /vrrp51 is a macvlan, .*give pointsmand the interface below it/,
  },
  {
    name: 'a bond',
    refusal: { device: { name: 'bond0', driver: 'bonding', kind: 'bond', mtu: 1500 } },
    want: /bond0 is a bond, and a member has no native XDP/,
  },
  {
    name: 'virtio with merged receives',
    refusal: { message: "Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first" },
    want: /"Can't set XDP .*"; switch off offloads .*ethtool -K eth0 lro off rx-gro-hw off/,
  },
  {
    name: 'virtio without spare queues',
    refusal: { errno: 12, message: 'Too few free TX rings available' },
    want: /"Too few free TX rings available"; give it spare transmit queues: ethtool -L eth0 combined/,
  },
  {
    name: 'a large MTU',
    refusal: {
      device: { name: 'eth0', driver: 'virtio_net', kind: '', mtu: 9000 },
      errno: 22,
      message: 'MTU too large to enable XDP',
    },
    want: /lower the MTU \(it is 9000\): ip link set dev eth0 mtu 1500/,
  },
  {
    name: 'a veth whose peer has a large MTU',
    refusal: { errno: 34, message: 'Peer MTU is too large to set XDP' },
    want: /ip link set dev the peer of eth0 mtu 1500/,
  },
  {
    name: 'a driver without XDP',
    refusal: { message: 'Underlying driver does not support XDP in native mode' },
    want: /driver virtio_net cannot or will not run XDP itself: use --dataplane tc/,
  },
  { name: 'a kernel without any XDP', refusal: { mode: 'generic' }, want: /use --dataplane tc/ },
]
for (const { name, refusal, want } of cases) {
  test(`refusal: ${name} is explained with what mends it`, () => {
    const text = explainRefusal({ ...base, ...refusal })
    assert.match(text, /^Cannot attach to \S+ in (native|generic) XDP mode: /)
    assert.match(text, want)
  })
}

const skip = skipWithoutPrivileges || skipWithoutClang
const programs = new TinyPrograms()
after(() => programs.remove())
if (!skip) {
  enterPrivateNetwork()
  ip('link add xa-parent type veth peer name xa-far')
  ip('tuntap add xa-tun mode tun')
}

async function refusalOf(name: string, mode: 'native' | 'generic' | 'auto'): Promise<string> {
  const plane = await KernelDataplane.open({
    sizes: { ...SMALL_SIZES, cpus: possibleCpus() },
    pinDirectory: null,
    objectPath: programs.compile(3),
    mode,
  })
  try {
    for (const result of await plane.attach([name])) if ('refused' in result) return result.refused
  } finally {
    await plane.close()
  }
  throw new assert.AssertionError({ message: `${name} was attached` })
}

test('refusal: a macvlan is not called a VLAN device', { skip }, async () => {
  ip('link add xa-vrrp link xa-parent type macvlan mode bridge')
  assert.match(await refusalOf('xa-vrrp', 'native'), /; xa-vrrp is a macvlan, /)
})

for (const mode of ['native', 'auto', 'generic'] as const) {
  test(`refusal: no packets can be taken from loopback or a layer-3 device (${mode})`, { skip }, async () => {
    assert.match(await refusalOf('lo', mode), /^Cannot take packets from lo: it is the loopback interface/)
    assert.match(
      await refusalOf('xa-tun', mode),
      /^Cannot take packets from xa-tun: it is a layer-3 device \(tun\), its packets have no Ethernet header/,
    )
  })
}

test('refusal: the kernel names its reason for a device without native XDP', { skip }, async () => {
  ip('link add xa-bridge type bridge')
  assert.match(
    await refusalOf('xa-bridge', 'native'),
    /^Cannot attach to xa-bridge in native XDP mode: Operation not supported \(errno 95\), "Underlying driver does not support XDP in native mode"; xa-bridge is a bridge, .*give pointsmand its member interfaces/,
  )
})

test('refusal: an occupied interface names the program, in every mode', { skip }, async () => {
  ip('link add xa0 type veth peer name xa0p')
  ip(`link set dev xa0 xdp obj ${programs.compile(5)} sec xdp`)
  for (const mode of ['native', 'auto', 'generic'] as const) {
    assert.match(await refusalOf('xa0', mode), /program \d+ \(pointsman\) is attached there/, mode)
  }
  ip('link set dev xa0 xdp off')
})

test('refusal: veth says that its peer has too large an MTU', { skip }, async () => {
  ip('link add xa1 type veth peer name xa1p')
  ip('link set xa1p mtu 60000')
  const text = await refusalOf('xa1', 'native')
  assert.match(text, /"[^"]*MTU[^"]*"; lower the MTU/i)
})

test('refusal: the question for the reason leaves nothing attached', { skip }, async () => {
  ip('link add xa2 type veth peer name xa2p')
  ip('link set xa2p mtu 60000')
  await refusalOf('xa2', 'native')
  assert.doesNotMatch(ip('link show xa2'), /xdp/)
})
