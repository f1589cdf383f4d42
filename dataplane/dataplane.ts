/**
 * What the control plane knows of a data plane: named regions of memory and a place to attach.
 *
 * Both hosts of the packet program (kernel: XDP and memory-mapped BPF arrays; userspace: wasm and its
 * linear memory) present their maps as plain memory with the layout of `layout.gen.ts`. Planning,
 * listing, counting and expiry are written once, against this interface.
 */
import { MachineError } from '../linux/machine-error.ts'
import type { MapName } from './layout/layout.gen.ts'
import type { RecordingWanted, Tape } from './recording.ts'

/** One map: `entries` records of `entrySize` bytes, live (the packet program reads and writes them too). */
export interface MapMemory {
  readonly name: MapName
  readonly entries: number
  /** Bytes from one record to the next. */
  readonly entrySize: number
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly u32: Uint32Array
  readonly i32: Int32Array
  readonly u64: BigUint64Array
}

/** How large the maps are; fixed when a data plane is opened. */
export interface Sizes {
  readonly services: number
  /** Power of two. */
  readonly serviceBuckets: number
  readonly reals: number
  readonly members: number
  /** Lines (not sets) of the IPv4 connection table, power of two. */
  readonly connections4: number
  readonly connections6: number
  /** Of prefixes that are denied or allowed, four in each. Power of two; a few unless given. */
  readonly filterBuckets?: number
  /** Records per real server in `counters`; verdict rows. */
  readonly cpus: number
}

/** xdp and tc: the kernel, with the same maps and pins; `isKernel`. */
export type PlaneKind = 'xdp' | 'tc' | 'userspace' | 'memory'

/** Whether the kernel runs the packet program: it goes on without any process of ours. */
export function isKernel(plane: PlaneKind | 'none'): plane is 'xdp' | 'tc' {
  return plane === 'xdp' || plane === 'tc'
}

/** An interface of the director that packets are taken from. */
export interface AttachedInterface {
  readonly name: string
  readonly ifindex: number
  /** xdp: how the program is attached. */
  readonly mode: 'native' | 'generic' | 'tc' | 'userspace'
  /** Why it is not a better mode, or not all of it. */
  readonly note?: string
  /** xdp: traffic control stands beside it, and sends what it has made ready and cannot send itself. */
  readonly relayed?: boolean
  /** The name that it was wanted by, where it is called otherwise now. */
  readonly wanted?: string
}

/** An interface by its name; `wanted`: by that which the operator knows it by, where that is another. */
export type WantedInterface = string | { readonly name: string; readonly wanted: string }

export function wantedName(one: WantedInterface): string {
  return typeof one === 'string' ? one : one.wanted
}

export function presentName(one: WantedInterface): string {
  return typeof one === 'string' ? one : one.name
}

/** The same interface for another data plane, or another process. */
export function asWanted({ name, wanted }: AttachedInterface): WantedInterface {
  return wanted === undefined ? name : { name, wanted }
}

/** What became of an interface that packets were to be taken from. */
export type AttachResult =
  | { readonly name: string; readonly attached: AttachedInterface }
  | {
      readonly name: string
      /** Why not, with what mends it. */
      readonly refused: string
      /** There is no such interface: it may come yet. */
      readonly absent: boolean
    }

/** Of what the host's own sockets send. */
export interface Answers {
  /** The packet program sees it. */
  readonly seen: boolean
  /** By name: those where it does. */
  readonly interfaces: readonly string[]
  /** Where it does not, in sentences. */
  readonly refused: readonly string[]
}

/** Whether the host's own sockets reach virtual services as other clients do. */
export interface OwnClients {
  readonly served: boolean
  /** Why not, in sentences. */
  readonly refused: readonly string[]
}

export interface Dataplane {
  readonly plane: PlaneKind
  readonly sizes: Sizes
  /**
   * The plane itself has the kernel resolve next hops that packets wait for. Others only count such
   * packets (`drop_next_hop_unresolved`), and somebody has to look.
   */
  readonly resolvesNextHops?: true
  /** What works now but will surprise later, in sentences for the log. */
  readonly warnings?: readonly string[]
  /** Why no packets are taken at all at this moment, in a sentence; null when it is not the plane's fault. */
  trouble?(): string | null
  map(name: MapName): MapMemory
  /** CLOCK_MONOTONIC in ticks (see PM_TICK_SHIFT), unsigned 32-bit, the clock of `expires`. */
  nowTicks(): number
  /** Interfaces in use at this moment, asked of the kernel and not remembered. */
  interfaces(): readonly AttachedInterface[]
  /**
   * Takes packets from exactly these interfaces, as far as it can: one that is refused keeps no other
   * from being taken. To be called again whenever links have changed: what is attached already stays,
   * whatever its name is now, and goes on with the MAC addresses and MTU that the link has now. By which
   * name it was wanted outlives this process with it: after a restart nothing else leads from one to the other.
   */
  attach(interfaces: readonly WantedInterface[]): Promise<readonly AttachResult[]>
  /**
   * To be called after virtual services or real servers changed in the maps, before the change is
   * reported as done: brings in line what the plane keeps outside of them (userspace: the nftables
   * sets that keep the kernel's hands off). Planes without such things leave it out.
   */
  published?(): Promise<void>
  /**
   * Shows the program what the host's own sockets send, too, or no longer: answers of real servers that are this
   * host. Where that cannot be `answers` says why, and it is tried again with every `attach`. Planes that have no
   * place for it leave it out.
   */
  seeAnswers?(on: boolean): void
  /** As it is at this moment; null: nobody has asked for it. */
  answers?(): Answers | null
  /**
   * Has packets cut that are larger than their path and may be fragmented, and fragments put together, where the
   * program alone cannot: once there are `tunnels`, a link that is narrower than others, or `fragments`. Where that
   * cannot be `cutting` says why, and it is tried again with every `attach`. Planes that cut by themselves leave it out.
   */
  cutLarger?(tunnels: boolean, fragments: boolean): void
  /** As it is at this moment; null: there was no need for it. */
  cutting?(): Answers | null
  /** Whether traffic control, or what is beside XDP, may keep fragments until their datagram is whole. */
  gathers?(): boolean
  /**
   * Shows the program what the host's own sockets send to virtual services, or no longer. Where that cannot be
   * `ownClients` says why, and it is tried again with every `attach`. Planes that have no place for it leave it out.
   */
  serveOwn?(on: boolean): void
  /** As it is at this moment; null: nobody has asked for it. */
  ownClients?(): OwnClients | null
  /**
   * Returns when every packet is through that was under way at the call: whatever had been taken out of
   * packets' sight before is read by none any more. Planes that have no packets leave it out.
   */
  quiesce?(): Promise<void>
  /**
   * Keeps what comes and how it leaves from now on, for whoever reads it; costs nothing when nobody does. Planes
   * that have no packets leave it out. Throws `MachineError` with what is missing.
   */
  record?(wanted: RecordingWanted): Promise<Tape>
  /** Stops taking packets and removes everything it left in the system (pins, links, nftables). */
  detach(): Promise<void>
  /** Lets go of this process's handles; what is pinned goes on forwarding (xdp). */
  close(): Promise<void>
  /** Name and identity of the running packet program, for `pointsman status`. */
  program(): { readonly name: string; readonly id: number | null; readonly tag: string | null }
}

/** A data plane could not do what was asked; the message says what was tried and what mends it. */
export class DataplaneError extends MachineError {
  override readonly name = 'DataplaneError'
}

/**
 * For callers to whom a refusal is a failure. An interface that does not exist is none: whoever wants it
 * waits for it.
 */
export function throwRefusals(results: readonly AttachResult[]): void {
  const refused = results.flatMap((result) => ('refused' in result && !result.absent ? [result.refused] : []))
  if (refused.length > 0) throw new DataplaneError(refused.join('\n'))
}
