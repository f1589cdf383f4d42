/**
 * The generator of layout.gen.ts: BTF and the two headers in, TypeScript out. Pure.
 *
 * BTF says how records and enums lie in memory; the headers say which of them cross (an object holds
 * many more), the order of the maps, and the values of `#define`s, which BTF does not know.
 */
import { createHash } from 'node:crypto'
import { type Btf, findEnum, mapValueTypes } from '../dataplane/layout/btf.ts'
import {
  describeRecord,
  type FieldLayout,
  isPadding,
  LayoutError,
  type RecordLayout,
  recordLayout,
  SCALAR_SIZE,
  type Scalar,
} from '../dataplane/layout/record.ts'

export interface LayoutInputs {
  readonly btf: Btf
  /** Text of bpf/types.h. */
  readonly typesHeader: string
  /** Text of bpf/maps.h. */
  readonly mapsHeader: string
}

interface MapLine {
  readonly name: string
  /** C name of the record, or `__u64`. */
  readonly record: string
  readonly entries: number
}

interface EnumConstant {
  readonly name: string
  readonly value: bigint
}

export function layoutSource(inputs: LayoutInputs): string {
  const { btf } = inputs
  const header = withoutComments(inputs.typesHeader)
  const recordNames = [...header.matchAll(/^struct (pm_\w+) \{/gm)].map((match) => match[1]!)
  const enumNames = [...header.matchAll(/^enum (pm_\w+) \{/gm)].map((match) => match[1]!)
  const records = recordNames.map((name) => recordLayout(btf, name))
  const maps = mapLines(inputs.mapsHeader)
  const mapSizes = maps.map((map) => mapRecordSize(btf, map, records))
  const enums = enumNames.map((name) => enumSource(btf, name))
  const maxima = enums.flatMap((found) => found.maxima)
  const description = mappedDescription(header, maxima, maps, records)
  return `${[
    HEAD,
    constantsSource(header, maxima),
    ...enums.map(({ source }) => source),
    ...records.map(recordSource),
    mapsSource(maps, mapSizes),
    `/** Changes whenever the list of maps or a record in one of them does. */\nexport const LAYOUT_FINGERPRINT = '${fingerprintOf(description)}'`,
    `/** What the fingerprint is of: kept in versions.gen.ts once another layout follows. */\nexport const LAYOUT_DESCRIPTION = \`${description}\``,
    recordTableSource(records),
    HELPERS,
  ].join('\n\n')}\n`
}

const HEAD = `/**
 * Generated from the packet program's BTF by scripts/generate.ts: do not edit. After a change of
 * bpf/types.h or bpf/maps.h: npm run generate.
 *
 * Multi-byte fields are in host order (little-endian) unless the C type is __be16 or __be32, which
 * are read as the number on the wire. 64-bit fields are bigints, byte arrays are copies. Padding is
 * left out of decoded records and written as zero.
 */
import type { RecordLayout } from './record.ts'`

const HELPERS = `function copyOf(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length).slice()
}

function store(view: DataView, at: number, length: number, bytes: Uint8Array, field: string): void {
  if (bytes.length !== length) throw new RangeError(\`\${field} is \${bytes.length} bytes, expected \${length}\`)
  new Uint8Array(view.buffer, view.byteOffset + at, length).set(bytes)
}

function clear(view: DataView, at: number, length: number): void {
  new Uint8Array(view.buffer, view.byteOffset + at, length).fill(0)
}

function element(field: string, length: number, index: number): number {
  if (!(index >= 0 && index < length)) throw new RangeError(\`\${field} has no element \${index}, expected 0 to \${length - 1}\`)
  return index
}

function elements<T>(field: string, length: number, values: readonly T[], put: (value: T, index: number) => void): void {
  if (values.length !== length) throw new RangeError(\`\${field} has \${values.length} elements, expected \${length}\`)
  values.forEach(put)
}`

// ---- constants and enums

interface Defined {
  readonly name: string
  /** As it is written. */
  readonly text: string
  readonly value: bigint
}

function definedIn(header: string): Defined[] {
  const matches = header.matchAll(/^#define (PM_\w+)[ \t]+(0x[0-9a-fA-F]+|\d+)[uUlL]*[ \t]*$/gm)
  return [...matches].map((match) => ({ name: match[1]!, text: match[2]!, value: BigInt(match[2]!) }))
}

function constantsSource(header: string, maxima: readonly EnumConstant[]): string {
  const lines = definedIn(header).map(({ name, text }) => `export const ${name} = ${text}`)
  for (const { name, value } of maxima) lines.push(`export const ${name} = ${value}`)
  return lines.join('\n')
}

/** `PM_VERDICT_MAX` and its like are limits, not values: they become constants of their own. */
function isMaximum(name: string): boolean {
  return name.endsWith('_MAX')
}

function enumSource(btf: Btf, name: string): { source: string; maxima: EnumConstant[] } {
  const found = findEnum(btf, name)
  if (found === undefined) {
    throw new LayoutError(`enum ${name} is not in the BTF: nothing in the object refers to it`)
  }
  const prefix = name.split('_').map((word) => word.toUpperCase())
  const values = found.values.filter((constant) => !isMaximum(constant.name))
  const keys = new Map<string, string>()
  for (const constant of values) {
    const key = pascalCase(withoutPrefix(constant.name, prefix))
    const other = keys.get(key)
    if (other !== undefined) {
      throw new LayoutError(`enum ${name}: ${other} and ${constant.name} would both be named ${key}`)
    }
    keys.set(key, constant.name)
  }
  const type = pascalCase(name.replace(/^pm_/, ''))
  const table = `${camelCase(name.replace(/^pm_/, ''))}Names`
  const source = `/** enum ${name} */
export const ${type} = {
${values.map((constant) => `  ${pascalCase(withoutPrefix(constant.name, prefix))}: ${constant.value},`).join('\n')}
} as const
export type ${type} = (typeof ${type})[keyof typeof ${type}]

export const ${table}: { readonly [value: number]: string } = {
${values.map((constant) => `  ${constant.value}: '${withoutPrefix(constant.name, prefix).toLowerCase()}',`).join('\n')}
}`
  return { source, maxima: found.values.filter((constant) => isMaximum(constant.name)) }
}

/** Drops the words a constant shares with the head of its enum's name: PM_TCP_LISTEN of pm_tcp_state. */
function withoutPrefix(constant: string, prefix: readonly string[]): string {
  const words = constant.split('_')
  let shared = 0
  while (shared < prefix.length && shared < words.length - 1 && words[shared] === prefix[shared]) shared++
  return words.slice(shared).join('_')
}

// ---- records

function recordName(cName: string): string {
  return `${pascalCase(cName.replace(/^pm_/, ''))}Record`
}

function recordSource(record: RecordLayout): string {
  const name = recordName(record.name)
  const fields = record.fields.filter((field) => !isPadding(field))
  const key = (field: FieldLayout) => camelCase(field.name)
  const label = (field: FieldLayout) => `'${name}.${key(field)}'`
  const accessors = fields.flatMap((field) => accessorSource(field, pascalCase(field.name), label(field)))
  return `/** struct ${record.name}, ${record.size} bytes. */
export interface ${name} {
${fields.map((field) => `  readonly ${key(field)}: ${valueType(field)}`).join('\n')}
}

export const ${name} = {
  size: ${record.size},
  offsets: {
${fields.map((field) => `    ${key(field)}: ${field.offset},`).join('\n')}
  },
  read(view: DataView, base: number): ${name} {
    return {
${fields.map((field) => `      ${key(field)}: ${readSource(field)},`).join('\n')}
    }
  },
  write(view: DataView, base: number, value: ${name}): void {
${record.fields.map((field) => `    ${isPadding(field) ? clearSource(field) : writeSource(field, `value.${key(field)}`, label(field))}`).join('\n')}
  },
${accessors.map((line) => `  ${line},`).join('\n')}
} as const`
}

/** A getter and a setter for single numbers and for elements of arrays of numbers. */
function accessorSource(field: FieldLayout, suffix: string, label: string): string[] {
  if (typeof field.type !== 'string' || isBytes(field)) return []
  const type = numberType(field.type)
  const size = SCALAR_SIZE[field.type]
  if (field.count === null) {
    const at = `base + ${field.offset}`
    return [
      `get${suffix}: (view: DataView, base: number): ${type} => ${getSource(field.type, at)}`,
      `set${suffix}: (view: DataView, base: number, value: ${type}): void => ${setSource(field.type, at, 'value')}`,
    ]
  }
  const at = `base + ${field.offset} + element(${label}, ${field.count}, index) * ${size}`
  return [
    `get${suffix}: (view: DataView, base: number, index: number): ${type} => ${getSource(field.type, at)}`,
    `set${suffix}: (view: DataView, base: number, index: number, value: ${type}): void => ${setSource(field.type, at, 'value')}`,
  ]
}

function isBytes(field: FieldLayout): boolean {
  return field.type === 'u8' && field.count !== null
}

function numberType(type: Scalar): 'number' | 'bigint' {
  return SCALAR_SIZE[type] === 8 ? 'bigint' : 'number'
}

function valueType(field: FieldLayout): string {
  if (typeof field.type !== 'string') return recordName(field.type.record)
  if (isBytes(field)) return 'Uint8Array'
  return field.count === null ? numberType(field.type) : `readonly ${numberType(field.type)}[]`
}

const ACCESS: Readonly<Record<Scalar, { method: string; order: '' | ', true' | ', false' }>> = {
  u8: { method: 'Uint8', order: '' },
  s8: { method: 'Int8', order: '' },
  u16: { method: 'Uint16', order: ', true' },
  s16: { method: 'Int16', order: ', true' },
  u32: { method: 'Uint32', order: ', true' },
  s32: { method: 'Int32', order: ', true' },
  u64: { method: 'BigUint64', order: ', true' },
  s64: { method: 'BigInt64', order: ', true' },
  be16: { method: 'Uint16', order: ', false' },
  be32: { method: 'Uint32', order: ', false' },
  be64: { method: 'BigUint64', order: ', false' },
}

function getSource(type: Scalar, at: string): string {
  return `view.get${ACCESS[type].method}(${at}${ACCESS[type].order})`
}

function setSource(type: Scalar, at: string, value: string): string {
  return `view.set${ACCESS[type].method}(${at}, ${value}${ACCESS[type].order})`
}

function readSource(field: FieldLayout): string {
  const at = `base + ${field.offset}`
  if (typeof field.type !== 'string') return `${recordName(field.type.record)}.read(view, ${at})`
  if (isBytes(field)) return `copyOf(view, ${at}, ${field.count})`
  if (field.count === null) return getSource(field.type, at)
  const each = getSource(field.type, `${at} + index * ${SCALAR_SIZE[field.type]}`)
  return `Array.from({ length: ${field.count} }, (_, index) => ${each})`
}

function writeSource(field: FieldLayout, value: string, label: string): string {
  const at = `base + ${field.offset}`
  if (typeof field.type !== 'string') return `${recordName(field.type.record)}.write(view, ${at}, ${value})`
  if (isBytes(field)) return `store(view, ${at}, ${field.count}, ${value}, ${label})`
  if (field.count === null) return setSource(field.type, at, value)
  const each = setSource(field.type, `${at} + index * ${SCALAR_SIZE[field.type]}`, 'item')
  return `elements(${label}, ${field.count}, ${value}, (item, index) => ${each})`
}

function clearSource(field: FieldLayout): string {
  if (typeof field.type !== 'string') throw new LayoutError(`padding ${field.name} is a struct`)
  return `clear(view, base + ${field.offset}, ${SCALAR_SIZE[field.type] * (field.count ?? 1)})`
}

function recordTableSource(records: readonly RecordLayout[]): string {
  const row = (field: FieldLayout) => {
    const type = typeof field.type === 'string' ? `'${field.type}'` : `{ record: '${field.type.record}' }`
    return `      { name: '${field.name}', offset: ${field.offset}, type: ${type}, count: ${field.count} },`
  }
  return `/** The layouts these codecs were made for, to compare with an object or a pinned map. */
export const RECORD_LAYOUTS: readonly RecordLayout[] = [
${records
  .map(
    (record) =>
      `  {\n    name: '${record.name}',\n    size: ${record.size},\n    fields: [\n${record.fields.map(row).join('\n')}\n    ],\n  },`,
  )
  .join('\n')}
]`
}

// ---- maps

function mapLines(header: string): MapLine[] {
  const lines = [...withoutComments(header).matchAll(/MAP\((\w+),\s*(?:struct )?(\w+),\s*(\d+)\)/g)]
  return lines.map((match) => ({ name: match[1]!, record: match[2]!, entries: Number(match[3]) }))
}

/** Checks one line of maps.h against the object and returns the size of a record. */
function mapRecordSize(btf: Btf, map: MapLine, records: readonly RecordLayout[]): number {
  const value = mapValueTypes(btf).get(map.name)
  if (value === undefined) throw new LayoutError(`map ${map.name} is in maps.h but not in the object's .maps`)
  if (!('name' in value) || value.name !== map.record) {
    throw new LayoutError(`map ${map.name} holds ${value.name || value.kind}, expected ${map.record}`)
  }
  const size = map.record === '__u64' ? 8 : records.find(({ name }) => name === map.record)?.size
  if (size === undefined)
    throw new LayoutError(`map ${map.name} holds ${map.record}, which types.h does not define`)
  // The kernel spaces records of an array map 8 bytes apart.
  if (size % 8 !== 0)
    throw new LayoutError(`map ${map.name}: ${map.record} is ${size} bytes, expected a multiple of 8`)
  return size
}

/** Constants that say nothing about maps; every other one may decide where in a map something stands. */
const NOT_OF_MAPS = ['PM_LAYOUT_VERSION', 'PM_HEADROOM', 'PM_XSK_ENTRIES', 'PM_CHUNK']

/** What is in memory, in text: the maps and every record in them, nested ones included. */
function mappedDescription(
  header: string,
  maxima: readonly EnumConstant[],
  maps: readonly MapLine[],
  records: readonly RecordLayout[],
): string {
  const lines = maps.map(({ name, record }) => `${name} ${record}`)
  const constants = [...definedIn(header), ...maxima].filter(({ name }) => !NOT_OF_MAPS.includes(name))
  if (constants.length > 0) {
    lines.push(`constants ${constants.map(({ name, value }) => `${name}=${value}`).join(' ')}`)
  }
  const wanted = maps.map(({ record }) => record)
  for (const name of wanted) {
    const record = records.find((candidate) => candidate.name === name)
    if (record === undefined || lines.some((line) => line.startsWith(`${name} `))) continue
    lines.push(describeRecord(record))
    for (const { type } of record.fields) if (typeof type !== 'string') wanted.push(type.record)
  }
  return lines.join('\n')
}

function fingerprintOf(description: string): string {
  return createHash('sha256').update(description).digest('hex').slice(0, 16)
}

// ---- earlier layouts

export interface LayoutText {
  readonly version: number
  readonly fingerprint: string
  readonly description: string
}

/** The layout that a text of layout.gen.ts is of; null for one from before it was described there. */
export function describedLayout(source: string): LayoutText | null {
  const version = /^export const PM_LAYOUT_VERSION = (\d+)$/m.exec(source)?.[1]
  const description = /^export const LAYOUT_DESCRIPTION = `([^`]*)`$/m.exec(source)?.[1]
  if (version === undefined || description === undefined) return null
  return { version: Number(version), fingerprint: fingerprintOf(description), description }
}

/**
 * The layouts to keep when `next` follows `previous`: maps that a version in between has made must stay
 * readable, so none is ever dropped. Throws `LayoutError` when the number was not raised with the layout.
 */
export function keptLayouts(
  kept: readonly LayoutText[],
  previous: LayoutText | null,
  next: LayoutText,
): readonly LayoutText[] {
  if (previous === null || previous.fingerprint === next.fingerprint) return kept
  if (next.version <= previous.version) {
    throw new LayoutError(
      `the layout is another than that of version ${previous.version}: raise PM_LAYOUT_VERSION in bpf/types.h to ${previous.version + 1}, or npm run generate -- --unreleased if no version was released with it`,
    )
  }
  return [...kept, previous]
}

export function versionsSource(kept: readonly LayoutText[]): string {
  const rows = kept.map(
    ({ version, fingerprint, description }) =>
      `  {\n    version: ${version},\n    fingerprint: '${fingerprint}',\n    description: \`${description}\`,\n  },`,
  )
  return `/**
 * Generated by scripts/generate.ts: do not edit. Every layout before the present one, oldest first, as
 * layout.gen.ts described it: what reads maps that an earlier version has pinned or saved.
 */
export interface LayoutText {
  /** PM_LAYOUT_VERSION */
  readonly version: number
  readonly fingerprint: string
  readonly description: string
}

export const EARLIER_LAYOUTS: readonly LayoutText[] = [
${rows.join('\n')}
]
`
}

function mapsSource(maps: readonly MapLine[], sizes: readonly number[]): string {
  const rows = maps.map(
    (map, index) =>
      `  ${map.name}: { index: ${index}, record: '${map.record}', entrySize: ${sizes[index]}, entries: ${map.entries} },`,
  )
  return `export type MapName =
${maps.map(({ name }) => `  | '${name}'`).join('\n')}

/** In the order of PM_MAPS in maps.h, which is also their index for the wasm host. */
export const MAP_NAMES: readonly MapName[] = [
${maps.map(({ name }) => `  '${name}',`).join('\n')}
]

export interface MapShape {
  readonly index: number
  /** C name of the record. */
  readonly record: string
  /** Bytes from one record to the next. */
  readonly entrySize: number
  /** When nothing else is said. */
  readonly entries: number
}

export const MAPS: Readonly<Record<MapName, MapShape>> = {
${rows.join('\n')}
}`
}

// ---- text

function withoutComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/\/\/.*$/gm, '')
}

function pascalCase(name: string): string {
  return name
    .toLowerCase()
    .split('_')
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join('')
}

function camelCase(name: string): string {
  const pascal = pascalCase(name)
  return pascal.slice(0, 1).toLowerCase() + pascal.slice(1)
}
