/**
 * Where the fields of a record lie, taken from BTF. The generator makes codecs out of it; the kernel
 * host compares it with the object it loads and with the maps it finds pinned.
 */
import { type Btf, findStruct, unqualified } from './btf.ts'

/** Numbers by width, sign and byte order; the order comes from the name of the typedef. */
export type Scalar = 'u8' | 's8' | 'u16' | 's16' | 'u32' | 's32' | 'u64' | 's64' | 'be16' | 'be32' | 'be64'

export interface FieldLayout {
  readonly name: string
  /** Bytes from the start of the record. */
  readonly offset: number
  /** A number, or the C name of a nested record (`pm_conn`). */
  readonly type: Scalar | { readonly record: string }
  /** Elements of an array; null for a single value. */
  readonly count: number | null
}

export interface RecordLayout {
  /** C name, `pm_service`. */
  readonly name: string
  readonly size: number
  readonly fields: readonly FieldLayout[]
}

/** The layout cannot cross to TypeScript; the message names struct and field. */
export class LayoutError extends Error {
  override readonly name = 'LayoutError'
}

const SCALARS: Readonly<Record<string, Scalar>> = {
  __u8: 'u8',
  __s8: 's8',
  __u16: 'u16',
  __s16: 's16',
  __u32: 'u32',
  __s32: 's32',
  __u64: 'u64',
  __s64: 's64',
  __be16: 'be16',
  __be32: 'be32',
  __be64: 'be64',
}

export const SCALAR_SIZE: Readonly<Record<Scalar, number>> = {
  u8: 1,
  s8: 1,
  u16: 2,
  s16: 2,
  be16: 2,
  u32: 4,
  s32: 4,
  be32: 4,
  u64: 8,
  s64: 8,
  be64: 8,
}

/**
 * The layout of `struct name`. Throws `LayoutError` for what a codec cannot or should not carry:
 * pointers, plain C integers (their typedef tells the byte order), bit-fields, unions, and holes
 * (their bytes would be neither written nor compared).
 */
export function recordLayout(btf: Btf, name: string): RecordLayout {
  const struct = findStruct(btf, name)
  if (struct === undefined) {
    throw new LayoutError(`struct ${name} is not in the BTF: nothing in the object refers to it`)
  }
  const fields: FieldLayout[] = []
  let end = 0
  for (const member of struct.members) {
    const where = `struct ${name}, field ${member.name || '(anonymous)'}`
    if (member.bitFieldSize > 0 || member.bitOffset % 8 !== 0) {
      throw new LayoutError(`${where}: is a bit-field, expected whole bytes`)
    }
    const offset = member.bitOffset / 8
    if (offset !== end) {
      throw new LayoutError(
        `${where}: a hole of ${offset - end} bytes before offset ${offset}, expected a field`,
      )
    }
    const { type, count, size } = fieldType(btf, member.type, where)
    fields.push({ name: member.name, offset, type, count })
    end = offset + size
  }
  if (end !== struct.size) {
    throw new LayoutError(
      `struct ${name}, after its last field: a hole of ${struct.size - end} bytes, expected a field`,
    )
  }
  return { name, size: struct.size, fields }
}

function fieldType(
  btf: Btf,
  id: number,
  where: string,
): { type: FieldLayout['type']; count: number | null; size: number } {
  const type = unqualified(btf, id)
  if (type.kind === 'array') {
    const element = fieldType(btf, type.type, where)
    if (element.count !== null)
      throw new LayoutError(`${where}: is an array of arrays, expected one dimension`)
    if (typeof element.type !== 'string') {
      throw new LayoutError(`${where}: is an array of structs, expected an array of numbers`)
    }
    return { type: element.type, count: type.length, size: element.size * type.length }
  }
  if (type.kind === 'typedef') {
    const scalar = SCALARS[type.name]
    if (scalar === undefined) {
      throw new LayoutError(
        `${where}: has unknown type ${type.name}, expected one of ${Object.keys(SCALARS).join(' ')}`,
      )
    }
    return { type: scalar, count: null, size: SCALAR_SIZE[scalar] }
  }
  if (type.kind === 'struct' && type.name !== '') {
    return { type: { record: type.name }, count: null, size: type.size }
  }
  const what = `${type.kind} ${type.name}`.trim()
  throw new LayoutError(
    `${where}: has unknown type ${what}, expected one of ${Object.keys(SCALARS).join(' ')} or a struct`,
  )
}

/** Explicit padding: `pad`, `pad1`, ... Written as zero, not part of the decoded value. */
export function isPadding(field: FieldLayout): boolean {
  return /^pad\d*$/.test(field.name)
}

/** One line per record, for comparing and for the fingerprint. */
export function describeRecord(record: RecordLayout): string {
  const fields = record.fields.map(({ name, offset, type, count }) => {
    const what = typeof type === 'string' ? type : type.record
    return `${offset}:${name}:${what}${count === null ? '' : `[${count}]`}`
  })
  return `${record.name} ${record.size} ${fields.join(' ')}`
}
