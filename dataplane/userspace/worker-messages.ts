/** What the daemon's thread and the packet workers say to each other. */
import type { ReceiveRing } from './af-packet.ts'
import type { ClaimChange } from './claims.ts'
import type { InstanceSeat } from './wasm-instance.ts'
import type { XskQueue } from './xsk-socket.ts'

/** A piece of linear memory. */
export interface Region {
  readonly base: number
  readonly bytes: number
}

/** Everything a worker needs to start; plain data and shared memory. */
export interface WorkerSetup {
  readonly seat: InstanceSeat
  /** Jobs per batch. */
  readonly batch: number
  readonly jobs: Region
  readonly large: Region
  readonly scratch: Region
  /** Address of `settings`. */
  readonly settings: number
  /** Address of this worker's row of `verdicts`. */
  readonly verdicts: number
  /** A 32-bit number that changes with every message, so that a busy worker sees it without a system call. */
  readonly bell: number
  /** An eventfd that becomes readable with every message. */
  readonly wakeFd: number
  readonly busyPoll: boolean
  readonly bypassQueue: boolean
}

/** Where an engine's frames come from. */
export type FrameSource =
  | { readonly kind: 'packet'; readonly ring: ReceiveRing }
  | { readonly kind: 'xsk'; readonly queue: XskQueue }

export type WorkerOrder =
  | {
      readonly kind: 'add-port'
      readonly port: number
      readonly source: FrameSource
      /** Interface that leads to the kernel's stack. */
      readonly stackIfindex: number
    }
  | { readonly kind: 'remove-port'; readonly port: number }
  | { readonly kind: 'claims'; readonly change: ClaimChange }
  /** Leaves frames in the rings until `release`. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'release' }
  | { readonly kind: 'stop' }

export interface NumberedOrder {
  readonly number: number
  readonly order: WorkerOrder
}

/** Every order is answered once it is carried out. */
export interface WorkerAnswer {
  readonly number: number
  readonly error: string | null
}
