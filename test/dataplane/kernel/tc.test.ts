/** The packet program in traffic control, by links and by filters, in a network namespace of its own. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import test, { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DataplaneError, type Sizes } from '../../../dataplane/dataplane.ts'
import { putInterface } from '../../../dataplane/interface-table.ts'
import { Pins } from '../../../dataplane/kernel/pins.ts'
import { detachPinned, KernelDataplane, type KernelOptions } from '../../../dataplane/kernel/plane.ts'
import { filterProgram, linkTc, putFilter } from '../../../dataplane/kernel/tc.ts'
import { queryXdp } from '../../../dataplane/kernel/xdp.ts'
import {
  PM_VERDICT_MAX,
  RealRecord,
  Setting,
  SettingsRecord,
  Verdict,
} from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { defaultPinDirectory } from '../../../linux/bpffs.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { readNetDevice } from '../../../linux/device.ts'
import { libc } from '../../../linux/libc.ts'
import { readLinks } from '../../../linux/links.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { ingressFilters, openIngress, setIngressProgram } from '../../../linux/netlink/traffic-control.ts'
import { ethernet, ip as packet, udp } from '../../packets/frame.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, until } from '../private-network.ts'
import type { DirectorRequest } from './director-process.ts'
import { TinyPrograms } from './tiny-program.ts'

const skip = skipWithoutPrivileges || skipWithoutClang
const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const lastRow = (sizes.cpus - 1) * PM_VERDICT_MAX
const programs = new TinyPrograms()
const children: ChildProcess[] = []

if (!skip) {
  enterPrivateNetwork()
  ip('link add tc0 type veth peer name tc0p')
  for (const name of ['tc0', 'tc0p']) ip(`link set ${name} up`)
}

after(async () => {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) await kill(child)
  programs.remove()
  if (!skip) detachPinned()
})

async function kill(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

/** Counts as `xdp` in XDP and as `tc` in traffic control. */
function options(xdp: number, tc: number, more: Partial<KernelOptions> = {}): KernelOptions {
  return {
    sizes,
    objectPath: programs.compile(xdp),
    tcObjectPath: programs.compile(tc, undefined, 'tc'),
    ...more,
  }
}

function count(plane: KernelDataplane, verdict: number): bigint {
  return Atomics.load(plane.map('verdicts').u64, lastRow + verdict)
}

function sendFrame(): void {
  const socket = new PacketSocket('tc0p')
  socket.send(new Uint8Array(60).fill(0xff))
  socket.close()
}

async function countsAs(plane: KernelDataplane, verdict: number): Promise<void> {
  const before = count(plane, verdict)
  sendFrame()
  await until(() => count(plane, verdict) > before, `a frame is counted as ${verdict}`)
}

function modes(plane: KernelDataplane): readonly (readonly [string, string])[] {
  return plane.interfaces().map(({ name, mode }) => [name, mode])
}

function ifindex(name = 'tc0'): number {
  return readLinks().named(name)!.ifindex
}

/** What is pinned of attachments and programs. */
function pinned(): string[] {
  const directory = defaultPinDirectory()
  if (!existsSync(directory)) return []
  return readdirSync(directory)
    .filter((name) => /^program|^(link|tc|filter)-\d+$/.test(name))
    .map((name) => name.replace(/\d+$/, 'N'))
    .sort()
}

async function startDirector(request: DirectorRequest): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('./director-process.ts', import.meta.url))
  const child = spawn(
    process.execPath,
    ['--import', import.meta.resolve('tsx'), script, JSON.stringify(request)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  children.push(child)
  await once(child.stdout, 'data')
  return child
}

for (const [by, tcLinks] of [
  ['links', true],
  ['filters, before Linux 6.6', false],
] as const) {
  const holder = tcLinks ? 'tc-N' : 'filter-N'

  test(`traffic control by ${by}: frames come to the program, and detach leaves nothing`, {
    skip,
  }, async () => {
    const plane = await KernelDataplane.open(options(3, 4, { mode: 'tc', tcLinks }))
    assert.equal(plane.plane, 'tc')
    await plane.attach(['tc0'])
    assert.deepEqual(modes(plane), [['tc0', 'tc']])
    assert.deepEqual(pinned(), tcLinks ? ['program-tc', holder] : [holder, 'program-tc'])
    assert.equal(filterProgram(ifindex()), tcLinks ? 0 : plane.program().id)
    await countsAs(plane, 4)
    await plane.attach(['tc0'])
    assert.equal(count(plane, 3), 0n)
    await plane.detach()
    assert.deepEqual(pinned(), [])
    assert.equal(filterProgram(ifindex()), 0)
    assert.doesNotMatch(ip('link show tc0'), /clsact/)
    const counted = count(plane, 4)
    sendFrame()
    assert.equal(count(plane, 4), counted, 'a veth hands on frames before send returns')
    await plane.close()
  })

  test(`traffic control by ${by}: forwarding outlives kill -9, and another build takes it over`, {
    skip,
  }, async () => {
    const child = await startDirector({
      options: options(3, 4, { mode: 'tc', tcLinks }),
      interfaces: ['tc0'],
      weight: 7,
    })
    await kill(child)
    sendFrame()
    const plane = await KernelDataplane.open(options(3, 5, { mode: 'tc', tcLinks }))
    try {
      assert.equal(plane.adopted, true)
      assert.equal(RealRecord.getWeight(plane.map('reals').view, 0), 7)
      assert.ok(count(plane, 4) >= 1n, 'what was sent meanwhile is counted')
      assert.deepEqual(modes(plane), [['tc0', 'tc']])
      await countsAs(plane, 5)
      await plane.attach(['tc0'])
      assert.deepEqual(pinned().includes(holder), true)
    } finally {
      await plane.detach()
      await plane.close()
    }
  })

  test(`traffic control by ${by}: an interface that is made again is taken again`, { skip }, async () => {
    ip('link add tc1 type veth peer name tc1p')
    const plane = await KernelDataplane.open(options(3, 4, { mode: 'tc', tcLinks }))
    try {
      await plane.attach(['tc1'])
      ip('link del tc1')
      assert.deepEqual(modes(plane), [])
      ip('link add tc1 type veth peer name tc1p')
      await plane.attach(['tc1'])
      assert.deepEqual(modes(plane), [['tc1', 'tc']])
      assert.equal(pinned().filter((name) => name === holder).length, 1)
    } finally {
      await plane.detach()
      await plane.close()
      ip('link del tc1')
    }
  })

  test(`between XDP and traffic control by ${by} every frame comes to one of them`, { skip }, async () => {
    const plane = await KernelDataplane.open(options(3, 4, { mode: 'native', tcLinks }))
    try {
      await plane.attach(['tc0'])
      assert.deepEqual(pinned(), ['link-N', 'program'])
      await countsAs(plane, 3)
      plane.choose('tc')
      await plane.attach(['tc0'])
      assert.deepEqual(modes(plane), [['tc0', 'tc']])
      assert.equal(queryXdp(ifindex()).programId, 0)
      assert.deepEqual(pinned(), tcLinks ? ['program-tc', holder] : [holder, 'program-tc'])
      await countsAs(plane, 4)
      plane.choose('native')
      await plane.attach(['tc0'])
      assert.deepEqual(modes(plane), [['tc0', 'native']])
      assert.deepEqual(pinned(), ['link-N', 'program'])
      assert.equal(filterProgram(ifindex()), 0)
      await countsAs(plane, 3)
    } finally {
      await plane.detach()
      await plane.close()
    }
  })
}

test('a program that an interface needs later is loaded beside other work: what is attached goes on, and what cannot be loaded is told', {
  skip,
}, async () => {
  ip('link add tcm0 link tc0p type macvlan mode private')
  ip('link set tcm0 up')
  const plane = await KernelDataplane.open(options(3, 4, { loadsLater: true }))
  try {
    await plane.attach(['tc0'])
    assert.deepEqual(pinned(), ['link-N', 'program', 'program-relay'])
    let turns = 0
    const turning = setInterval(() => turns++, 0)
    const attached = plane.attach(['tc0', 'tcm0'])
    await until(() => turns > 0, 'other work to be done')
    clearInterval(turning)
    await countsAs(plane, 3)
    assert.ok((await attached).every((result) => 'attached' in result))
    assert.deepEqual(modes(plane), [
      ['tc0', 'native'],
      ['tcm0', 'tc'],
    ])
  } finally {
    await plane.detach()
    await plane.close()
  }
  const broken = { ...options(3, 4, { loadsLater: true }), tcObjectPath: '/nowhere/tc.bpf.o' }
  const without = await KernelDataplane.open(broken)
  try {
    const [taken, refused] = await without.attach(['tc0', 'tcm0'])
    assert.ok(taken !== undefined && 'attached' in taken)
    assert.match(
      refused !== undefined && 'refused' in refused ? refused.refused : '',
      /Cannot read \/nowhere/,
    )
  } finally {
    await without.detach()
    await without.close()
    ip('link del tcm0')
  }
})

test('a process that is started for the other hook carries on what is pinned, then takes it over', {
  skip,
}, async () => {
  const child = await startDirector({
    options: options(3, 4, { mode: 'native' }),
    interfaces: ['tc0'],
    weight: 9,
  })
  await kill(child)
  const plane = await KernelDataplane.open(options(3, 4, { mode: 'tc' }))
  try {
    assert.equal(plane.adopted, true)
    await countsAs(plane, 3)
    await plane.attach(['tc0'])
    assert.deepEqual(modes(plane), [['tc0', 'tc']])
    assert.deepEqual(pinned(), ['program-tc', 'tc-N'])
    assert.equal(RealRecord.getWeight(plane.map('reals').view, 0), 9)
    await countsAs(plane, 4)
  } finally {
    await plane.detach()
    await plane.close()
  }
})

test('killed between two hooks, the next process goes on with the one that it is started for', {
  skip,
}, async () => {
  for (const mode of ['native', 'tc'] as const) {
    const first = await KernelDataplane.open(options(3, 4, { mode: 'native' }))
    await first.attach(['tc0'])
    const pins = new Pins(first.pinDirectory!)
    // As after the first half of a change.
    first.choose('tc')
    const fd = linkTc(first.programFd, { name: 'tc0', ifindex: ifindex() })!
    pins.pinLink(ifindex(), fd, 'tc0', 'tc')
    libc.close(fd)
    await first.close()
    const plane = await KernelDataplane.open(options(3, 4, { mode }))
    try {
      assert.deepEqual(modes(plane), [['tc0', mode]])
      await plane.attach(['tc0'])
      assert.deepEqual(pinned(), mode === 'tc' ? ['program-tc', 'tc-N'] : ['link-N', 'program'])
      await countsAs(plane, mode === 'tc' ? 4 : 3)
    } finally {
      await plane.detach()
      await plane.close()
    }
  }
})

test('a filter whose note is lost is taken off all the same, and others beside it stay', {
  skip,
}, async () => {
  const socket = new RequestSocket()
  try {
    assert.equal(openIngress(socket, ifindex()), true)
    // Passes everything: return TC_ACT_UNSPEC.
    setIngressProgram(socket, ifindex(), Uint8Array.of(6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff))
    const plane = await KernelDataplane.open(options(3, 4, { mode: 'tc', tcLinks: false }))
    await plane.attach(['tc0'])
    await plane.close()
    assert.notEqual(filterProgram(ifindex()), 0)
    rmSync(`${defaultPinDirectory()}/filter-${ifindex()}`)
    assert.equal(detachPinned(), true)
    assert.equal(filterProgram(ifindex()), 0)
    assert.equal(ingressFilters(socket, ifindex()), 'ours')
    assert.equal(detachPinned(), false)
  } finally {
    socket.close()
  }
})

test('a filter for a link that has just gone is refused as what the machine cannot do', {
  skip,
}, async () => {
  const plane = await KernelDataplane.open(options(3, 4))
  try {
    const gone = { ifindex: 4711, name: 'gone0' }
    assert.throws(() => putFilter(plane.programFd, gone), DataplaneError)
  } finally {
    await plane.detach()
    await plane.close()
  }
})

test('a frame to an address that an interface has had only just now is for this host', { skip }, async () => {
  const plane = await KernelDataplane.open({ sizes, mode: 'tc' })
  try {
    putInterface(plane, readNetDevice('tc0'))
    SettingsRecord.setFlags(plane.map('settings').view, 0, Setting.Ready | Setting.V4)
    await plane.attach(['tc0'])
    const counted = async (mac: string, verdict: number): Promise<void> => {
      const before = verdicts(plane, verdict)
      const socket = new PacketSocket('tc0p')
      socket.send(frameTo(mac))
      socket.close()
      await until(() => verdicts(plane, verdict) > before, `a frame to ${mac} is counted as ${verdict}`)
    }
    const [was, is] = [macText(readNetDevice('tc0').mac), '02:00:00:00:07:01']
    await counted(was, Verdict.PassNoService)
    ip(`link set tc0 address ${is}`)
    await counted(is, Verdict.PassNoService)
    await counted('02:00:00:00:07:02', Verdict.PassNotForHost)
  } finally {
    await plane.detach()
    await plane.close()
  }
})

function frameTo(mac: string): Uint8Array {
  return ethernet(
    { src: '02:00:00:00:07:03', dst: mac },
    packet({ src: '192.0.2.50', dst: '192.0.2.100' }, udp({})),
  )
}

function macText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** On all CPUs. */
function verdicts(plane: KernelDataplane, verdict: number): bigint {
  return plane
    .map('verdicts')
    .u64.reduce((sum, n, at) => (at % PM_VERDICT_MAX === verdict ? sum + n : sum), 0n)
}
