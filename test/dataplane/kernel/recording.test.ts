/** Packets before and behind the packet program in the kernel, in a network namespace of its own. */
import assert from 'node:assert/strict'
import { readdirSync, readlinkSync } from 'node:fs'
import test from 'node:test'
import type { Sizes } from '../../../dataplane/dataplane.ts'
import { linkInfo } from '../../../dataplane/kernel/object-info.ts'
import { KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { Action, PM_VERDICT_MAX, Verdict } from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import type { RecordingWanted } from '../../../dataplane/recording.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { libbpf } from '../../../linux/libbpf.ts'
import { check } from '../../../linux/libc.ts'
import { parsePrefix } from '../../../net/prefix.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, sysctl, until } from '../private-network.ts'

const skip = skipWithoutPrivileges
const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const ALL: RecordingWanted = { client: null, service: null, verdicts: null, snap: 64, sample: 1 }

if (!skip) {
  enterPrivateNetwork()
  // What the kernel says by itself would be counted at any time.
  sysctl('net/ipv6/conf/default/disable_ipv6', 1)
  for (const [one, other] of [
    ['rec0', 'rec1'],
    ['rec2', 'rec3'],
  ]) {
    ip(`link add ${one} type veth peer name ${other}`)
    for (const name of [one, other]) ip(`link set ${name} up`)
  }
}

/** An IPv4 packet of UDP from 10.7.0.`host`, with a mark at its end. */
function frame(host: number, mark: number): Uint8Array {
  const bytes = new Uint8Array(100)
  bytes.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 0])
  bytes.set([0x45, 0, 0, 86, 0, 0, 0, 0, 64, 17, 0, 0, 10, 7, 0, host, 10, 7, 1, 1, 0x30, 0x39, 0, 53], 14)
  bytes[60] = mark
  return bytes
}

function send(...frames: readonly Uint8Array[]): void {
  const socket = new PacketSocket('rec1')
  for (const bytes of frames) socket.send(bytes)
  socket.close()
}

for (const mode of ['native', 'tc'] as const) {
  test(`${mode}: packets that are wanted are recorded, with their verdicts, while somebody does`, {
    skip,
  }, async () => {
    const plane = await KernelDataplane.open({ sizes, mode, pinDirectory: null })
    try {
      await plane.attach(['rec0'])
      const usual = plane.program()
      const client = parsePrefix('10.7.0.4/30')
      assert.ok(typeof client !== 'string')
      const verdicts = [Verdict.PassNotConfigured, Verdict.ForwardDr]
      send(frame(4, 1))
      const tape = await plane.record({ client, verdicts, service: null, snap: 64, sample: 1 })
      await assert.rejects(plane.record({ ...ALL }), /somebody does already/)
      send(frame(3, 2), frame(4, 3), frame(7, 4), frame(8, 5))
      const found: object[] = []
      await until(() => {
        tape.read(({ came: { bytes, length }, verdict, action }) => {
          found.push({ mark: bytes[60], kept: bytes.length, length, verdict, action })
          return true
        })
        return found.length >= 2
      }, 'two packets')
      // A comparison with the kernel finds what it should.
      const [attached] = await plane.attach(['rec0'])
      assert.ok(attached !== undefined && 'attached' in attached)
      await tape.close()
      send(frame(4, 6))
      assert.deepEqual(plane.program(), usual)
      const as = { kept: 64, length: 100, verdict: Verdict.PassNotConfigured, action: Action.Pass }
      assert.deepEqual(
        found,
        [3, 4].map((mark) => ({ mark, ...as })),
      )
      assert.equal(plane.interfaces().length, 1)
    } finally {
      await plane.close()
    }
  })
}

/** Looks ten milliseconds apart: the kernel's own thread may wait for a core as long as anybody. */
const STILL_LOOKS = 30

/** Until the number stays the same: the kernel has carried everything that it took. */
async function settled(look: () => bigint): Promise<bigint> {
  let before = -1n
  let looks = 0
  await until(() => {
    const now = look()
    looks = now === before ? looks + 1 : 0
    before = now
    return looks >= STILL_LOOKS
  }, 'all packets to be counted')
  return before
}

for (const mode of ['native', 'tc'] as const) {
  test(`${mode}: packets that came faster than they were read are counted as lost, every one`, {
    skip,
  }, async () => {
    const plane = await KernelDataplane.open({ sizes, mode, pinDirectory: null })
    try {
      await plane.attach(['rec0'])
      const tape = await plane.record({ ...ALL, snap: 1024 })
      const counted = (): bigint => {
        const { u64 } = plane.map('verdicts')
        let sum = 0n
        for (let cpu = 0; cpu < sizes.cpus; cpu++)
          sum += u64[cpu * PM_VERDICT_MAX + Verdict.PassNotConfigured]!
        return sum
      }
      const big = new Uint8Array(1000)
      big.set(frame(4, 1))
      const before = await settled(counted)
      // Of each packet both frames are kept, so 8 MiB are full after some four thousand.
      for (let i = 0; i < 20; i++) send(...Array.from({ length: 500 }, () => big))
      const packets = (await settled(counted)) - before
      const lost = tape.lost()
      assert.ok(lost > 0, `none of ${packets} packets is lost`)
      let read = 0
      tape.read(({ came: { bytes } }) => {
        assert.ok(bytes.length <= 1024)
        read++
        return true
      })
      assert.ok(read > 1000, String(read))
      assert.equal(BigInt(read) + BigInt(lost), packets)
      // There is room again.
      send(frame(4, 2))
      await until(() => {
        tape.read(({ came: { bytes } }) => {
          if (bytes[60] === 2) read = -1
          return true
        })
        return read === -1
      }, 'the recording to go on')
      await tape.close()
    } finally {
      await plane.close()
    }
  })
}

/** Descriptors of this process that stand for links of BPF. */
function ownLinks(): number[] {
  const folder = '/proc/self/fd'
  const isLink = (name: string): boolean => {
    try {
      return /bpf.link/.test(readlinkSync(`${folder}/${name}`))
    } catch {
      return false
    }
  }
  return readdirSync(folder).filter(isLink).map(Number)
}

test('an interface whose program somebody has torn off keeps no other one on the recorder', {
  skip,
}, async () => {
  const plane = await KernelDataplane.open({ sizes, mode: 'native', pinDirectory: null })
  try {
    await plane.attach(['rec0', 'rec2'])
    const programOn = (name: string): number =>
      JSON.parse(ip(`-json link show ${name}`))[0].xdp?.prog?.id ?? 0
    const usual = programOn('rec0')
    assert.equal(programOn('rec2'), usual)
    const tape = await plane.record(ALL)
    assert.notEqual(programOn('rec2'), usual)
    const recorder = programOn('rec0')
    const [link] = ownLinks().filter((fd) => linkInfo(fd).programId === recorder)
    assert.ok(link !== undefined)
    check(libbpf().bpf_link_detach(link), 'tear a program off')
    const torn = ['rec0', 'rec2'].find((name) => programOn(name) === 0)
    const other = torn === 'rec0' ? 'rec2' : 'rec0'
    assert.equal(programOn(other), recorder)
    await assert.rejects(tape.close(), new RegExp(`replace the program on ${torn}`))
    assert.equal(programOn(other), usual)
    await assert.rejects(plane.record(ALL), new RegExp(`replace the program on ${torn}`))
    assert.equal(programOn(other), usual)
    const attached = await plane.attach(['rec0', 'rec2'])
    assert.ok(attached.every((one) => 'attached' in one))
    assert.deepEqual([programOn('rec0'), programOn('rec2')], [usual, usual])
  } finally {
    await plane.close()
  }
})
