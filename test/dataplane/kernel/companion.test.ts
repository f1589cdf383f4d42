/** Programs beside the packet program, which see what that does not, by links and by filters. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import test, { after } from 'node:test'
import type { Sizes } from '../../../dataplane/dataplane.ts'
import { detachPinned, KernelDataplane, type KernelOptions } from '../../../dataplane/kernel/plane.ts'
import { dropFilter, filterProgram } from '../../../dataplane/kernel/tc.ts'
import { PM_VERDICT_MAX } from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { defaultPinDirectory } from '../../../linux/bpffs.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { libbpf } from '../../../linux/libbpf.ts'
import { Errno } from '../../../linux/libc.ts'
import { readLinks } from '../../../linux/links.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, until } from '../private-network.ts'
import { TinyPrograms } from './tiny-program.ts'

const skip = skipWithoutPrivileges || skipWithoutClang
const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const lastRow = (sizes.cpus - 1) * PM_VERDICT_MAX
const programs = new TinyPrograms()

if (!skip) {
  enterPrivateNetwork()
  // The kernel sends nothing of its own accord then.
  writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1')
  ip('link add out0 type veth peer name out0p')
  ip('link add out1 type veth peer name out1p')
  for (const name of ['out0', 'out0p', 'out1', 'out1p']) ip(`link set ${name} up`)
}

after(() => {
  programs.remove()
  if (!skip) detachPinned()
})

/** Counts as 3 what comes, and as `out` what leaves. */
function options(out: number, tcLinks: boolean): KernelOptions {
  return {
    ...{ sizes, tcLinks, mode: 'native' },
    objectPath: programs.compile(3),
    outObjectPath: programs.compile(out, undefined, 'out'),
    cutObjectPath: programs.compile(out, undefined, 'cut'),
  }
}

/** How many of a frame sent by the host, out of this interface, were counted as this verdict. */
function counted(plane: KernelDataplane, name: string, verdict: number): bigint {
  const { u64 } = plane.map('verdicts')
  const before = Atomics.load(u64, lastRow + verdict)
  const socket = new PacketSocket(name)
  socket.send(new Uint8Array(60).fill(0xff))
  socket.close()
  // A frame has passed the egress when `send` returns.
  return Atomics.load(u64, lastRow + verdict) - before
}

function pinned(): string[] {
  const directory = defaultPinDirectory()
  if (!existsSync(directory)) return []
  return readdirSync(directory).filter((name) => /out|cut/.test(name) && !/^object/.test(name))
}

function ifindex(name: string): number {
  return readLinks().named(name)!.ifindex
}

const ENDS = ['out0', 'out0p', 'out1', 'out1p']

for (const [by, tcLinks] of [
  ['links', true],
  ['filters, before Linux 6.6', false],
] as const) {
  test(`by ${by}: nothing is there that nobody wants, and nothing is left`, { skip }, async () => {
    const plane = await KernelDataplane.open(options(6, tcLinks))
    try {
      await plane.attach(['out0'])
      assert.equal(plane.answers(), null)
      assert.deepEqual(pinned(), [])
      assert.equal(counted(plane, 'out1', 6), 0n)
      plane.seeAnswers(true)
      assert.deepEqual([...plane.answers()!.interfaces].sort(), ENDS)
      assert.deepEqual(plane.answers()!.refused, [])
      for (const name of ['out0', 'out1']) assert.equal(counted(plane, name, 6), 1n, name)
      plane.seeAnswers(true)
      assert.equal(counted(plane, 'out1', 6), 1n, 'once, however often it is asked for')
      plane.seeAnswers(false)
      assert.equal(plane.answers(), null)
      assert.deepEqual(pinned(), [])
      assert.equal(counted(plane, 'out1', 6), 0n)
      plane.seeAnswers(true)
    } finally {
      await plane.detach()
      await plane.close()
    }
    assert.deepEqual(pinned(), [])
    assert.equal(filterProgram(ifindex('out1'), 'egress'), 0)
    assert.doesNotMatch(ip('link show out1'), /clsact/)
  })

  test(`by ${by}: links that come, and one that lost it, are seen with the next look`, { skip }, async () => {
    const plane = await KernelDataplane.open(options(6, tcLinks))
    try {
      plane.seeAnswers(true)
      ip('link add out2 type veth peer name out2p')
      ip('link set out2p up')
      ip('link set out2 up')
      await plane.attach(['out0'])
      assert.equal(counted(plane, 'out2', 6), 1n)
      if (!tcLinks) {
        dropFilter(ifindex('out1'), 'egress')
        await plane.attach(['out0'])
        assert.equal(counted(plane, 'out1', 6), 1n, 'put back')
      }
      ip('link add name outbr type bridge')
      ip('link set out2 master outbr')
      await plane.attach(['out0'])
      const { interfaces } = plane.answers()!
      assert.equal(interfaces.includes('out2'), false, 'what is part of a bridge sends nothing by itself')
      assert.equal(interfaces.includes('outbr'), true)
    } finally {
      await plane.detach()
      await plane.close()
      for (const { name } of readLinks().all()) if (/^out(2|br)$/.test(name)) ip(`link del ${name}`)
    }
  })

  test(`by ${by}: it outlives its process, and another build takes it over`, { skip }, async () => {
    const first = await KernelDataplane.open(options(6, tcLinks))
    await first.attach(['out0'])
    first.seeAnswers(true)
    await first.close()
    const plane = await KernelDataplane.open(options(7, tcLinks))
    try {
      assert.deepEqual([...plane.answers()!.interfaces].sort(), ENDS)
      assert.equal(counted(plane, 'out1', 7), 1n)
      assert.equal(counted(plane, 'out1', 6), 0n)
      assert.deepEqual(
        plane.interfaces().map(({ name }) => name),
        ['out0'],
        'packets are taken from none that only sends',
      )
    } finally {
      await plane.detach()
      await plane.close()
    }
    assert.deepEqual(pinned(), [])
  })
}

for (const [by, tcLinks] of [
  ['links', true],
  ['filters, before Linux 6.6', false],
] as const) {
  test(`by ${by}: what cuts is beside XDP once there is a tunnel, and goes with it`, { skip }, async () => {
    const plane = await KernelDataplane.open(options(6, tcLinks))
    try {
      await plane.attach(['out0', 'out1'])
      plane.cutLarger(false, false)
      assert.equal(plane.cutting(), null)
      assert.deepEqual(pinned(), [])
      plane.cutLarger(true, false)
      assert.deepEqual([...plane.cutting()!.interfaces].sort(), ['out0', 'out1'])
      // What out0p sends comes to out0: XDP counts it first.
      assert.equal(counted(plane, 'out0p', 6), 1n)
      plane.cutLarger(false, false)
      assert.equal(counted(plane, 'out0p', 6), 1n, 'what is marked already needs it')
      await plane.attach(['out1'])
      assert.deepEqual(plane.cutting()!.interfaces, ['out1'])
      assert.equal(counted(plane, 'out0p', 6), 0n)
      plane.choose('tc')
      await plane.attach(['out1'])
      assert.equal(plane.cutting(), null, 'traffic control cuts by itself')
      assert.deepEqual(pinned(), [])
      plane.choose('native')
      await plane.attach(['out1'])
      plane.cutLarger(true, false)
      assert.deepEqual(plane.cutting()!.interfaces, ['out1'])
    } finally {
      await plane.detach()
      await plane.close()
    }
    assert.deepEqual(pinned(), [])
    assert.equal(filterProgram(ifindex('out1'), 'beside'), 0)
    assert.doesNotMatch(ip('link show out1'), /clsact/)
  })

  test(`by ${by}: what cuts is loaded beside other work where that is wanted, unless nobody waits for it`, {
    skip,
  }, async () => {
    const plane = await KernelDataplane.open({ ...options(6, tcLinks), loadsLater: true })
    try {
      await plane.attach(['out0'])
      plane.cutLarger(true, false)
      plane.cutLarger(true, false)
      assert.equal(plane.cutting(), null)
      await until(() => plane.cutting() !== null, 'what cuts is loaded')
      assert.deepEqual(plane.cutting()!.interfaces, ['out0'])
      assert.equal(counted(plane, 'out0p', 6), 1n)
    } finally {
      await plane.detach()
      await plane.close()
    }
    assert.deepEqual(pinned(), [])
    const hasty = await KernelDataplane.open({ ...options(6, tcLinks), loadsLater: true })
    await hasty.attach(['out0'])
    hasty.cutLarger(true, false)
    await hasty.detach()
    await hasty.close()
    // Whoever is still being loaded comes too late to be pinned.
    const next = await KernelDataplane.open({ ...options(7, tcLinks), loadsLater: true })
    try {
      await next.attach(['out0'])
      next.cutLarger(true, false)
      await until(() => next.cutting() !== null, 'what cuts is loaded')
    } finally {
      await next.detach()
      await next.close()
    }
    assert.deepEqual(pinned(), [])
  })

  test(`by ${by}: what cuts is there once a way is narrower, and outlives its process`, {
    skip,
  }, async () => {
    const first = await KernelDataplane.open(options(6, tcLinks))
    await first.attach(['out0'])
    first.cutLarger(false, false)
    assert.equal(first.cutting(), null)
    ip('link set out1 mtu 1400')
    first.cutLarger(false, false)
    assert.deepEqual(first.cutting()!.interfaces, ['out0'])
    await first.close()
    ip('link set out1 mtu 1500')
    const plane = await KernelDataplane.open(options(7, tcLinks))
    try {
      assert.deepEqual(plane.cutting()!.interfaces, ['out0'])
      assert.equal(counted(plane, 'out0p', 7), 1n)
      assert.equal(counted(plane, 'out0p', 6), 0n)
    } finally {
      await plane.detach()
      await plane.close()
    }
    assert.deepEqual(pinned(), [])
  })
}

test('a program that the kernel refuses is not tried again at once, whenever something changes', {
  skip,
}, async (t) => {
  const plane = await KernelDataplane.open({ ...options(6, true), loadsLater: true })
  try {
    await plane.attach(['out0'])
    const load = t.mock.method(libbpf(), 'bpf_object__load', () => -Errno.EINVAL)
    plane.seeAnswers(true)
    for (let i = 0; i < 3; i++) {
      await plane.attach(['out0'])
      assert.match(plane.answers()!.refused.join(), /Cannot load/)
      assert.equal(load.mock.callCount(), 1)
    }
    load.mock.restore()
    plane.seeAnswers(false)
    plane.seeAnswers(true)
    assert.equal(plane.answers()!.seen, true, 'who wants it anew is not kept waiting')
  } finally {
    await plane.detach()
    await plane.close()
  }
})

test('an earlier build goes on with what stands beside it, if the kernel refuses that of the next one', {
  skip,
}, async () => {
  const first = await KernelDataplane.open(options(6, true))
  await first.attach(['out0'])
  first.cutLarger(true, false)
  await first.close()
  const plane = await KernelDataplane.open({ ...options(6, true), cutObjectPath: '/nowhere/cut.o' })
  try {
    await plane.attach(['out0'])
    assert.deepEqual(plane.cutting()!.interfaces, ['out0'])
    assert.equal(counted(plane, 'out0p', 6), 1n)
    assert.match(plane.warnings.join(), /of cut is still that of an earlier build: .*nowhere\/cut\.o/)
  } finally {
    await plane.detach()
    await plane.close()
  }
  assert.deepEqual(pinned(), [])
})

/** Each frame counts on in a map that programs of a build share, and leaves what that says as verdict 3. */
function counting(by: number): (source: string) => string {
  return (source) =>
    source
      .replace(
        'const volatile',
        `struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
	__type(value, __u64); } gather_rows SEC(".maps");\nconst volatile`,
      )
      .replace(
        '__sync_fetch_and_add(count, 1);',
        `{ __u32 zero = 0; __u64 *n = bpf_map_lookup_elem(&gather_rows, &zero);
		if (n) { *n += ${by}; *count = *n; } }`,
      )
}

test('programs of a build share what they keep of datagrams, also with the next process; another begins anew', {
  skip,
}, async () => {
  const objects = (by: number): KernelOptions => ({
    ...options(6, true),
    objectPath: programs.compileSource(`xdp-by-${by}`, counting(by)),
    outObjectPath: programs.compileSource(`out-by-${by}`, counting(by), 'out'),
  })
  const told: bigint[] = []
  for (const [by, from] of [
    [1, ['out0p', 'out0']],
    [1, ['out0p', 'out0']],
    [10, ['out0', 'out0p']],
  ] as const) {
    const plane = await KernelDataplane.open(objects(by))
    try {
      await plane.attach(['out0'])
      plane.seeAnswers(true)
      for (const name of from) {
        counted(plane, name, 3)
        told.push(plane.map('verdicts').u64[lastRow + 3]!)
      }
      if (by === 10) await plane.detach()
    } finally {
      await plane.close()
    }
  }
  // What comes by out0p leaves there, too.
  assert.deepEqual(told, [2n, 3n, 5n, 6n, 10n, 30n])
})

test('an object that the kernel refuses keeps no packet from being taken, and is named', {
  skip,
}, async () => {
  const plane = await KernelDataplane.open({ ...options(6, true), outObjectPath: '/nowhere/out.o' })
  try {
    plane.seeAnswers(true)
    const results = await plane.attach(['out0'])
    assert.equal('attached' in results[0]!, true)
    const { seen, interfaces, refused } = plane.answers()!
    assert.deepEqual([seen, interfaces], [false, []])
    assert.match(refused.join(), /nowhere\/out\.o/)
  } finally {
    await plane.detach()
    await plane.close()
  }
})
