/** BPF_PROG_TEST_RUN: one frame through a loaded XDP program, without any interface. */

import { libbpf, need } from '../../linux/libbpf.ts'
import { addressOf } from '../../linux/libc.ts'

export const XdpAction = { Aborted: 0, Drop: 1, Pass: 2, Tx: 3, Redirect: 4 } as const
export type XdpAction = (typeof XdpAction)[keyof typeof XdpAction]

export interface TestRun {
  readonly action: number
  /** The frame as the program left it. */
  readonly frame: Uint8Array
  /** Per run, of all repeats, without the cost of entering the kernel. */
  readonly durationNs: number
}

export interface TestRunOptions {
  /** Interface the frame seems to come from: must exist in the calling thread's network namespace. */
  readonly ifindex: number
  /** Runs; the frame is not restored between them, nor is it shorter again after encapsulation. */
  readonly repeat?: number
}

/** Offsets of struct bpf_test_run_opts in <bpf/bpf.h>. */
const OPTIONS = {
  size: 80,
  dataIn: 8,
  dataOut: 16,
  dataSizeIn: 24,
  dataSizeOut: 28,
  contextIn: 32,
  contextSizeIn: 48,
  retval: 56,
  repeat: 60,
  duration: 64,
} as const
/** struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex. */
const CONTEXT_SIZE = 24
/** Room for what a program may add: far more than any header stack of ours. */
const GROWTH = 512

/** @param frame at least 14 bytes, else the kernel refuses it */
export function testRun(programFd: number, frame: Uint8Array, options: TestRunOptions): TestRun {
  const output = new Uint8Array(frame.length + GROWTH)
  const context = Buffer.alloc(CONTEXT_SIZE)
  context.writeUInt32LE(frame.length, 4)
  context.writeUInt32LE(options.ifindex, 12)
  const request = Buffer.alloc(OPTIONS.size)
  request.writeBigUInt64LE(BigInt(OPTIONS.size), 0)
  request.writeBigUInt64LE(addressOf(frame), OPTIONS.dataIn)
  request.writeBigUInt64LE(addressOf(output), OPTIONS.dataOut)
  request.writeUInt32LE(frame.length, OPTIONS.dataSizeIn)
  request.writeUInt32LE(output.length, OPTIONS.dataSizeOut)
  request.writeBigUInt64LE(addressOf(context), OPTIONS.contextIn)
  request.writeUInt32LE(context.length, OPTIONS.contextSizeIn)
  request.writeUInt32LE(options.repeat ?? 1, OPTIONS.repeat)
  need(
    libbpf().bpf_prog_test_run_opts(programFd, request),
    `run a frame of ${frame.length} bytes from ifindex ${options.ifindex} through the program`,
  )
  return {
    action: request.readUInt32LE(OPTIONS.retval),
    frame: output.slice(0, request.readUInt32LE(OPTIONS.dataSizeOut)),
    durationNs: request.readUInt32LE(OPTIONS.duration),
  }
}
