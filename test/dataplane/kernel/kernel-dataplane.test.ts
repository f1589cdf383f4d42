/** The kernel host against the running kernel, in a network namespace of its own. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readlinkSync, rmSync, symlinkSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Sizes } from '../../../dataplane/dataplane.ts'
import { listInterfaces } from '../../../dataplane/interface-table.ts'
import { linkInfo } from '../../../dataplane/kernel/object-info.ts'
import { pinnedSizes } from '../../../dataplane/kernel/pinned-program.ts'
import { Pins } from '../../../dataplane/kernel/pins.ts'
import { detachPinned, KernelDataplane, type KernelOptions } from '../../../dataplane/kernel/plane.ts'
import { testRun, XdpAction } from '../../../dataplane/kernel/test-run.ts'
import {
  InterfaceRecord,
  MAP_NAMES,
  PM_ANSWER_BUCKETS,
  PM_CALL_IDS,
  PM_EGRESSES,
  PM_FRAGMENTS,
  PM_FULL_NATS,
  PM_INTEREST_WORDS,
  PM_LAYOUT_VERSION,
  PM_LOCALITIES,
  PM_MARK_BUCKETS,
  PM_MARK_KINDS,
  PM_MARK_RULES,
  PM_MARK_SPANS,
  PM_NEIGHBOURS,
  PM_SOURCES,
  PM_VERDICT_MAX,
  PM_WAYS,
  RealRecord,
  SettingsRecord,
  Verdict,
} from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { defaultPinDirectory, makePinDirectory } from '../../../linux/bpffs.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { libbpf, need, needPointer } from '../../../linux/libbpf.ts'
import { libc } from '../../../linux/libc.ts'
import { Links, readLinks } from '../../../linux/links.ts'
import { MachineError } from '../../../linux/machine-error.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, until } from '../private-network.ts'
import type { DirectorRequest } from './director-process.ts'
import { TinyPrograms } from './tiny-program.ts'

const realObject = fileURLToPath(new URL('../../../dist/pointsman.bpf.o', import.meta.url))
const skip = skipWithoutPrivileges || skipWithoutClang || skipWithoutBpf()
const skipReal = skip || (existsSync(realObject) ? false : 'needs dist/pointsman.bpf.o: npm run build')

function skipWithoutBpf(): string | false {
  try {
    possibleCpus()
    return false
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const lastRow = (sizes.cpus - 1) * PM_VERDICT_MAX
const frame = new Uint8Array(60).fill(0xff)
const programs = new TinyPrograms()
const children: ChildProcess[] = []

if (!skip) {
  enterPrivateNetwork()
  ip('link add kh0 type veth peer name kh0p')
  ip('link add kh1 type veth peer name kh1p')
  for (const name of ['kh0', 'kh0p', 'kh1', 'kh1p']) ip(`link set ${name} up`)
}

after(async () => {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) await kill(child)
  programs.remove()
  if (!skip) detachPinned()
})

/** A plane for one test; what it pinned is gone afterwards. */
async function withPlane(
  options: Partial<KernelOptions>,
  action: (plane: KernelDataplane) => Promise<void>,
): Promise<void> {
  const plane = await KernelDataplane.open({ sizes, ...options })
  try {
    await action(plane)
  } finally {
    await plane.detach()
    await plane.close()
  }
}

function directorCommand(request: DirectorRequest): string[] {
  const script = fileURLToPath(new URL('./director-process.ts', import.meta.url))
  return [process.execPath, '--import', import.meta.resolve('tsx'), script, JSON.stringify(request)]
}

/** Starts a director and waits until it is attached; `wrap` is a command to run it with. */
async function startDirector(
  options: KernelOptions,
  interfaces: string[],
  weight: number,
  wrap: readonly string[] = [],
): Promise<{ child: ChildProcess; said: string }> {
  const [command = '', ...words] = [...wrap, ...directorCommand({ options, interfaces, weight })]
  const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  const [said] = await once(child.stdout, 'data')
  return { child, said: String(said) }
}

async function kill(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

function count(plane: KernelDataplane, verdict: number): bigint {
  return Atomics.load(plane.map('verdicts').u64, lastRow + verdict)
}

function total(plane: KernelDataplane): bigint {
  return plane.map('verdicts').u64.reduce((sum, value) => sum + value, 0n)
}

/** A frame from the far end of kh0, of a kind that nothing else in this namespace sends. */
function sendFrame(): void {
  const socket = new PacketSocket('kh0p')
  socket.send(frame)
  socket.close()
}

test('kernel: the maps of a loaded program have the sizes asked for and show its writes', {
  skip,
}, async () => {
  await withPlane({ pinDirectory: null, objectPath: programs.compile(3) }, async (plane) => {
    for (const name of MAP_NAMES)
      assert.equal(plane.map(name).entries, new Map(Object.entries(entries())).get(name), name)
    const run = testRun(plane.programFd, frame, { ifindex: 1, repeat: 5 })
    assert.equal(run.action, XdpAction.Pass)
    assert.deepEqual(run.frame, frame)
    assert.equal(count(plane, 3), 5n, 'in the row of the last CPU: pm_limits.cpus arrived')
    assert.equal(Atomics.compareExchange(plane.map('verdicts').u64, lastRow + 3, 5n, 40n), 5n)
    testRun(plane.programFd, frame, { ifindex: 1 })
    assert.equal(count(plane, 3), 41n)
    assert.equal(plane.pinDirectory, null)
    assert.equal(plane.program().name, 'pointsman')
    assert.match(plane.program().tag, /^[0-9a-f]{16}$/)
  })
})

function entries(): Record<string, number> {
  const { services, serviceBuckets, reals, members, connections4, connections6, cpus } = sizes
  return {
    settings: 1,
    interfaces: 64,
    services,
    service_index: serviceBuckets,
    nat_index: 2 ** Math.ceil(Math.log2(Math.max(4, reals / 4))),
    schedules: 2 * services,
    members,
    reals,
    live: reals,
    counters: reals * cpus,
    connections4,
    connections6,
    verdicts: cpus * PM_VERDICT_MAX,
    locals: 128,
    macs: 1024,
    interest: PM_INTEREST_WORDS,
    egress: PM_EGRESSES,
    cpus,
    hops: reals,
    controls4: connections4 / PM_WAYS,
    controls6: connections6 / PM_WAYS,
    mark_kinds: 2 * 2 * PM_MARK_KINDS,
    mark_index: 2 * PM_MARK_BUCKETS,
    mark_keys: 2 * PM_MARK_RULES,
    mark_spans: 2 * PM_MARK_SPANS,
    filters: 4 * (sizes.filterBuckets ?? 0),
    filter_lengths: 2,
    gates: services,
    fragments: PM_FRAGMENTS,
    neighbours: PM_NEIGHBOURS,
    localities: PM_LOCALITIES,
    sources: PM_SOURCES,
    answered: PM_ANSWER_BUCKETS,
    full_nat: PM_FULL_NATS * 2,
    call_ids: PM_CALL_IDS,
  }
}

test('kernel: the real program passes frames to the stack until rules are published', {
  skip: skipReal,
}, async () => {
  await withPlane({ pinDirectory: null, objectPath: realObject }, async (plane) => {
    const settings = SettingsRecord.read(plane.map('settings').view, 0)
    assert.equal(settings.layout, PM_LAYOUT_VERSION)
    assert.notEqual(settings.hashSeed, 0)
    const run = testRun(plane.programFd, new Uint8Array(60), { ifindex: 1 })
    assert.equal(run.action, XdpAction.Pass)
    assert.equal(total(plane), 1n)
    const { u64 } = plane.map('verdicts')
    assert.ok(u64.some((value, index) => value === 1n && index % 64 === Verdict.PassNotConfigured))
  })
})

test('kernel: a program of the kernel object sees frames of an attached interface', { skip }, async () => {
  await withPlane({ objectPath: programs.compile(3) }, async (plane) => {
    assert.equal(plane.adopted, false)
    await plane.attach(['kh0'])
    assert.deepEqual(
      plane.interfaces().map(({ name, mode }) => ({ name, mode })),
      [{ name: 'kh0', mode: 'native' }],
    )
    assert.deepEqual(listInterfaces(plane.map('interfaces')), [plane.interfaces()[0]?.ifindex])
    const before = count(plane, 3)
    sendFrame()
    await until(() => count(plane, 3) > before, 'the frame is counted')
  })
})

test('kernel: attach makes the set of interfaces what it is given, and detach leaves nothing', {
  skip,
}, async () => {
  const plane = await KernelDataplane.open({ sizes, objectPath: programs.compile(3) })
  const names = () => plane.interfaces().map(({ name }) => name)
  await plane.attach(['kh0', 'kh0'])
  const pins = readdirSync(plane.pinDirectory!)
  await plane.attach(['kh0', 'kh1'])
  assert.deepEqual(names(), ['kh0', 'kh1'])
  await plane.attach(['kh1'])
  assert.deepEqual(names(), ['kh1'])
  assert.equal(listInterfaces(plane.map('interfaces')).length, 1)
  assert.doesNotMatch(ip('link show kh0'), /xdp/)
  assert.match(ip('link show kh1'), /xdp/)
  assert.ok(pins.includes('program') && pins.includes('connections4'), pins.join(' '))

  const [kh0, absent] = await plane.attach(['kh0', 'absent'])
  assert.ok(kh0 !== undefined && 'attached' in kh0)
  assert.ok(absent !== undefined && 'refused' in absent && absent.absent)
  assert.match(absent.refused, /No interface "absent"/)
  assert.deepEqual(names(), ['kh0'], 'what exists is taken')

  await plane.detach()
  assert.doesNotMatch(ip('link show kh0'), /xdp/)
  assert.equal(existsSync(plane.pinDirectory!), false)
  await plane.close()
  assert.throws(() => plane.map('reals'), /closed/)
})

test('kernel: a refused interface keeps no other from being taken', { skip }, async () => {
  await withPlane({ objectPath: programs.compile(3), mode: 'native' }, async (plane) => {
    const [lo, kh0] = await plane.attach(['lo', 'kh0'])
    assert.ok(lo !== undefined && 'refused' in lo && !lo.absent)
    assert.match(lo.refused, /Cannot take packets from lo/)
    assert.ok(kh0 !== undefined && 'attached' in kh0)
    assert.deepEqual(
      plane.interfaces().map(({ name }) => name),
      ['kh0'],
    )
  })
})

test('kernel: auto falls back to traffic control, interface by interface, and says why', {
  skip,
}, async () => {
  const options = { objectPath: programs.compile(3), tcObjectPath: programs.compile(4, undefined, 'tc') }
  ip('link add kh-bridge type bridge')
  const taken = (plane: KernelDataplane) => plane.interfaces().map(({ name, mode }) => [name, mode])
  const both = [
    ['kh0', 'native'],
    ['kh-bridge', 'tc'],
  ]
  const said = /^kh-bridge is a bridge, which has no native XDP: packets are taken in traffic control$/
  const first = await KernelDataplane.open({ sizes, ...options })
  await first.attach(['kh0', 'kh-bridge'])
  assert.deepEqual(taken(first), both)
  assert.match(first.interfaces()[1]?.note ?? '', said)
  assert.doesNotMatch(ip('link show kh-bridge'), /xdp/)
  await first.close()
  await withPlane(options, async (plane) => {
    assert.equal(plane.adopted, true)
    await plane.attach(['kh0', 'kh-bridge'])
    assert.deepEqual(taken(plane).sort(), both.sort())
    assert.match(plane.interfaces().find(({ name }) => name === 'kh-bridge')?.note ?? '', said)
    await plane.attach(['kh0'])
    assert.deepEqual(
      readdirSync(plane.pinDirectory!)
        .filter((name) => /^program|^tc/.test(name))
        .sort(),
      ['program', 'program-relay'],
    )
  })
  ip('link del kh-bridge')
})

test('kernel: attached interfaces are asked of the kernel: one that is gone is not listed', {
  skip,
}, async () => {
  await withPlane({ objectPath: programs.compile(3) }, async (plane) => {
    ip('link add kh3 type veth peer name kh3p')
    await plane.attach(['kh0', 'kh3'])
    ip('link set kh3 name kh4')
    assert.deepEqual(
      plane.interfaces().map(({ name }) => name),
      ['kh0', 'kh4'],
      'under its name of now',
    )
    ip('link del kh4')
    assert.deepEqual(
      plane.interfaces().map(({ name }) => name),
      ['kh0'],
    )
    await plane.attach(['kh0'])
    assert.equal(listInterfaces(plane.map('interfaces')).length, 1)
  })
})

test('kernel: by which name an interface was wanted is pinned beside its link, and goes with it', {
  skip,
}, async () => {
  ip('link add kh3 type veth peer name kh3p')
  const first = await KernelDataplane.open({ sizes, objectPath: programs.compile(3) })
  await first.attach(['kh0', 'kh3'])
  ip('link set kh3 name kh4.9')
  await first.close()
  await withPlane({ objectPath: programs.compile(3) }, async (plane) => {
    const wanted = () =>
      plane
        .interfaces()
        .map(({ name, wanted }) => `${wanted ?? ''} ${name}`)
        .sort()
    assert.deepEqual(wanted(), [' kh0', 'kh3 kh4.9'])
    await plane.attach([{ name: 'kh4.9', wanted: 'kh3' }, 'kh0'])
    assert.deepEqual(wanted(), [' kh0', 'kh3 kh4.9'])
    await plane.attach(['kh4.9'])
    assert.deepEqual(wanted(), [' kh4.9'])
    const named = () =>
      readdirSync(plane.pinDirectory!)
        .filter((name) => /^(name|link)-/.test(name))
        .sort()
    const ifindex = libc.if_nametoindex('kh4.9')
    assert.deepEqual(named(), [`link-${ifindex}`, `name-${ifindex}`])
    await plane.attach([])
    assert.deepEqual(named(), [])
  })
  ip('link del kh4.9')
})

test('kernel: attached again, an interface goes on with the MAC and MTU it has now', { skip }, async () => {
  await withPlane({ objectPath: programs.compile(3) }, async (plane) => {
    ip('link add kh3 type veth peer name kh3p')
    await plane.attach(['kh3'])
    const id = ip('-d link show kh3').match(/prog\/xdp id \d+/)?.[0]
    ip('link set kh3 address 02:aa:bb:cc:dd:01')
    ip('link set kh3 mtu 1400')
    await plane.attach(['kh3'])
    const { view, entrySize, entries } = plane.map('interfaces')
    const records = Array.from({ length: entries }, (_, i) => InterfaceRecord.read(view, i * entrySize))
    const record = records.find(({ ifindex }) => ifindex !== 0)
    assert.equal(Buffer.from(record?.mac ?? []).toString('hex'), '02aabbccdd01')
    assert.equal(record?.mtu, 1400)
    assert.equal(ip('-d link show kh3').match(/prog\/xdp id \d+/)?.[0], id, 'the same link')
    ip('link del kh3')
  })
})

test('kernel: slaves of a bond receive under its address, and are followed', { skip }, async () => {
  // This kernel may have no bonds: the reading of links says that kh0 is one, and kh1 a part of it or not.
  let enslaved = true
  const links = (): Links =>
    new Links(
      readLinks()
        .all()
        .map((link) => {
          if (link.name === 'kh0') return { ...link, kind: 'bond' }
          return link.name === 'kh1' && enslaved
            ? { ...link, master: readLinks().named('kh0')!.ifindex }
            : link
        }),
    )
  await withPlane({ objectPath: programs.compile(3), links }, async (plane) => {
    const records = () => {
      const { view, entrySize, entries } = plane.map('interfaces')
      const all = Array.from({ length: entries }, (_, i) => InterfaceRecord.read(view, i * entrySize))
      return all.filter(({ ifindex }) => ifindex !== 0)
    }
    await plane.attach(['kh0'])
    const [kh0, kh1] = [links().named('kh0')!, links().named('kh1')!]
    assert.deepEqual(
      records()
        .map(({ ifindex }) => ifindex)
        .sort(),
      [kh0.ifindex, kh1.ifindex].sort(),
    )
    const slave = records().find(({ ifindex }) => ifindex === kh1.ifindex)
    assert.equal(slave?.macs, 1)
    assert.equal(
      slave?.more[0],
      Buffer.from(kh0.mac)
        .reverse()
        .reduce((word, byte) => (word << 8n) | BigInt(byte), 0n),
    )
    assert.deepEqual(
      plane.interfaces().map(({ name }) => name),
      ['kh0'],
    )
    enslaved = false
    await plane.attach(['kh0'])
    assert.deepEqual(
      records().map(({ ifindex }) => ifindex),
      [kh0.ifindex],
    )
  })
})

test('kernel: asked for generic, it is generic, also where native would do', { skip }, async () => {
  await withPlane({ objectPath: programs.compile(3), mode: 'generic' }, async (plane) => {
    await plane.attach(['kh0'])
    assert.equal(plane.interfaces()[0]?.mode, 'generic')
    assert.match(ip('link show kh0'), /xdpgeneric/)
  })
})

test('kernel: state and forwarding outlive kill -9, and the next process carries them on', {
  skip,
}, async () => {
  const options: KernelOptions = { sizes, objectPath: programs.compile(3) }
  const { child } = await startDirector(options, ['kh0'], 7)
  await kill(child)
  assert.match(ip('link show kh0'), /xdp/, 'the link is pinned')
  sendFrame()

  await withPlane(options, async (plane) => {
    assert.equal(plane.adopted, true)
    assert.deepEqual(
      plane.interfaces().map(({ name, mode }) => [name, mode]),
      [['kh0', 'native']],
    )
    assert.equal(RealRecord.getWeight(plane.map('reals').view, 0), 7)
    await until(() => count(plane, 3) >= 1n, 'what was sent meanwhile is counted')
    const id = plane.program().id
    assert.match(ip('link show kh0'), new RegExp(`prog/xdp id ${id} `))
    await plane.attach(['kh0'])
    assert.match(ip('link show kh0'), new RegExp(`prog/xdp id ${id} `), 'nothing was attached anew')
  })
  assert.doesNotMatch(ip('link show kh0'), /xdp/)
})

test('kernel: once what a dead process has left is taken off, no interface has it any more', {
  skip,
}, async () => {
  const { child } = await startDirector({ sizes, objectPath: programs.compile(3) }, ['kh0', 'kh1'], 1)
  await kill(child)
  const fds = ['kh0', 'kh1'].map((name) => {
    const fd = new Pins(defaultPinDirectory()).openLink(libc.if_nametoindex(name))
    assert.notEqual(linkInfo(fd).ifindex, 0)
    return fd
  })
  assert.equal(detachPinned(), true)
  // Whoever else has a hold of a link does not keep it either.
  assert.deepEqual(
    fds.map((fd) => linkInfo(fd).ifindex),
    [0, 0],
  )
  for (const fd of fds) libc.close(fd)
  for (const name of ['kh0', 'kh1']) assert.doesNotMatch(ip(`link show ${name}`), /xdp/)
})

test('kernel: a changed program takes over on every interface, on the same state', { skip }, async () => {
  const old: KernelOptions = { sizes, objectPath: programs.compile(3) }
  const { child } = await startDirector(old, ['kh0', 'kh1'], 9)
  await kill(child)
  const before = /prog\/xdp id (\d+) /.exec(ip('link show kh0'))?.[1]

  await withPlane({ ...old, objectPath: programs.compile(4) }, async (plane) => {
    assert.equal(plane.adopted, true)
    assert.equal(RealRecord.getWeight(plane.map('reals').view, 0), 9)
    const id = plane.program().id
    assert.notEqual(String(id), before)
    for (const name of ['kh0', 'kh1']) assert.match(ip(`link show ${name}`), new RegExp(`prog/xdp id ${id} `))
    const counted = count(plane, 4)
    sendFrame()
    await until(() => count(plane, 4) > counted, 'the new program counts')
  })
})

test('kernel: a program that runs already is not verified again, unless it may be another', {
  skip,
}, async (t) => {
  const load = t.mock.method(libbpf(), 'bpf_object__load')
  const options: KernelOptions = { sizes, objectPath: programs.compile(3) }
  /** Starts on what is pinned; how many objects were loaded for it, and the program that runs. */
  const start = async (objectPath = options.objectPath) => {
    load.mock.resetCalls()
    const plane = await KernelDataplane.open({ ...options, objectPath })
    const { id } = plane.program()
    await plane.close()
    return { loads: load.mock.callCount(), id }
  }
  const note = join(defaultPinDirectory(), 'object')
  try {
    const { id } = await start()
    assert.deepEqual(await start(), { loads: 0, id })

    const noted = readlinkSync(note)
    const [digest, tag] = noted.split('/')
    for (const other of [`${digest}/${'0'.repeat(16)}`, `${'0'.repeat(64)}/${tag}`, 'garbage']) {
      rmSync(note)
      symlinkSync(other, note)
      assert.deepEqual(await start(), { loads: 1, id }, other)
      assert.equal(readlinkSync(note), noted, 'and is known from then on')
    }

    const changed = await start(programs.compile(4))
    assert.equal(changed.loads, 1)
    assert.notEqual(changed.id, id)
    assert.deepEqual(await start(programs.compile(4)), { loads: 0, id: changed.id })
    assert.equal((await start()).loads, 1, 'the first object again')
  } finally {
    detachPinned()
  }
})

test('kernel: one process works on a pin directory, a second is refused', { skip }, async () => {
  const options: KernelOptions = { sizes, objectPath: programs.compile(3) }
  const { child } = await startDirector(options, [], 1)
  await assert.rejects(KernelDataplane.open(options), /another pointsmand works on it/)
  assert.throws(() => detachPinned(), /another pointsmand works on it/)
  await kill(child)
  assert.deepEqual(pinnedSizes(defaultPinDirectory()), sizes)
  assert.equal(detachPinned(), true)
  assert.equal(detachPinned(), false)
  assert.equal(pinnedSizes(defaultPinDirectory()), null)
})

test('kernel: pinned maps of other sizes are refused and left as they are', { skip }, async () => {
  const options: KernelOptions = { sizes, objectPath: programs.compile(3) }
  const first = await KernelDataplane.open(options)
  await first.close()
  await assert.rejects(
    KernelDataplane.open({ ...options, sizes: { ...sizes, connections4: 2048 } }),
    /map connections4 has 1024 entries, expected 2048; .*pointsman detach/,
  )
  await withPlane(options, async (plane) => assert.equal(plane.adopted, true))
})

test('kernel: pinned maps of another layout version are refused', { skip }, async () => {
  const options: KernelOptions = { sizes, objectPath: programs.compile(3) }
  const first = await KernelDataplane.open(options)
  SettingsRecord.setLayout(first.map('settings').view, 0, 99)
  await first.close()
  await assert.rejects(
    KernelDataplane.open(options),
    new RegExp(`its layout has version 99, expected ${PM_LAYOUT_VERSION}; .*pointsman detach`),
  )
  assert.equal(detachPinned(), true, 'the refused process let go of the directory')
})

test('kernel: a program that the verifier refuses is refused with its reason', { skip }, async () => {
  const objectPath = programs.compileSource('unsafe', (source) =>
    source.replace('return XDP_PASS;', 'return *(int *)(long)ctx->data;'),
  )
  await assert.rejects(KernelDataplane.open({ sizes, objectPath, pinDirectory: null }), (error) => {
    assert.ok(error instanceof MachineError, String(error))
    assert.match(
      error.message,
      /^Cannot load unsafe.bpf.o: .*; the verifier of Linux \S+ refuses the program/,
    )
    assert.match(error.message, /invalid access to packet/)
    return true
  })
})

test('kernel: without the privileges for BPF the error names them', { skip }, () => {
  const request: DirectorRequest = {
    options: { sizes, objectPath: programs.compile(3), pinDirectory: null },
    interfaces: [],
    weight: 0,
  }
  const wrap = ['--bounding-set=-sys_admin,-bpf,-perfmon', '--inh-caps=-all']
  const { stderr } = spawnSync('setpriv', [...wrap, ...directorCommand(request)], { encoding: 'utf8' })
  assert.match(
    stderr,
    /Cannot load program-3.bpf.o: Operation not permitted \(errno 1\); the packet program takes CAP_BPF/,
  )
})

const larger = (header: string) =>
  header.replace('struct pm_service {', 'struct pm_service {\n\t__u64 extra;')
const renamed = (header: string) => header.replace('__u32 fwmark;', '__u32 mark;')

test('kernel: an object of another layout is refused by struct and size', { skip }, async () => {
  await assert.rejects(
    KernelDataplane.open({ sizes, objectPath: programs.compile(3, larger) }),
    /^DataplaneError: Cannot attach program-3-altered.bpf.o: struct pm_service is 72 bytes, expected 64; /,
  )
  await assert.rejects(
    KernelDataplane.open({ sizes, objectPath: programs.compile(3, renamed) }),
    /struct pm_service has mark \(u32\) at byte 24, expected fwmark \(u32\) at byte 24/,
  )
  assert.equal(detachPinned(), false, 'nothing is left of a refused start')
})

test('kernel: pinned maps of another layout are refused by struct and size', { skip }, async () => {
  for (const [types, want] of [
    [larger, /struct pm_service is 72 bytes, expected 64; .*pointsman detach/],
    [renamed, /struct pm_service has mark \(u32\) at byte 24, expected fwmark/],
  ] as const) {
    pinRaw(programs.compile(3, types))
    await assert.rejects(KernelDataplane.open({ sizes, objectPath: programs.compile(3) }), want)
    assert.equal(detachPinned(), true)
  }
})

/** Pins what an older or newer pointsman would have, whatever its layout. */
function pinRaw(objectPath: string): void {
  const pins = new Pins(defaultPinDirectory())
  makePinDirectory(pins.directory)
  const bpf = libbpf()
  const object = needPointer(bpf.bpf_object__open_file(objectPath, null), 'open')
  need(bpf.bpf_object__load(object), 'load')
  for (const name of MAP_NAMES) {
    pins.pinMap(name, bpf.bpf_map__fd(needPointer(bpf.bpf_object__find_map_by_name(object, name), 'find')))
  }
  const program = needPointer(bpf.bpf_object__find_program_by_name(object, 'pointsman'), 'find')
  pins.pinProgram(bpf.bpf_program__fd(program))
  bpf.bpf_object__close(object)
}

test('kernel: debris of an interrupted start is cleared away', { skip }, async () => {
  const options: KernelOptions = { sizes, objectPath: programs.compile(3) }
  const first = await KernelDataplane.open(options)
  const { pinDirectory } = first
  await first.close()
  // As if the process had died before it pinned the program.
  unlinkSync(`${pinDirectory}/program`)
  await withPlane(options, async (plane) => assert.equal(plane.adopted, false))
})

test('kernel: the link of an interface that went away is forgotten', { skip }, async () => {
  const options: KernelOptions = { sizes, objectPath: programs.compile(3) }
  ip('link add kh2 type veth peer name kh2p')
  const first = await KernelDataplane.open(options)
  await first.attach(['kh0', 'kh2'])
  await first.close()
  ip('link del kh2')
  await withPlane(options, async (plane) => {
    assert.deepEqual(
      plane.interfaces().map(({ name }) => name),
      ['kh0'],
    )
    assert.equal(listInterfaces(plane.map('interfaces')).length, 1)
  })
})

test('kernel: an interface made again under the same name is attached again', { skip }, async () => {
  await withPlane({ objectPath: programs.compile(3) }, async (plane) => {
    ip('link add kh2 type veth peer name kh2p')
    await plane.attach(['kh0', 'kh2'])
    const old = plane.interfaces().find(({ name }) => name === 'kh2')?.ifindex
    ip('link del kh2')
    ip('link add kh2 type veth peer name kh2p')
    await plane.attach(['kh0', 'kh2'])
    const fresh = plane.interfaces().find(({ name }) => name === 'kh2')?.ifindex
    assert.notEqual(fresh, old)
    assert.equal(plane.interfaces().length, 2)
    assert.match(ip('link show kh2'), /xdp/)
    ip('link del kh2')
  })
})

test('kernel: where no BPF file system is mounted, one is, and its short life is told', {
  skip,
}, async () => {
  const wrap = [
    'unshare',
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-c',
    'umount /sys/fs/bpf; exec "$@"',
    'sh',
  ]
  const { child, said } = await startDirector({ sizes, objectPath: programs.compile(3) }, ['kh0'], 1, wrap)
  assert.match(said, /\/sys\/fs\/bpf is private to this mount namespace: .*nsenter --net/)
  assert.match(ip('link show kh0'), /xdp/)
  await kill(child)
  await until(() => !ip('link show kh0').includes('xdp'), 'forwarding ends with the mount namespace')
})

test('kernel: folders that cannot hold pins are refused', {
  skip,
}, async () => {
  const objectPath = programs.compile(3)
  await assert.rejects(
    KernelDataplane.open({ sizes, objectPath, pinDirectory: '/tmp/pointsman-no-bpffs' }),
    /\/tmp is not on a BPF file system; mount one/,
  )
  await assert.rejects(
    KernelDataplane.open({ sizes, objectPath: '/nowhere/pointsman.bpf.o', pinDirectory: null }),
    /Cannot read \/nowhere\/pointsman.bpf.o: build it first/,
  )
})
