/** From pins of an older layout to those of this one, under a running program, killed at every step. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { dirname } from 'node:path'
import test, { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Sizes } from '../../../dataplane/dataplane.ts'
import { linkInfo, programInfo } from '../../../dataplane/kernel/object-info.ts'
import { openPinnedMaps } from '../../../dataplane/kernel/pinned-maps.ts'
import { pinnedSizes } from '../../../dataplane/kernel/pinned-program.ts'
import { Pins } from '../../../dataplane/kernel/pins.ts'
import { detachPinned, KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { filterProgram, putFilter } from '../../../dataplane/kernel/tc.ts'
import {
  Conn4Record,
  ConnRecord,
  MAP_NAMES,
  PM_VERDICT_MAX,
  RealRecord,
} from '../../../dataplane/layout/layout.gen.ts'
import { recordOf } from '../../../dataplane/layout/version.ts'
import { EARLIER_LAYOUTS, type LayoutText } from '../../../dataplane/layout/versions.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { defaultPinDirectory } from '../../../linux/bpffs.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { libbpf, need } from '../../../linux/libbpf.ts'
import { libc } from '../../../linux/libc.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, until } from '../private-network.ts'
import type { Ending } from './ending-process.ts'
import { knowOlder, loadOlder, mapOf, OLDER_VERSION, olderTypes, pinOlder } from './older.ts'
import { TinyPrograms } from './tiny-program.ts'

const skip = skipWithoutPrivileges || skipWithoutClang
const programs = new TinyPrograms()
const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const VERDICT = 3
const INTERFACES = ['mg0', 'mg1']
const known = EARLIER_LAYOUTS.length

if (!skip) {
  enterPrivateNetwork()
  for (const name of INTERFACES) {
    ip(`link add ${name} type veth peer name ${name}p`)
    for (const end of [name, `${name}p`]) ip(`link set ${end} up`)
  }
}

after(() => {
  if (!skip) detachPinned()
  programs.remove()
})

function sendFrame(): void {
  const socket = new PacketSocket('mg0p')
  socket.send(new Uint8Array(60).fill(0xff))
  socket.close()
}

function forgetOlder(): void {
  ;(EARLIER_LAYOUTS as LayoutText[]).splice(known)
}

/** An older director ran here: pinned, attached to both interfaces, with one connection and one frame counted. */
function startOlder(): void {
  detachPinned()
  const older = programs.compile(VERDICT, olderTypes)
  forgetOlder()
  const layout = knowOlder()
  const loaded = loadOlder(older, sizes)
  pinOlder(defaultPinDirectory(), loaded)
  const pins = new Pins(defaultPinDirectory())
  for (const name of INTERFACES) {
    const ifindex = libc.if_nametoindex(name)
    const fd = attach(loaded.programFd, ifindex)
    pins.pinLink(ifindex, fd, name)
    libc.close(fd)
  }
  const connections = mapOf(loaded.mapFds.get('connections4')!, 'connections4', layout)
  const conn = recordOf(layout, 'connections4').fields.find(({ name }) => name === 'c')!
  ConnRecord.setWord(connections.view, 9 * connections.entrySize + conn.offset, 0x103)
  ConnRecord.setReal(connections.view, 9 * connections.entrySize + conn.offset, 5)
  connections.unmap()
  const reals = mapOf(loaded.mapFds.get('reals')!, 'reals', layout)
  const weight = recordOf(layout, 'reals').fields.find(({ name }) => name === 'weight')!
  reals.view.setInt32(5 * reals.entrySize + weight.offset, 71, true)
  reals.unmap()
  loaded.close()
}

function attach(programFd: number, ifindex: number): number {
  const options = Buffer.alloc(64)
  options.writeBigUInt64LE(64n, 0)
  options.writeUInt32LE(4, 8)
  return need(libbpf().bpf_link_create(programFd, ifindex, 37, options), 'attach')
}

function counted(plane: KernelDataplane): bigint {
  const { u64 } = plane.map('verdicts')
  return (
    u64[(sizes.cpus - 1) * PM_VERDICT_MAX + VERDICT + 1]! + u64[(sizes.cpus - 1) * PM_VERDICT_MAX + VERDICT]!
  )
}

/** Exactly what one director of this version has pinned, on both interfaces, and nothing beside. */
/** `beside`: what stands beside XDP has been attached since. */
function assertFixedPoint(plane: KernelDataplane, beside: boolean): void {
  const links = INTERFACES.flatMap((name) => {
    const ifindex = libc.if_nametoindex(name)
    return [`link-${ifindex}`, `name-${ifindex}`, ...(beside ? [`relay-${ifindex}`] : [])]
  })
  const programs = ['object', 'program', ...(beside ? ['object-relay', 'program-relay'] : [])]
  assert.deepEqual(readdirSync(plane.pinDirectory!).sort(), [...MAP_NAMES, ...programs, ...links].sort())
  assert.equal(existsSync(`${plane.pinDirectory}-new`), false)
  const pins = new Pins(plane.pinDirectory!)
  for (const ifindex of pins.links()) {
    const fd = pins.openLink(ifindex)
    assert.equal(linkInfo(fd).programId, plane.program().id)
    libc.close(fd)
  }
}

function assertCarried(plane: KernelDataplane): void {
  const { view } = plane.map('connections4')
  assert.equal(ConnRecord.getWord(view, 9 * Conn4Record.size + Conn4Record.offsets.c), 0x103)
  assert.equal(ConnRecord.getReal(view, 9 * Conn4Record.size + Conn4Record.offsets.c), 5)
  assert.equal(RealRecord.getWeight(plane.map('reals').view, 5 * RealRecord.size), 71)
}

test('migration: connections, rules, counters and attachments of an older layout go on', {
  skip,
}, async () => {
  startOlder()
  sendFrame()
  assert.deepEqual(pinnedSizes(defaultPinDirectory()), sizes)
  const plane = await KernelDataplane.open({ sizes, objectPath: programs.compile(VERDICT + 1) })
  try {
    assert.equal(plane.adopted, true)
    assertFixedPoint(plane, false)
    assertCarried(plane)
    const before = counted(plane)
    assert.ok(before >= 1n, 'what the older program counted is there')
    sendFrame()
    await until(() => counted(plane) > before, 'the new program counts on')
  } finally {
    await plane.detach()
    await plane.close()
  }
})

test('migration: what stands beside the packet program, and is refused, keeps nothing from being carried', {
  skip,
}, async () => {
  startOlder()
  const pins = new Pins(defaultPinDirectory())
  const beside = loadOlder(programs.compile(VERDICT, olderTypes, 'out'), sizes)
  pins.pinProgram(beside.programFd, 'out')
  const ifindex = libc.if_nametoindex(INTERFACES[0]!)
  pins.noteFilter(ifindex, INTERFACES[0]!, 'out')
  putFilter(beside.programFd, { ifindex, name: INTERFACES[0]! }, 'egress')
  beside.close()
  const objects = { objectPath: programs.compile(VERDICT + 1), outObjectPath: '/nowhere/out.o' }
  const plane = await KernelDataplane.open({ sizes, ...objects })
  try {
    assertFixedPoint(plane, false)
    assertCarried(plane)
    assert.equal(filterProgram(ifindex, 'egress'), 0, 'nothing of it is left')
    plane.seeAnswers(true)
    assert.match(plane.answers()!.refused.join(), /nowhere\/out\.o/)
  } finally {
    await plane.detach()
    await plane.close()
  }
})

test('migration: what cannot be carried is refused before anything is changed', { skip }, async () => {
  startOlder()
  const pinned = readdirSync(defaultPinDirectory())
  const other = { ...sizes, connections4: 2048 }
  await assert.rejects(
    KernelDataplane.open({ sizes: other, objectPath: programs.compile(VERDICT + 1) }),
    /its map connections4 has 1024 entries, this version's 2048; .*pointsman detach/,
  )
  forgetOlder()
  await assert.rejects(
    KernelDataplane.open({ sizes, objectPath: programs.compile(VERDICT + 1) }),
    /Cannot carry on with .*: .*pointsman detach/,
  )
  assert.deepEqual(readdirSync(defaultPinDirectory()), pinned)
  assert.equal(existsSync(`${defaultPinDirectory()}-new`), false)
  assert.equal(detachPinned(), true)
})

/** A connection begins on the older maps, if an interface still has the program that works on them. */
function beginOnOlder(): boolean {
  const pins = new Pins(defaultPinDirectory())
  for (const place of [pins, pins.beside()]) {
    if (!place.complete()) continue
    const maps = openPinnedMaps(place)
    const programFd = place.openProgram()
    const links = pins.links().map((ifindex) => pins.openLink(ifindex))
    try {
      const { id } = programInfo(programFd)
      const isInForce = links.some((fd) => linkInfo(fd).programId === id)
      if (maps.layout.version !== OLDER_VERSION || !isInForce) continue
      const connections = mapOf(maps.fds.get('connections4')!, 'connections4', maps.layout)
      const conn = recordOf(maps.layout, 'connections4').fields.find(({ name }) => name === 'c')!
      ConnRecord.setReal(connections.view, 11 * connections.entrySize + conn.offset, 9)
      connections.unmap()
      return true
    } finally {
      for (const fd of [programFd, ...links]) libc.close(fd)
      maps.close()
    }
  }
  return false
}

/** Runs a director that is killed after a number of steps; the step, or null when it got through. */
function killedAfter(steps: number, request: Omit<Ending, 'after' | 'options'>): string | null {
  const script = fileURLToPath(new URL('./ending-process.ts', import.meta.url))
  const options = { sizes, objectPath: programs.compile(VERDICT + 1) }
  const argument = JSON.stringify({ ...request, options, after: steps } satisfies Ending)
  const argv = ['--import', import.meta.resolve('tsx'), script, argument]
  const { stdout, stderr, signal } = spawnSync(process.execPath, argv, { encoding: 'utf8' })
  if (signal === 'SIGKILL') return stdout.trim()
  assert.match(stdout, /^through/, stderr)
  return null
}

/** Steps of one kind (a map pinned, a map unpinned) are killed at once or twice, not for each of the maps. */
async function killAtEveryStep(
  prepare: () => Omit<Ending, 'after' | 'options'>,
  judge: (plane: KernelDataplane, began: boolean) => void,
): Promise<number> {
  const seen = new Map<string, number>()
  let kills = 0
  for (let steps = 1; ; steps++) {
    const request = prepare()
    const step = killedAfter(steps, request)
    if (step === null) return kills
    kills++
    const began = request.older && beginOnOlder()
    const plane = await KernelDataplane.open({ sizes, objectPath: programs.compile(VERDICT + 1) })
    try {
      await plane.attach(INTERFACES)
      assertFixedPoint(plane, true)
      judge(plane, began)
    } catch (error) {
      throw new Error(`killed after: ${step}`, { cause: error })
    } finally {
      await plane.detach()
      await plane.close()
    }
    assert.equal(
      existsSync(dirname(defaultPinDirectory())) &&
        readdirSync(dirname(defaultPinDirectory())).some((name) => defaultPinDirectory().includes(name)),
      false,
      `debris of ${step}`,
    )
    const kind = step.replace(/(pinned) [a-z_0-9]+ /, '$1 a map ')
    const times = (seen.get(kind) ?? 0) + 1
    seen.set(kind, times)
    if (times === 2 && kind.includes('a map')) steps += MAP_NAMES.length - 4
  }
}

let afterKill = 0

test('migration: killed at any step, the next start carries everything and leaves no debris', {
  skip,
}, async () => {
  const kills = await killAtEveryStep(
    () => {
      startOlder()
      return { older: true, interfaces: INTERFACES, detach: false }
    },
    (plane, began) => {
      assertCarried(plane)
      const { view } = plane.map('connections4')
      const real = ConnRecord.getReal(view, 11 * Conn4Record.size + Conn4Record.offsets.c)
      if (began) assert.equal(real, 9, 'what the older program did after the kill is carried')
      if (began) afterKill++
    },
  )
  assert.ok(kills >= 15, `${kills}`)
  assert.ok(afterKill >= 10 && afterKill < kills, `${afterKill} of ${kills}`)
})

test('start and attach: killed at any step, one more start is a fixed point', { skip }, async () => {
  const kills = await killAtEveryStep(
    () => {
      detachPinned()
      return { older: false, interfaces: INTERFACES, detach: false }
    },
    () => {},
  )
  assert.ok(kills >= 7, `${kills}`)
})

test('detach: killed at any step, one more start is a fixed point', { skip }, async () => {
  const kills = await killAtEveryStep(
    () => {
      detachPinned()
      return { older: false, interfaces: INTERFACES, detach: true }
    },
    () => {},
  )
  assert.ok(kills >= 10, `${kills}`)
})
