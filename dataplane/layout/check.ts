/** Compares type information with the layout the codecs were generated for. */
import { type Btf, findStruct } from './btf.ts'
import { MAPS, RECORD_LAYOUTS } from './layout.gen.ts'
import { type FieldLayout, LayoutError, type RecordLayout, recordLayout } from './record.ts'

/** Every record that lies in a map, nested ones included, and the limits. */
function sharedRecords(): readonly RecordLayout[] {
  const wanted = ['pm_limits', ...Object.values(MAPS).map(({ record }) => record)]
  const records = new Set<RecordLayout>()
  for (const name of wanted) {
    const record = RECORD_LAYOUTS.find((candidate) => candidate.name === name)
    if (record === undefined || records.has(record)) continue
    records.add(record)
    for (const { type } of record.fields) if (typeof type !== 'string') wanted.push(type.record)
  }
  return [...records]
}

/**
 * The first difference between `btf` and the generated layout, or null:
 * `struct pm_service is 24 bytes, expected 16`.
 *
 * @param names records that `btf` must hold; others are compared if they are there
 */
export function layoutDifference(btf: Btf, names: readonly string[] = []): string | null {
  for (const expected of sharedRecords()) {
    if (findStruct(btf, expected.name) === undefined) {
      if (names.includes(expected.name)) return `struct ${expected.name} is missing`
      continue
    }
    const difference = recordDifference(btf, expected)
    if (difference !== null) return difference
  }
  return null
}

function recordDifference(btf: Btf, expected: RecordLayout): string | null {
  const size = findStruct(btf, expected.name)?.size
  if (size !== expected.size) return `struct ${expected.name} is ${size} bytes, expected ${expected.size}`
  let found: RecordLayout
  try {
    found = recordLayout(btf, expected.name)
  } catch (error) {
    if (error instanceof LayoutError) return error.message
    throw error
  }
  for (let index = 0; index < Math.max(found.fields.length, expected.fields.length); index++) {
    const is = describe(found.fields[index])
    const want = describe(expected.fields[index])
    if (is !== want) return `struct ${expected.name} has ${is}, expected ${want}`
  }
  return null
}

function describe(field: FieldLayout | undefined): string {
  if (field === undefined) return 'no further field'
  const type = typeof field.type === 'string' ? field.type : `struct ${field.type.record}`
  return `${field.name} (${type}${field.count === null ? '' : `[${field.count}]`}) at byte ${field.offset}`
}
