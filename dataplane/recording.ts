/** Packets as they came to the packet program and as they left it, for whoever records them. */
import { addressToBytes, familyOf, type IpAddress } from '../net/address.ts'
import type { Prefix } from '../net/prefix.ts'
import type { RingMemory } from './ring.ts'

/** Bytes of a frame that are kept at most, and if nothing else is said. */
export const SNAP_MAX = 8192
export const SNAP_DEFAULT = 256

/** What is recorded; null: of every kind. */
export interface RecordingWanted {
  readonly client: Prefix | null
  /** Protocol and port 0: all. */
  readonly service: { readonly protocol: number; readonly address: IpAddress; readonly port: number } | null
  /** Numbers of verdicts. */
  readonly verdicts: readonly number[] | null
  readonly snap: number
  /** One packet of so many. */
  readonly sample: number
}

export interface RecordedFrame {
  readonly ifindex: number
  /** On the wire. */
  readonly length: number
  /** The start of it, as far as it was kept; good only while it is handed out. */
  readonly bytes: Uint8Array
  /** A VLAN tag that stands beside the frame: its protocol above its content; 0: none. */
  readonly tag: number
}

export interface RecordedPacket {
  /** CLOCK_MONOTONIC. */
  readonly atNs: bigint
  readonly verdict: number
  readonly action: number
  readonly came: RecordedFrame
  /** As the program left it; its interface counts where it was sent. */
  readonly left: RecordedFrame
}

/** A recording that goes on until it is closed, or its plane is. */
export interface Tape {
  /** Hands out packets that wait, until `take` has had enough. */
  read(take: (packet: RecordedPacket) => boolean): void
  /** Packets that were wanted and found no room. */
  lost(): number
  /** Why no more will come; null while some may. */
  over(): string | null
  close(): Promise<void>
}

/** `struct pm_recorded` of bpf/record.h; the kept bytes of both frames stand behind it. */
export const Recorded = {
  ...{ at: 0, ifindex: 8, verdict: 12, action: 16, wayOut: 20, length: 24, kept: 28 },
  ...{ lengthOut: 32, keptOut: 36, tag: 40, tagOut: 44 },
} as const
export const RECORDED_BYTES = 48

/** null: no record of ours. */
export function readRecorded(record: Uint8Array): RecordedPacket | null {
  if (record.length < RECORDED_BYTES) return null
  const view = new DataView(record.buffer, record.byteOffset, record.length)
  const word = (at: number): number => view.getUint32(at, true)
  const kept = word(Recorded.kept)
  const end = RECORDED_BYTES + kept + word(Recorded.keptOut)
  if (end > record.length) return null
  return {
    atNs: view.getBigUint64(Recorded.at, true),
    verdict: word(Recorded.verdict),
    action: word(Recorded.action),
    came: {
      ifindex: word(Recorded.ifindex),
      length: word(Recorded.length),
      bytes: record.subarray(RECORDED_BYTES, RECORDED_BYTES + kept),
      tag: word(Recorded.tag),
    },
    left: {
      ifindex: word(Recorded.wayOut),
      length: word(Recorded.lengthOut),
      bytes: record.subarray(RECORDED_BYTES + kept, end),
      tag: word(Recorded.tagOut),
    },
  }
}

/** `struct pm_record_wanted` of bpf/record.h. */
export const WantedFields = {
  ...{ client: 0, virtual: 16, verdicts: 32, clientFamily: 48, clientBits: 52, virtualFamily: 56 },
  ...{ virtualPort: 60, protocol: 62, snap: 64, sample: 68, until: 72, lost: 80 },
} as const
export const WANTED_BYTES = 88

/** All but the time that it goes on until. */
export function writeWanted(
  view: DataView,
  { client, service, verdicts, snap, sample }: RecordingWanted,
): void {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  bytes.fill(0)
  if (client !== null) {
    bytes.set(addressToBytes(client.address), WantedFields.client)
    view.setUint32(WantedFields.clientFamily, client.family, true)
    view.setUint32(WantedFields.clientBits, client.length, true)
  }
  if (service !== null) {
    bytes.set(addressToBytes(service.address), WantedFields.virtual)
    view.setUint32(WantedFields.virtualFamily, familyOf(service.address), true)
    view.setUint16(WantedFields.virtualPort, service.port, false)
    view.setUint8(WantedFields.protocol, service.protocol)
  }
  for (const verdict of verdicts ?? []) bytes[WantedFields.verdicts + (verdict >>> 3)]! |= 1 << (verdict & 7)
  view.setUint32(WantedFields.snap, snap, true)
  view.setUint32(WantedFields.sample, sample, true)
}

/** What is wanted as workers of the userspace plane are told: plain data, in bytes as they stand in packets. */
export interface RecordingFilter {
  readonly client: { readonly bytes: readonly number[]; readonly bits: number } | null
  readonly service: {
    readonly protocol: number
    readonly bytes: readonly number[]
    readonly port: number
  } | null
  readonly verdicts: readonly number[] | null
  readonly snap: number
  readonly sample: number
}

export function filterOf({ client, service, ...rest }: RecordingWanted): RecordingFilter {
  return {
    ...rest,
    client: client === null ? null : { bytes: [...addressToBytes(client.address)], bits: client.length },
    service:
      service === null
        ? null
        : {
            protocol: service.protocol,
            bytes: [...addressToBytes(service.address)],
            port: service.port,
          },
  }
}

/** A worker's ring in a file: positions on pages of their own, whatever pages the machine has. */
export const RING_PAGE = 65_536
export const RING_BYTES = 4 << 20
export const RING_FILE_BYTES = 2 * RING_PAGE + RING_BYTES

/** Behind the writer's position stands how many packets found no room. */
export function ringOf(buffer: ArrayBuffer, offset = 0): RingMemory {
  return {
    consumer: new BigUint64Array(buffer, offset, 1),
    producer: new BigUint64Array(buffer, offset + RING_PAGE, 2),
    data: new Uint8Array(buffer, offset + 2 * RING_PAGE, RING_BYTES),
    bytes: RING_BYTES,
  }
}
