/** What the daemon's thread and the packet workers say to each other. */
import { QueueRecord, RingRecord } from '../../layout/layout.gen.ts'
import type { InstanceSeat } from '../../wasm/instance.ts'
import type { Region } from '../../wasm/region.ts'
import type { ClaimChange } from '../claims/tracker.ts'
import type { ReceiveRing } from '../packet/rings.ts'
import type { XskQueue } from '../xsk/socket.ts'
import type { TapeOrder } from './tape.ts'

/** What a tap keeps in linear memory: `struct pm_ring` or `struct pm_queue`. */
export const TAP_RECORD_BYTES = Math.max(QueueRecord.size, RingRecord.size)
/** Ports are numbered from 1 to this. */
export const TAPS_MAX = 255

/** Room for a ring to send from, and for its `struct pm_ring`. */
export interface SendRoom extends Region {
  readonly record: number
}

/** Everything a worker needs to start; plain data and shared memory. */
export interface WorkerSetup {
  readonly seat: InstanceSeat
  /** Jobs per batch. */
  readonly batch: number
  /** Records of `struct pm_job`, one more than that. */
  readonly jobs: Region
  /** Records of `struct pm_arrival`, as many as jobs. */
  readonly arrivals: Region
  /** A record of `TAP_RECORD_BYTES` for every tap number. */
  readonly taps: Region
  /** For the interfaces that frames are sent out of first. */
  readonly sendRooms: readonly SendRoom[]
  /** For a `struct pm_pool` and its stack. */
  readonly pool: Region
  readonly large: Region
  /** For datagrams that came in fragments, put together. */
  readonly together: Region
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

/** Where an source's frames come from. */
export type TapSource =
  | { readonly kind: 'packet'; readonly ring: ReceiveRing }
  | { readonly kind: 'xsk'; readonly queue: XskQueue }

export type WorkerOrder =
  | {
      readonly kind: 'add-tap'
      readonly tap: number
      readonly source: TapSource
      /** Interface that leads to the kernel's stack. */
      readonly stackIfindex: number
    }
  | { readonly kind: 'remove-tap'; readonly tap: number }
  | { readonly kind: 'claims'; readonly change: ClaimChange }
  /** Asks for nothing but the answer, which comes between two batches. */
  | { readonly kind: 'pause' }
  /** Records packets, in the place of an earlier recording; null: none any more. */
  | { readonly kind: 'record'; readonly tape: TapeOrder | null }
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
