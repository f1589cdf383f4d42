/**
 * A generator inside the kernel: BPF_PROG_TEST_RUN with live frames lets an XDP program send real frames
 * out of an interface, far faster than any socket. The forwarder and whoever takes the frames run in the
 * same thread, in softirq; so the time of this thread is the time of everything.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { libbpf, need } from '../linux/libbpf.ts'
import { addressOf } from '../linux/libc.ts'
import { inNetns } from '../linux/netns.ts'
import { threadNs } from './bpf.ts'

const BPF_F_TEST_XDP_LIVE_FRAMES = 2
/** struct bpf_test_run_opts of <bpf/bpf.h>. */
const OPTIONS = {
  size: 80,
  dataIn: 8,
  dataSizeIn: 24,
  contextIn: 32,
  contextSizeIn: 48,
  repeat: 60,
  flags: 68,
}
/** struct xdp_md */
const CONTEXT_SIZE = 24

/** Runs the program `count` times on copies of `frame` that come in by `ifindex`; XDP_TX sends them out there. */
export function runLive(programFd: number, frame: Uint8Array, ifindex: number, count: number): void {
  const context = Buffer.alloc(CONTEXT_SIZE)
  context.writeUInt32LE(frame.length, 4)
  context.writeUInt32LE(ifindex, 12)
  const request = Buffer.alloc(OPTIONS.size)
  request.writeBigUInt64LE(BigInt(OPTIONS.size), 0)
  request.writeBigUInt64LE(addressOf(frame), OPTIONS.dataIn)
  request.writeUInt32LE(frame.length, OPTIONS.dataSizeIn)
  request.writeBigUInt64LE(addressOf(context), OPTIONS.contextIn)
  request.writeUInt32LE(context.length, OPTIONS.contextSizeIn)
  request.writeUInt32LE(count, OPTIONS.repeat)
  request.writeUInt32LE(BPF_F_TEST_XDP_LIVE_FRAMES, OPTIONS.flags)
  need(libbpf().bpf_prog_test_run_opts(programFd, request), `send ${count} live frames`)
}

/** Packets that an interface of a network namespace has received. */
export function receivedPackets(namespace: string, device: string): number {
  const text = inNetns(namespace, () => readFileSync('/proc/thread-self/net/dev', 'utf8'))
  const fields = text
    .split('\n')
    .find((line) => line.trim().startsWith(`${device}:`))
    ?.split(':')[1]
    ?.trim()
    .split(/\s+/)
  if (fields === undefined) throw new Error(`No interface ${device} in ${namespace}`)
  return Number(fields[1])
}

/** Time of this thread and of the kernel's softirq thread of its CPU. */
export class SoftirqClock {
  readonly #schedstat: string | null

  constructor(cpu: number) {
    const pid = readdirSync('/proc').find((name) => {
      if (!/^\d+$/.test(name)) return false
      try {
        return readFileSync(`/proc/${name}/comm`, 'utf8').trim() === `ksoftirqd/${cpu}`
      } catch {
        return false
      }
    })
    this.#schedstat = pid === undefined ? null : `/proc/${pid}/schedstat`
  }

  nowNs(): number {
    return threadNs() + this.otherNs()
  }

  /** Of the kernel's thread alone. */
  otherNs(): number {
    return this.#schedstat === null ? 0 : Number(readFileSync(this.#schedstat, 'utf8').split(' ')[0])
  }
}
