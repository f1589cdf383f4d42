/** A thread that stays on a CPU and sends frames from there; what it and the CPU's softirqs take is the price. */
import { parentPort, workerData } from 'node:worker_threads'
import { inNetns } from '../linux/netns.ts'
import { stayOnCpu } from './bpf.ts'
import { runLive, SoftirqClock } from './live.ts'

export interface SenderRequest {
  /** Path of the generator's network namespace. */
  readonly generator: string
  readonly ifindex: number
  readonly program: number
  readonly frame: Uint8Array
  readonly packets: number
  /** Counts senders that are ready; nobody starts before all are. */
  readonly start: SharedArrayBuffer
  readonly senders: number
}

export type SenderReply =
  | { readonly ok: true; readonly ns: number }
  | { readonly ok: false; readonly why: string }

const cpu = workerData as number
stayOnCpu(cpu)
const clock = new SoftirqClock(cpu)

function send({ generator, ifindex, program, frame, packets, start, senders }: SenderRequest): number {
  const ready = new Int32Array(start)
  return inNetns(generator, () => {
    if (Atomics.add(ready, 0, 1) + 1 === senders) Atomics.notify(ready, 0)
    for (let seen = Atomics.load(ready, 0); seen < senders; seen = Atomics.load(ready, 0)) {
      Atomics.wait(ready, 0, seen, 1)
    }
    const started = clock.nowNs()
    runLive(program, frame, ifindex, packets)
    return clock.nowNs() - started
  })
}

parentPort?.on('message', (request: SenderRequest) => {
  let reply: SenderReply
  try {
    reply = { ok: true, ns: send(request) }
  } catch (error) {
    reply = { ok: false, why: error instanceof Error ? error.message : String(error) }
  }
  parentPort?.postMessage(reply)
})
