/** One thread of a race of the program in wasm. */
import { workerData } from 'node:worker_threads'
import { Action, JobRecord, PM_HEADROOM } from '../../dataplane/layout/layout.gen.ts'
import { seatInstance } from '../../dataplane/wasm/instance.ts'
import { fibHost } from '../../dataplane/wasm/program.ts'
import { race, type Sender } from './race-loop.ts'
import { CLOCK, FRAME_ROOM, type RaceSetup, STOP, TALLIES, TALLY_WORDS } from './race-setup.ts'
import { MAC } from './race-traffic.ts'

const bytesOf = (mac: string): Uint8Array =>
  Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16))

function wasmSender(setup: RaceSetup): Sender {
  const { host } = setup
  const { memory } = host.seat
  const clock = new Int32Array(setup.shared)
  const smac = bytesOf(MAC.director)
  const gateway = bytesOf(MAC.gateway)
  const program = seatInstance(
    host.seat,
    fibHost(memory, ({ daddr }) => ({
      result: 'ok',
      ifindex: daddr[0] === 10 ? setup.interfaces.server : setup.interfaces.client,
      smac,
      dmac: daddr[0] === 10 ? Uint8Array.of(2, 0, 0, 0, 2, daddr[3]!) : gateway,
      mtu: 1500,
    })),
  )
  const bytes = new Uint8Array(memory.buffer)
  const view = new DataView(memory.buffer)
  const job = {
    verdict: 0,
    action: 0,
    flags: 0,
    moved: 0,
    segment: 0,
    connection: 0,
    cut: 0,
  }
  return (batch, left) => {
    batch.forEach(({ frame, ifindex }, index) => {
      const data = host.frames + index * FRAME_ROOM + PM_HEADROOM + 2
      bytes.set(frame, data)
      JobRecord.write(view, host.jobs + index * JobRecord.size, {
        ...job,
        data,
        linear: frame.length,
        length: frame.length,
        ifindex,
      })
    })
    program.setNow(Atomics.load(clock, CLOCK) >>> 0)
    program.runBatch(host.jobs, batch.length)
    if (!program.stackIsWhole()) throw new Error('the packet program has overrun its stack')
    for (let index = 0; index < batch.length; index++) {
      const at = host.jobs + index * JobRecord.size
      if (JobRecord.getAction(view, at) !== Action.Send) continue
      const start = JobRecord.getData(view, at) + JobRecord.getMoved(view, at)
      left(index, bytes.subarray(start, start + JobRecord.getLength(view, at)))
    }
  }
}

const setup = workerData as RaceSetup
const words = new Int32Array(setup.shared)
const at = TALLIES + setup.thread * TALLY_WORDS
race(setup, wasmSender(setup), (tally) => {
  words.set([tally.packets, tally.right, tally.answers, tally.wrong], at)
  return Atomics.load(words, STOP) === 0
})
