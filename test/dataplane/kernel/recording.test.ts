/** Packets before and behind the packet program in the kernel, in a network namespace of its own. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Sizes } from '../../../dataplane/dataplane.ts'
import { KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { Action, Verdict } from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import type { RecordingWanted } from '../../../dataplane/recording.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { parsePrefix } from '../../../net/prefix.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, until } from '../private-network.ts'

const skip = skipWithoutPrivileges
const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const ALL: RecordingWanted = { client: null, service: null, verdicts: null, snap: 64, sample: 1 }

if (!skip) {
  enterPrivateNetwork()
  ip('link add rec0 type veth peer name rec1')
  for (const name of ['rec0', 'rec1']) ip(`link set ${name} up`)
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
