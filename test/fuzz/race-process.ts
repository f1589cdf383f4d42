/** One process of a race of the program in the kernel: says that it is ready, is told to go, says what it saw. */
import { testRun, XdpAction } from '../../dataplane/kernel/test-run.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { race, type Sender } from './race-loop.ts'
import type { RaceProcessSetup } from './race-setup.ts'
import type { Tally } from './race-traffic.ts'

const setup = JSON.parse(process.argv[2] ?? '') as RaceProcessSetup
const programFd = need(libbpf().bpf_prog_get_fd_by_id(setup.programId), 'open the program by its number')

const send: Sender = (batch, left) => {
  batch.forEach(({ frame, ifindex }, index) => {
    const out = testRun(programFd, frame, { ifindex })
    if (out.action === XdpAction.Tx || out.action === XdpAction.Redirect) left(index, out.frame)
  })
}

process.once('message', () => {
  const endMs = performance.now() + setup.seconds * 1000
  let last: Tally | null = null
  race(setup, send, (tally) => {
    last = tally
    return performance.now() < endMs
  })
  process.send?.(last, () => process.disconnect?.())
})
process.send?.('ready')
