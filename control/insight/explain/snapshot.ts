/**
 * The maps of a director as they were at one moment, with what else decides about a packet: enough to run the
 * packet program over a copy, here or on another machine. What nobody has written to is left out, and the
 * counts of verdicts, which decide nothing.
 *
 * Form: one line of JSON, then chunks of maps (number of the map, length, place; then the bytes), then one
 * that says that it is all.
 */
import { z } from 'zod'
import type { Dataplane, Sizes } from '../../../dataplane/dataplane.ts'
import {
  LAYOUT_FINGERPRINT,
  MAP_NAMES,
  MAPS,
  type MapName,
  PM_LAYOUT_VERSION,
  SettingsRecord,
} from '../../../dataplane/layout/layout.gen.ts'
import { linesInUse } from '../../../dataplane/levels.ts'
import { mapEntries } from '../../../dataplane/sizes.ts'
import type { NextHop } from '../../../linux/netlink/next-hop.ts'
import { Turns } from '../../apply/turns.ts'
import { nextHopAnswer, nextHopJson, nextHopOf } from '../../front/api/schema/next-hop.ts'

const FORMAT = 'pointsman snapshot'
const CHUNK_HEAD = 16
const END = 0xffff_ffff
/** What is all zeroes is left out in pieces of this size. */
const PAGE = 4096
/** So much goes out in one piece. */
const PIECE = 64 * 1024
/** Not the counters: the identification of a tunnel's outer header comes from them. */
const LEFT_OUT: ReadonlySet<MapName> = new Set(['verdicts'])
const TABLES: ReadonlySet<MapName> = new Set(['connections4', 'connections6'])

const size = z
  .int()
  .min(1)
  .max(2 ** 28)

const headSchema = z.object({
  format: z.literal(FORMAT),
  version: z.literal(1),
  /** Of the director that took it. */
  pointsman: z.string(),
  layout: z.object({ version: z.int(), fingerprint: z.string() }),
  plane: z.enum(['xdp', 'tc', 'userspace', 'memory']),
  sizes: z.object({
    services: size,
    serviceBuckets: size,
    reals: size,
    members: size,
    connections4: size,
    connections6: size,
    cpus: size,
  }),
  /** The clock that times in the maps are on. */
  ticks: z.int().min(0).max(0xffff_ffff),
  takenAt: z.string(),
  interfaces: z.array(z.object({ ifindex: z.int(), name: z.string() })),
  /** Next hops of addresses that were known; what is not here is asked elsewhere, or not known. */
  hops: z.array(z.tuple([z.string(), nextHopAnswer])),
})

type Head = z.infer<typeof headSchema>

export interface SnapshotFacts {
  readonly version: string
  readonly wallMs: number
  readonly interfaces: readonly { readonly ifindex: number; readonly name: string }[]
  readonly hops: Iterable<readonly [address: string, hop: NextHop]>
}

export interface Snapshot {
  readonly pointsman: string
  readonly plane: 'xdp' | 'tc' | 'userspace' | 'memory'
  readonly sizes: Sizes
  readonly ticks: number
  readonly takenAt: string
  readonly interfaces: readonly { readonly ifindex: number; readonly name: string }[]
  readonly hops: ReadonlyMap<string, NextHop>
  readonly chunks: readonly Chunk[]
}

export interface Chunk {
  readonly map: MapName
  readonly offset: number
  readonly bytes: Uint8Array
}

/** It cannot be read; in words for whoever named the file. */
export class SnapshotError extends Error {
  override readonly name = 'SnapshotError'
}

// Taking one

/** Rules in one go, so that they are of one moment; then the tables, whose lines are each a glance. */
export async function* takeSnapshot(dataplane: Dataplane, facts: SnapshotFacts): AsyncGenerator<Uint8Array> {
  const { plane, sizes } = dataplane
  const head: Head = {
    format: FORMAT,
    version: 1,
    pointsman: facts.version,
    layout: { version: PM_LAYOUT_VERSION, fingerprint: String(LAYOUT_FINGERPRINT) },
    plane,
    sizes,
    ticks: dataplane.nowTicks(),
    takenAt: new Date(facts.wallMs).toISOString(),
    interfaces: facts.interfaces.map(({ ifindex, name }) => ({ ifindex, name })),
    hops: Array.from(facts.hops, ([address, to]) => [address, nextHopJson(to)]),
  }
  const rules = MAP_NAMES.filter((name) => !LEFT_OUT.has(name) && !TABLES.has(name))
  const parts = rules.flatMap((name) => [...chunksOf(name, dataplane.map(name).bytes)])
  yield new TextEncoder().encode(`${JSON.stringify(head)}\n`)
  yield* gathered(parts)
  const turns = new Turns()
  for (const name of TABLES) {
    for (const chunk of chunksOf(name, inUse(dataplane, name))) {
      yield written(chunk)
      if (turns.over) await turns.pass()
    }
  }
  yield chunkHead(END, 0, 0)
}

/** The part of a map that may have something in it. */
function inUse(dataplane: Dataplane, name: MapName): Uint8Array {
  const { bytes, entries, entrySize } = dataplane.map(name)
  const { view } = dataplane.map('settings')
  const word =
    name === 'connections4' ? SettingsRecord.getLevels4(view, 0) : SettingsRecord.getLevels6(view, 0)
  return bytes.subarray(0, linesInUse(entries, word) * entrySize)
}

/** Copies of what is not zero. */
function* chunksOf(map: MapName, bytes: Uint8Array): Generator<Chunk> {
  let from: number | null = null
  for (let at = 0; ; at += PAGE) {
    const isOver = at >= bytes.length
    const has = !isOver && !isZero(bytes, at, Math.min(at + PAGE, bytes.length))
    if (from !== null && (!has || at - from >= PIECE)) {
      yield { map, offset: from, bytes: bytes.slice(from, Math.min(at, bytes.length)) }
      from = null
    }
    if (has) from ??= at
    if (isOver) return
  }
}

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + from, (to - from) >> 2)
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false
  return true
}

function* gathered(chunks: readonly Chunk[]): Generator<Uint8Array> {
  for (const chunk of chunks) yield written(chunk)
}

function chunkHead(map: number, length: number, offset: number): Uint8Array {
  const head = new Uint8Array(CHUNK_HEAD)
  const view = new DataView(head.buffer)
  view.setUint32(0, map, true)
  view.setUint32(4, length, true)
  view.setBigUint64(8, BigInt(offset), true)
  return head
}

function written({ map, offset, bytes }: Chunk): Uint8Array {
  const all = new Uint8Array(CHUNK_HEAD + bytes.length)
  all.set(chunkHead(MAP_NAMES.indexOf(map), bytes.length, offset))
  all.set(bytes, CHUNK_HEAD)
  return all
}

// Reading one

/** The longest first line: a hop for each of a million addresses would be longer. */
const HEAD_MAX = 64 * 1024 * 1024

export function readSnapshot(bytes: Uint8Array): Snapshot {
  const end = bytes.subarray(0, HEAD_MAX).indexOf(10)
  if (end < 0) throw new SnapshotError('this is no snapshot: make one with pointsman snapshot FILE')
  const head = readHead(bytes.subarray(0, end))
  const entries = mapEntries(head.sizes)
  const chunks: Chunk[] = []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = end + 1; ; ) {
    if (at + CHUNK_HEAD > bytes.length) throw new SnapshotError('the snapshot is cut short: take it again')
    const number = view.getUint32(at, true)
    if (number === END) break
    const length = view.getUint32(at + 4, true)
    const offset = Number(view.getBigUint64(at + 8, true))
    const map = MAP_NAMES[number]
    at += CHUNK_HEAD
    if (at + length > bytes.length) throw new SnapshotError('the snapshot is cut short: take it again')
    if (map === undefined || offset + length > entries[map] * MAPS[map].entrySize) {
      throw new SnapshotError(`the snapshot is damaged: it has ${length} bytes at ${offset} of map ${number}`)
    }
    chunks.push({ map, offset, bytes: bytes.subarray(at, at + length) })
    at += length
  }
  return {
    ...head,
    hops: new Map(head.hops.map(([address, to]) => [address, nextHopOf(to)])),
    chunks,
  }
}

function readHead(bytes: Uint8Array): Head {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    throw new SnapshotError('this is no snapshot: make one with pointsman snapshot FILE')
  }
  const known = z
    .object({ format: z.literal(FORMAT), layout: z.unknown(), pointsman: z.string() })
    .safeParse(json)
  if (!known.success) throw new SnapshotError('this is no snapshot: make one with pointsman snapshot FILE')
  const parsed = headSchema.safeParse(json)
  const isOurs =
    parsed.success &&
    parsed.data.layout.version === PM_LAYOUT_VERSION &&
    parsed.data.layout.fingerprint === String(LAYOUT_FINGERPRINT)
  if (isOurs) return parsed.data
  const { pointsman } = known.data
  throw new SnapshotError(
    `the snapshot was taken by pointsman ${pointsman}, whose tables are laid out otherwise: explain it with that version`,
  )
}
