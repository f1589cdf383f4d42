/** One value of a registry as a real server. */
import { isMulticast, parseAddress, unspecified } from '../../net/address.ts'
import { endpointText, parseEndpoint } from '../../net/endpoint.ts'
import { INT_MAX } from '../model/limits.ts'
import { type Entry, VALUE_BYTES_MAX } from './registry.ts'

const QUOTED_MAX = 60
const WANTED = 'expected ADDRESS:PORT or {"address": "10.0.0.1", "port": 80, "weight": 1}'

const bad = (why: string): Entry => ({ bad: why })

function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > QUOTED_MAX ? `${text.slice(0, QUOTED_MAX)}...` : text
}

/**
 * Words that are not ours are left to whoever wrote them: registries have more readers than us.
 * @param name a real server may be called what it is, and have no value
 */
export function readEntry(text: string, name: string): Entry {
  if (text.length > VALUE_BYTES_MAX)
    return bad(`the value has ${text.length} bytes, at most ${VALUE_BYTES_MAX} are read`)
  const words = text.trim() || name
  if (!words.startsWith('{')) return memberOf(words, undefined, undefined, words)
  let value: unknown
  try {
    value = JSON.parse(words)
  } catch {
    return bad(`${WANTED}, got ${quoted(words)}`)
  }
  const { address, port, weight } = value as Readonly<Record<string, unknown>>
  return memberOf(address, port, weight, words)
}

function memberOf(address: unknown, port: unknown, weight: unknown, text: string): Entry {
  const endpoint = typeof address === 'string' ? parseEndpoint(address) : null
  if (endpoint === null) return bad(`${WANTED}, got ${quoted(text)}`)
  return memberAt(endpoint.address, port ?? endpoint.port, weight ?? null)
}

function isWhole(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max
}

/** What a client has found by itself, which may be anything: whoever wrote it there is not asked by every registry. */
export function memberAt(address: string, port: unknown, weight: unknown): Entry {
  const parsed = parseAddress(address)
  if (parsed === null) return bad(`expected an address, got ${quoted(address)}`)
  if (isMulticast(parsed) || [unspecified(4), unspecified(6), '255.255.255.255'].includes(parsed)) {
    return bad(`"${address}" is no address of a real server: expected a unicast address`)
  }
  if (port !== null && !isWhole(port, 1, 65_535)) return bad(`port: expected 1 to 65535, got ${quoted(port)}`)
  if (weight !== null && !isWhole(weight, 0, INT_MAX))
    return bad(`weight: expected 0 to ${INT_MAX}, got ${quoted(weight)}`)
  return { address: port === null ? parsed : endpointText({ address: parsed, port }), weight }
}
