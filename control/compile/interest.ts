/**
 * The filter in front of the packet program: a bit per hash of each address and port that a rule is about, so
 * that packets to other ports of a virtual address cost as little as those to strangers. A bit too many costs
 * a look-up, one too few a connection: bits are set before the rule is published, and stay while its records
 * do, as real servers that were removed stay while a connection refers to them.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import {
  PM_INTEREST_BITS,
  RealFlag,
  RealRecord,
  ServiceFlag,
  ServiceRecord,
  Slot,
} from '../../dataplane/layout/layout.gen.ts'

/** Of bpf/lookup.h: the bits of one address. */
const PM_INTEREST_LINE = 512
const LINES = PM_INTEREST_BITS / PM_INTEREST_LINE

/** One step of the packet program's address hash (`pm_mix` in bpf/lookup.h). */
function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x85ebca6b)
  return mixed ^ (mixed >>> 13)
}

const SERVICE = { words: ServiceRecord.size / 4, ...places(ServiceRecord.offsets) }
const REAL = { words: RealRecord.size / 4, ...places(RealRecord.offsets) }

interface Place {
  readonly word: number
  readonly shift: number
}

function places(offsets: { readonly addr: number; readonly port: number; readonly family: number }) {
  const place = (offset: number): Place => ({ word: offset >>> 2, shift: (offset % 4) * 8 })
  return { address: offsets.addr >>> 2, port: place(offsets.port), family: place(offsets.family) }
}

/** Of FTP, in network order: its data connections go to other ports of the same address. */
const FTP_PORT = 21 << 8
const REAL_FLAGS = RealRecord.offsets.flags / 4
const SERVICE_FLAGS = ServiceRecord.offsets.flags / 4
/** Of bpf/lookup.h: with its port, the bit of a service that is tracked just enough. */
const PM_INTEREST_UNTRACKED = 0x10000

/**
 * The bit of the endpoint in the record that begins at `base`; with port 0 that of all its ports.
 * @param besides what the bit is for, if not for interest
 */
function bitOf(record: typeof SERVICE, u32: Uint32Array, base: number, besides = 0): number {
  const field = ({ word, shift }: Place): number => u32[base + word]! >>> shift
  const anyPort =
    record === REAL
      ? (u32[base + REAL_FLAGS]! & RealFlag.AnyPort) !== 0
      : (field(record.port) & 0xffff) === FTP_PORT
  let hash = mix(0x9e3779b9, u32[base + record.address]!)
  if ((field(record.family) & 0xff) === 6) {
    for (let i = 1; i < 4; i++) hash = mix(hash, u32[base + record.address + i]!)
  }
  const port = Math.imul(
    mix(hash, anyPort && besides === 0 ? 0 : (field(record.port) & 0xffff) | besides),
    0xc2b2ae35,
  )
  const line = (hash >>> 0) % LINES
  return line * PM_INTEREST_LINE + ((port ^ (port >>> 16)) & (PM_INTEREST_LINE - 1))
}

function mark(map: MapMemory, bit: number): void {
  Atomics.or(map.u32, bit >>> 5, 1 << (bit & 31))
}

export function markService(map: MapMemory, image: Uint32Array): void {
  mark(map, bitOf(SERVICE, image, 0))
  if ((image[SERVICE_FLAGS]! & ServiceFlag.Untracked) !== 0) markUntracked(map, image)
}

/** The service whose record begins at `base` is about to be tracked just enough. */
export function markUntracked(map: MapMemory, u32: Uint32Array, base = 0): void {
  mark(map, bitOf(SERVICE, u32, base, PM_INTEREST_UNTRACKED))
}

/** Answers of a real server come from there. */
export function markReal(map: MapMemory, image: Uint32Array): void {
  mark(map, bitOf(REAL, image, 0))
}

/**
 * Brings the filter to what the records say, whatever it was before; packets find every bit they need meanwhile.
 *
 * @param also images of real servers that stand for endpoints without a record
 */
export function refreshInterest(
  map: MapMemory,
  services: MapMemory,
  reals: MapMemory,
  also: readonly Uint32Array[] = [],
): void {
  const wanted = new Uint32Array(map.u32.length)
  const want = (bit: number): void => {
    wanted[bit >>> 5]! |= 1 << (bit & 31)
  }
  const collect = (records: MapMemory, record: typeof SERVICE, slotOffset: number): void => {
    for (let base = 0; base < records.u32.length; base += record.words) {
      if (records.u32[base + slotOffset / 4] === Slot.Free) continue
      want(bitOf(record, records.u32, base))
      if (record === SERVICE && (records.u32[base + SERVICE_FLAGS]! & ServiceFlag.Untracked) !== 0)
        want(bitOf(SERVICE, records.u32, base, PM_INTEREST_UNTRACKED))
    }
  }
  collect(services, SERVICE, ServiceRecord.offsets.slot)
  collect(reals, REAL, RealRecord.offsets.slot)
  for (const image of also) want(bitOf(REAL, image, 0))
  wanted.forEach((word, index) => {
    if (map.u32[index] !== word) Atomics.store(map.u32, index, word)
  })
}
