/** Where a worker gets its frames from. AF_PACKET and AF_XDP differ behind this. */
import type { JobTable } from './jobs.ts'

export interface FrameSource {
  /** The interface frames come from. */
  readonly ifindex: number
  /** The kernel has no copy of its frames: what is passed has to be handed back, whatever it is. */
  readonly takesAll: boolean
  /** Readable when frames wait. */
  readonly fd: number
  /**
   * Fills up to `room` jobs from index `from` on with frames that lie in linear memory, in the order
   * of arrival; returns how many. They stay in place until `release`.
   */
  receive(jobs: JobTable, from: number, room: number): number
  /** All frames received so far have been dealt with. */
  release(): void
  /** Frames lost because nobody took them in time, since the last call. */
  takeDrops(): number
  /**
   * Sends the frames of the jobs `from` to `end` - 1, which sources of this kind received, without any
   * copy, and passes over dropped ones; returns the first it cannot send. Engines without such a way
   * leave it out.
   */
  forward?(from: number, end: number): number
  /** Hands over what `forward` has gathered. */
  flush?(): void
  /** No more frames; lets go of what it holds. The file descriptor is closed by its owner. */
  close?(): void
  /** Deals with an error on `fd`, so that waiting for frames rests again. */
  recover(): void
}
