/**
 * Layouts this build knows: its own, and every earlier one, so that maps which an earlier version made can
 * be read. A layout in text is a line for each map, one for the numbers that its lines are placed by, and
 * one for each record; the fingerprint is that text's hash.
 */
import { LAYOUT_DESCRIPTION, LAYOUT_FINGERPRINT, PM_LAYOUT_VERSION } from './layout.gen.ts'
import { type FieldLayout, LayoutError, type RecordLayout, SCALAR_SIZE, type Scalar } from './record.ts'
import type { LayoutStamp } from './stamp.ts'
import { EARLIER_LAYOUTS, type LayoutText } from './versions.gen.ts'

export interface Layout {
  readonly version: number
  /** Name of the record by name of the map. */
  readonly maps: ReadonlyMap<string, string>
  readonly records: ReadonlyMap<string, RecordLayout>
  /** `PM_WAYS` and the like: where in a map something stands depends on them. */
  readonly constants: ReadonlyMap<string, number>
}

/** What `__u64` is as a record. */
const WORD: RecordLayout = {
  name: '__u64',
  size: 8,
  fields: [{ name: 'value', offset: 0, type: 'u64', count: null }],
}

export function parseLayout({ version, description }: Pick<LayoutText, 'version' | 'description'>): Layout {
  const maps = new Map<string, string>()
  const records = new Map<string, RecordLayout>([[WORD.name, WORD]])
  const constants = new Map<string, number>()
  for (const line of description.split('\n')) {
    const [name = '', second = '', ...rest] = line.split(' ')
    if (name === 'constants') {
      for (const pair of [second, ...rest]) {
        const [constant = '', value] = pair.split('=')
        constants.set(constant, Number(value))
      }
    } else if (/^\d+$/.test(second)) {
      records.set(name, { name, size: Number(second), fields: rest.map(parseField) })
    } else maps.set(name, second)
  }
  return { version, maps, records, constants }
}

function parseField(text: string): FieldLayout {
  const match = /^(\d+):(\w+):(\w+?)(?:\[(\d+)\])?$/.exec(text)
  if (match === null) throw new LayoutError(`Cannot read layout: "${text}" is no field`)
  const [, offset, name = '', type = '', count] = match
  return {
    name,
    offset: Number(offset),
    type: type in SCALAR_SIZE ? (type as Scalar) : { record: type },
    count: count === undefined ? null : Number(count),
  }
}

/** The record in a map of a layout; throws when there is no such map. */
export function recordOf(layout: Layout, map: string): RecordLayout {
  const record = layout.records.get(layout.maps.get(map) ?? '')
  if (record === undefined) throw new LayoutError(`Layout ${layout.version} has no map ${map}`)
  return record
}

export const OWN_LAYOUT: Layout = parseLayout({
  version: PM_LAYOUT_VERSION,
  description: LAYOUT_DESCRIPTION,
})

/** Before this version maps did not carry a fingerprint: the number alone says which layout it is. */
const FIRST_WITH_FINGERPRINT = 6

/** The layout that maps with this stamp have, or null where this build does not know it. */
export function findLayout(stamp: LayoutStamp): Layout | null {
  if (stamp.version === PM_LAYOUT_VERSION && stamp.fingerprint === LAYOUT_FINGERPRINT) return OWN_LAYOUT
  const text = EARLIER_LAYOUTS.find(
    ({ version, fingerprint }) =>
      version === stamp.version && (version < FIRST_WITH_FINGERPRINT || fingerprint === stamp.fingerprint),
  )
  return text === undefined ? null : parseLayout(text)
}
