/** What a thread of a race is given, and where it says what it has seen. */
import type { InstanceSeat } from '../../dataplane/wasm/instance.ts'

export interface RaceSetup {
  readonly thread: number
  readonly threads: number
  readonly seed: number
  readonly interfaces: { readonly client: number; readonly server: number }
  /** Words that all share: 0 stop, 1 the clock of the wasm program, from 2 on a tally for each thread. */
  readonly shared: SharedArrayBuffer
  readonly host: { readonly seat: InstanceSeat; readonly jobs: number; readonly frames: number }
}

export const STOP = 0
export const CLOCK = 1
export const TALLIES = 2
export const TALLY_WORDS = 4
export const BATCH = 32
/** Of linear memory, for each frame of a batch. */
export const FRAME_ROOM = 512

/** Of a process that races the kernel's program: threads would share libbpf, which has one log for all. */
export interface RaceProcessSetup {
  readonly thread: number
  readonly threads: number
  readonly seed: number
  readonly seconds: number
  readonly interfaces: { readonly client: number; readonly server: number }
  readonly programId: number
}
