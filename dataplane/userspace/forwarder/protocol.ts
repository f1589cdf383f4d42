/**
 * What the daemon and the forwarder say to each other: lines of JSON over a unix socket in the run directory.
 * A daemon of one version may meet a forwarder of another, if only to replace it: what they need for that
 * (`hello`, `leave`, `detach`) stays as it is whatever else changes.
 */
import type { AttachedInterface, AttachResult, WantedInterface } from '../../dataplane.ts'
import type { RecordingFilter } from '../../recording.ts'

export const PROTOCOL_VERSION = 1
export const CONTROL_SOCKET = 'forwarder.sock'
/** What the forwarder says when nobody listens, and when it ends by a fault. */
export const FORWARDER_LOG = 'forwarder.log'
export const MAPS_NAME = 'userspace.maps'

/** Same words, same forwarder: with other ones it is replaced. */
export interface ForwarderSetup {
  readonly workers: number
  readonly intake: 'packet' | 'xdp'
  readonly busyPoll: boolean
  /** Bytes of every receive ring; 0: as usual. */
  readonly ringBytes: number
  /** Of the program files it was started from. */
  readonly build: string
  /** Of the file that its maps are. */
  readonly maps: number
}

/** The first thing a forwarder says. */
export interface Hello {
  readonly hello: typeof PROTOCOL_VERSION
  readonly pid: number
  readonly setup: ForwarderSetup
  readonly interfaces: readonly AttachedInterface[]
}

export type Order =
  /** Takes packets from these interfaces. */
  | { readonly order: 'attach'; readonly interfaces: readonly WantedInterface[] }
  /** Rules in the maps have changed. */
  | { readonly order: 'published' }
  /** Answered when every packet is through that was under way. */
  | { readonly order: 'quiesce' }
  /** Leaves frames in the rings until `resume`, or until whoever asked for it hangs up. */
  | { readonly order: 'hold' }
  | { readonly order: 'resume' }
  /** Records packets into the rings of a file, one for each worker, as long as whoever asked for it is there. */
  | { readonly order: 'record'; readonly path: string; readonly filter: RecordingFilter }
  | { readonly order: 'record-no-more' }
  /** Ends it; another one carries on before the lease of the claims is over. */
  | { readonly order: 'leave' }
  /** Ends it and removes everything it has put into the kernel. */
  | { readonly order: 'detach' }

export type NumberedOrder = Order & { readonly number: number }

export interface Answer {
  readonly number: number
  /** Null: it was carried out. */
  readonly error: string | null
  /** Of `attach`. */
  readonly results?: readonly AttachResult[]
  readonly interfaces: readonly AttachedInterface[]
}

/** Said without being asked. */
export type Notice =
  | { readonly notice: 'interfaces'; readonly interfaces: readonly AttachedInterface[] }
  | { readonly notice: 'log'; readonly line: string }

export type Said = Hello | Answer | Notice

/** Cuts a stream into lines and hands on what they hold; throws `SyntaxError` for one that is no JSON. */
export function lines<T>(onValue: (value: T) => void): (chunk: string) => void {
  let rest = ''
  return (chunk) => {
    const parts = (rest + chunk).split('\n')
    rest = parts.pop() ?? ''
    for (const part of parts) onValue(JSON.parse(part) as T)
  }
}

export function line(value: Said | NumberedOrder): string {
  return `${JSON.stringify(value)}\n`
}
