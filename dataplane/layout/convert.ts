/**
 * Carrying records from one layout to another, field by field: a plan is made once for a pair of layouts,
 * as runs of bytes wherever a field kept its type, so that a million records are copied by the word.
 */
import { type FieldLayout, isPadding, type RecordLayout, SCALAR_SIZE, type Scalar } from './record.ts'
import type { Layout } from './version.ts'

/** A number or an array of numbers, nested records taken apart: `c.expires`. */
export interface Leaf {
  readonly path: string
  readonly offset: number
  readonly type: Scalar
  readonly count: number
}

interface Move {
  readonly from: number
  readonly to: number
  readonly bytes: number
}

/** A field whose type changed: one number at a time. */
interface Cast {
  readonly from: number
  readonly fromType: Scalar
  readonly to: number
  readonly toType: Scalar
}

/** How a record gets from one layout into another. */
export interface RecordPlan {
  readonly fromSize: number
  readonly toSize: number
  /** In order of `to`, neighbours joined. */
  readonly moves: readonly Move[]
  readonly casts: readonly Cast[]
  /** Every byte stays where it is. */
  readonly identical: boolean
  /** Fields of the old record that the new one has no place for. */
  readonly dropped: readonly string[]
}

export function leavesOf(
  record: RecordLayout,
  layout: Pick<Layout, 'records'>,
  prefix = '',
  base = 0,
): Leaf[] {
  return record.fields
    .filter((field) => !isPadding(field))
    .flatMap((field: FieldLayout): Leaf[] => {
      const { name, type, count } = field
      if (typeof type === 'string') {
        return [{ path: prefix + name, offset: base + field.offset, type, count: count ?? 1 }]
      }
      const nested = layout.records.get(type.record)
      if (nested === undefined) throw new Error(`Layout without record ${type.record}`)
      return leavesOf(nested, layout, `${prefix}${name}.`, base + field.offset)
    })
}

const isWire = (type: Scalar) => type.startsWith('be')

export function planRecord(
  from: RecordLayout,
  fromLayout: Pick<Layout, 'records'>,
  to: RecordLayout,
  toLayout: Pick<Layout, 'records'>,
): RecordPlan {
  const old = new Map(leavesOf(from, fromLayout).map((leaf) => [leaf.path, leaf]))
  const moves: Move[] = []
  const casts: Cast[] = []
  const leaves = leavesOf(to, toLayout).sort((a, b) => a.offset - b.offset)
  for (const leaf of leaves) {
    const source = old.get(leaf.path)
    if (source === undefined) continue
    old.delete(leaf.path)
    const count = Math.min(source.count, leaf.count)
    const size = SCALAR_SIZE[leaf.type]
    const isSame =
      size === SCALAR_SIZE[source.type] && (size === 1 || isWire(source.type) === isWire(leaf.type))
    if (isSame) join(moves, { from: source.offset, to: leaf.offset, bytes: count * size })
    else {
      for (let i = 0; i < count; i++) {
        casts.push({
          from: source.offset + i * SCALAR_SIZE[source.type],
          fromType: source.type,
          to: leaf.offset + i * size,
          toType: leaf.type,
        })
      }
    }
  }
  return {
    fromSize: from.size,
    toSize: to.size,
    moves,
    casts,
    identical:
      from.size === to.size &&
      casts.length === 0 &&
      old.size === 0 &&
      moves.every((move) => move.from === move.to),
    dropped: [...old.keys()],
  }
}

function join(moves: Move[], next: Move): void {
  const last = moves.at(-1)
  if (last !== undefined && last.from + last.bytes === next.from && last.to + last.bytes === next.to) {
    moves[moves.length - 1] = { ...last, bytes: last.bytes + next.bytes }
  } else moves.push(next)
}

const READ: Readonly<Record<Scalar, (view: DataView, at: number) => bigint>> = {
  u8: (view, at) => BigInt(view.getUint8(at)),
  s8: (view, at) => BigInt(view.getInt8(at)),
  u16: (view, at) => BigInt(view.getUint16(at, true)),
  s16: (view, at) => BigInt(view.getInt16(at, true)),
  u32: (view, at) => BigInt(view.getUint32(at, true)),
  s32: (view, at) => BigInt(view.getInt32(at, true)),
  u64: (view, at) => view.getBigUint64(at, true),
  s64: (view, at) => view.getBigInt64(at, true),
  be16: (view, at) => BigInt(view.getUint16(at)),
  be32: (view, at) => BigInt(view.getUint32(at)),
  be64: (view, at) => view.getBigUint64(at),
}

export function readScalar(view: DataView, at: number, type: Scalar): bigint {
  return READ[type](view, at)
}

const READ_NUMBER: Readonly<Record<Scalar, (view: DataView, at: number) => number>> = {
  u8: (view, at) => view.getUint8(at),
  s8: (view, at) => view.getInt8(at),
  u16: (view, at) => view.getUint16(at, true),
  s16: (view, at) => view.getInt16(at, true),
  u32: (view, at) => view.getUint32(at, true),
  s32: (view, at) => view.getInt32(at, true),
  u64: (view, at) => Number(view.getBigUint64(at, true)),
  s64: (view, at) => Number(view.getBigInt64(at, true)),
  be16: (view, at) => view.getUint16(at),
  be32: (view, at) => view.getUint32(at),
  be64: (view, at) => Number(view.getBigUint64(at)),
}

/** The same as a number, which is what a table of a million records can be read as in time. */
export function readNumber(view: DataView, at: number, type: Scalar): number {
  return READ_NUMBER[type](view, at)
}

export function writeScalar(view: DataView, at: number, type: Scalar, value: bigint): void {
  const isLittle = !isWire(type)
  const size = SCALAR_SIZE[type]
  if (size === 1) view.setUint8(at, Number(BigInt.asUintN(8, value)))
  else if (size === 2) view.setUint16(at, Number(BigInt.asUintN(16, value)), isLittle)
  else if (size === 4) view.setUint32(at, Number(BigInt.asUintN(32, value)), isLittle)
  else view.setBigUint64(at, BigInt.asUintN(64, value), isLittle)
}

/** Carries `count` records from `from` to `to`, both starting with the first; other bytes are left alone. */
export type Converter = (from: Uint8Array, to: Uint8Array, count: number) => void

/** A plan as loops: by words of 32 bits where everything stands at a multiple of four. */
export function converter(plan: RecordPlan): Converter {
  const { fromSize, toSize, moves, casts } = plan
  if (plan.identical) return (from, to, count) => to.set(from.subarray(0, count * fromSize))
  const isAligned = (value: number) => value % 4 === 0
  const isByWords = [fromSize, toSize, ...moves.flatMap((move) => [move.from, move.to, move.bytes])].every(
    isAligned,
  )
  const unit = isByWords ? 4 : 1
  const runs = moves.flatMap((move) =>
    Array.from({ length: move.bytes / unit }, (_, i) => [move.from / unit + i, move.to / unit + i] as const),
  )
  const sources = Uint32Array.from(runs, ([source]) => source)
  const targets = Uint32Array.from(runs, ([, target]) => target)
  const fromStride = fromSize / unit
  const toStride = toSize / unit
  return (from, to, count) => {
    const source = isByWords ? new Uint32Array(from.buffer, from.byteOffset, (count * fromSize) / 4) : from
    const target = isByWords ? new Uint32Array(to.buffer, to.byteOffset, (count * toSize) / 4) : to
    for (let i = 0, a = 0, b = 0; i < count; i++, a += fromStride, b += toStride) {
      for (let k = 0; k < sources.length; k++) target[b + targets[k]!] = source[a + sources[k]!]!
    }
    if (casts.length === 0) return
    const oldView = new DataView(from.buffer, from.byteOffset, from.byteLength)
    const newView = new DataView(to.buffer, to.byteOffset, to.byteLength)
    for (let i = 0; i < count; i++) {
      for (const cast of casts) {
        const value = readScalar(oldView, i * fromSize + cast.from, cast.fromType)
        writeScalar(newView, i * toSize + cast.to, cast.toType, value)
      }
    }
  }
}
