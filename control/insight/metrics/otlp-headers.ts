/** Fields that a receiver wants with every request, as whoever runs it hands them out: a token, a tenant. */

/** A token may be long, and nobody hands out a hundred. */
const FIELDS_MAX = 32
const LINE_MAX = 8192
const LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)$/
/** What says how a request is carried, and what it has in it, is not for others to say. */
const OURS: ReadonlySet<string> = new Set([
  ...['connection', 'content-encoding', 'content-length', 'content-type', 'expect', 'host', 'keep-alive'],
  ...['te', 'trailer', 'transfer-encoding', 'upgrade', 'user-agent'],
])

/** @returns what is wrong with the text, by line, never with a value in it: values are secrets */
export function parseOtlpHeaders(text: string): ReadonlyMap<string, string> | string {
  const fields = new Map<string, string>()
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const [, name = '', value = ''] = line.length <= LINE_MAX ? (LINE.exec(line) ?? []) : []
    const key = name.toLowerCase()
    if (key === '') return `line ${i + 1}: expected a field, such as Authorization: Bearer TOKEN`
    if (OURS.has(key)) return `line ${i + 1}: "${name}" is not yours to say; leave it out`
    if (fields.has(key)) return `line ${i + 1}: "${name}" is there twice`
    fields.set(key, value)
  }
  if (fields.size === 0) return 'there is no field in it, such as Authorization: Bearer TOKEN'
  return fields.size <= FIELDS_MAX ? fields : `expected at most ${FIELDS_MAX} fields, got ${fields.size}`
}
