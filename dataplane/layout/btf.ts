/**
 * Reader of BTF, the type information that clang writes into a BPF object and the kernel keeps with
 * a loaded map (Documentation/bpf/btf.rst). Pure: bytes in, types out.
 */
import { parseElf, textAt } from './elf.ts'

export interface BtfMember {
  readonly name: string
  readonly type: number
  readonly bitOffset: number
  /** 0 unless the member is a bit-field. */
  readonly bitFieldSize: number
}

export type BtfStruct = {
  readonly kind: 'struct' | 'union'
  readonly name: string
  readonly size: number
  readonly members: readonly BtfMember[]
}

export type BtfEnum = {
  readonly kind: 'enum'
  readonly name: string
  readonly size: number
  readonly values: readonly { readonly name: string; readonly value: bigint }[]
}

export type BtfType =
  | { readonly kind: 'void'; readonly name: '' }
  | { readonly kind: 'int'; readonly name: string; readonly size: number; readonly signed: boolean }
  | { readonly kind: 'float'; readonly name: string; readonly size: number }
  | { readonly kind: 'pointer'; readonly name: ''; readonly type: number }
  | { readonly kind: 'array'; readonly name: ''; readonly type: number; readonly length: number }
  | BtfStruct
  | BtfEnum
  | { readonly kind: 'forward'; readonly name: string }
  | { readonly kind: 'typedef'; readonly name: string; readonly type: number }
  | { readonly kind: 'qualifier' | 'tag'; readonly name: string; readonly type: number }
  | { readonly kind: 'function' | 'variable'; readonly name: string; readonly type: number }
  | { readonly kind: 'prototype'; readonly name: '' }
  | {
      readonly kind: 'section'
      readonly name: string
      readonly size: number
      readonly variables: readonly {
        readonly type: number
        readonly offset: number
        readonly size: number
      }[]
    }

/** Types by id; id 0 is void. */
export interface Btf {
  readonly types: readonly BtfType[]
}

const MAGIC = 0xeb9f
const Kind = {
  Int: 1,
  Pointer: 2,
  Array: 3,
  Struct: 4,
  Union: 5,
  Enum: 6,
  Forward: 7,
  Typedef: 8,
  Volatile: 9,
  Const: 10,
  Restrict: 11,
  Function: 12,
  Prototype: 13,
  Variable: 14,
  Section: 15,
  Float: 16,
  DeclTag: 17,
  TypeTag: 18,
  Enum64: 19,
} as const
const INT_SIGNED = 1

/** Reads the `.BTF` section of an object file; throws when there is none. */
export function btfOfElf(file: Uint8Array): Btf {
  const section = parseElf(file).sections.find(({ name }) => name === '.BTF')
  if (section === undefined) throw new Error('Cannot read BTF: no .BTF section, compile with -g')
  return parseBtf(section.bytes)
}

/** Reads raw BTF (header, types, strings), as in an object or from BPF_OBJ_GET_INFO_BY_FD. */
export function parseBtf(bytes: Uint8Array): Btf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 24 || view.getUint16(0, true) !== MAGIC) {
    throw new Error(`Cannot read BTF: no little-endian BTF header in ${bytes.length} bytes`)
  }
  const headerLength = view.getUint32(4, true)
  const typesAt = headerLength + view.getUint32(8, true)
  const typesEnd = typesAt + view.getUint32(12, true)
  const stringsAt = headerLength + view.getUint32(16, true)
  const stringsEnd = stringsAt + view.getUint32(20, true)
  if (typesEnd > bytes.length || stringsEnd > bytes.length) {
    throw new Error(`Cannot read BTF: sections end at ${Math.max(typesEnd, stringsEnd)} of ${bytes.length}`)
  }
  const strings = bytes.subarray(stringsAt, stringsEnd)
  const types: BtfType[] = [{ kind: 'void', name: '' }]

  let at = typesAt
  const u32 = () => {
    if (at + 4 > typesEnd) throw new Error(`Cannot read BTF: type ${types.length} is cut off`)
    at += 4
    return view.getUint32(at - 4, true)
  }
  const i32 = () => u32() | 0
  const list = <T>(count: number, item: () => T) => Array.from({ length: count }, item)

  while (at < typesEnd) {
    const name = textAt(strings, u32())
    const info = u32()
    const sizeOrType = u32()
    const length = info & 0xffff
    const kindFlag = info >>> 31 === 1
    types.push(readType((info >>> 24) & 0x1f, name, length, kindFlag, sizeOrType))
  }
  return { types }

  function readType(
    kind: number,
    name: string,
    length: number,
    kindFlag: boolean,
    sizeOrType: number,
  ): BtfType {
    switch (kind) {
      case Kind.Int:
        return { kind: 'int', name, size: sizeOrType, signed: ((u32() >>> 24) & INT_SIGNED) !== 0 }
      case Kind.Float:
        return { kind: 'float', name, size: sizeOrType }
      case Kind.Pointer:
        return { kind: 'pointer', name: '', type: sizeOrType }
      case Kind.Array: {
        const element = u32()
        u32() // type of the index, always an integer
        return { kind: 'array', name: '', type: element, length: u32() }
      }
      case Kind.Struct:
      case Kind.Union: {
        const members = list(length, () => {
          const member = textAt(strings, u32())
          const type = u32()
          const place = u32()
          return {
            name: member,
            type,
            bitOffset: kindFlag ? place & 0xffffff : place,
            bitFieldSize: kindFlag ? place >>> 24 : 0,
          }
        })
        return { kind: kind === Kind.Struct ? 'struct' : 'union', name, size: sizeOrType, members }
      }
      case Kind.Enum: {
        // Before LLVM 15 the sign flag is never set: negative values are then indistinguishable.
        const values = list(length, () => ({
          name: textAt(strings, u32()),
          value: BigInt(kindFlag ? i32() : u32()),
        }))
        return { kind: 'enum', name, size: sizeOrType, values }
      }
      case Kind.Enum64: {
        const values = list(length, () => {
          const value = textAt(strings, u32())
          const bits = BigInt(u32()) | (BigInt(u32()) << 32n)
          return { name: value, value: kindFlag ? BigInt.asIntN(64, bits) : bits }
        })
        return { kind: 'enum', name, size: sizeOrType, values }
      }
      case Kind.Forward:
        return { kind: 'forward', name }
      case Kind.Typedef:
        return { kind: 'typedef', name, type: sizeOrType }
      case Kind.Volatile:
      case Kind.Const:
      case Kind.Restrict:
        return { kind: 'qualifier', name, type: sizeOrType }
      case Kind.TypeTag:
        return { kind: 'tag', name, type: sizeOrType }
      case Kind.DeclTag:
        u32() // which member or parameter
        return { kind: 'tag', name, type: sizeOrType }
      case Kind.Function:
        return { kind: 'function', name, type: sizeOrType }
      case Kind.Prototype:
        for (let i = 0; i < length * 2; i++) u32()
        return { kind: 'prototype', name: '' }
      case Kind.Variable:
        u32() // linkage
        return { kind: 'variable', name, type: sizeOrType }
      case Kind.Section: {
        const variables = list(length, () => ({ type: u32(), offset: u32(), size: u32() }))
        return { kind: 'section', name, size: sizeOrType, variables }
      }
      default:
        throw new Error(`Cannot read BTF: type ${types.length} has unknown kind ${kind}`)
    }
  }
}

/** The type with this id, without const, volatile, restrict and tags; typedefs are kept. */
export function unqualified(btf: Btf, id: number): BtfType {
  const type = btf.types[id]
  if (type === undefined) throw new Error(`Cannot read BTF: no type ${id}`)
  return type.kind === 'qualifier' || type.kind === 'tag' ? unqualified(btf, type.type) : type
}

export function findStruct(btf: Btf, name: string): BtfStruct | undefined {
  for (const type of btf.types) if (type.kind === 'struct' && type.name === name) return type
  return undefined
}

export function findEnum(btf: Btf, name: string): BtfEnum | undefined {
  for (const type of btf.types) if (type.kind === 'enum' && type.name === name) return type
  return undefined
}

/** The record type of each map defined in `.maps`, by map name. */
export function mapValueTypes(btf: Btf): ReadonlyMap<string, BtfType> {
  const found = new Map<string, BtfType>()
  for (const section of btf.types) {
    if (section.kind !== 'section' || section.name !== '.maps') continue
    for (const { type } of section.variables) {
      const variable = btf.types[type]
      if (variable?.kind !== 'variable') continue
      const definition = unqualified(btf, variable.type)
      if (definition.kind !== 'struct') continue
      // `__type(value, struct x)` declares a member `struct x *value`.
      const member = definition.members.find(({ name }) => name === 'value')
      const pointer = member && unqualified(btf, member.type)
      if (pointer?.kind === 'pointer') found.set(variable.name, unqualified(btf, pointer.type))
    }
  }
  return found
}
