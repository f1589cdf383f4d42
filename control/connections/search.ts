/**
 * What somebody who looks for connections types, as a question that a line answers without a text being made of it:
 * words that all have to fit.
 */
import { addressWords, type Family } from '../../net/address.ts'
import { parseEndpoint } from '../../net/endpoint.ts'
import { bitsOf, cut, maskWord, type Prefix, parsePrefix } from '../../net/prefix.ts'
import { PROTOCOLS, type Protocol } from '../../net/protocol.ts'

/** One end of a connection, in words of the network's order; IPv4 in the first. */
export interface End {
  readonly words: Uint32Array
  port: number
}

/** A line as it is looked at; its ends are filled in where somebody asks for them. */
export interface Glance {
  readonly family: Family
  protocol: Protocol | null
  state: string
  readonly client: End
  readonly virtual: End
  readonly server: End
}

export interface Search {
  /** Whether any word is about an end. */
  readonly ends: boolean
  fits(glance: Glance): boolean
}

/** More than anybody types; each is looked at for each of a million lines. */
const WORDS_MAX = 8

type Word = { readonly ends: boolean; readonly fits: (glance: Glance) => boolean }

/** @returns what is wrong with it, in words, where it is none */
export function parseSearch(text: string): Search | string {
  const typed = text.split(/\s+/).filter((word) => word !== '')
  if (typed.length > WORDS_MAX) return `Expected at most ${WORDS_MAX} words, got ${typed.length}`
  const words: Word[] = []
  for (const one of typed) {
    const word = wordOf(one)
    if (word === null)
      return `Cannot look for "${one}": expected a protocol (tcp), a state (established), an address, a prefix (198.51.100.0/24), an address with a port, a port (:80) or a service (tcp/192.0.2.10:80)`
    words.push(word)
  }
  return {
    ends: words.some(({ ends }) => ends),
    fits: (glance) => words.every(({ fits }) => fits(glance)),
  }
}

function wordOf(text: string): Word | null {
  const lower = text.toLowerCase()
  const protocol = PROTOCOLS.find((name) => name === lower)
  if (protocol !== undefined) return { ends: false, fits: (glance) => glance.protocol === protocol }
  const port = /^:(\d{1,5})$/.exec(lower)
  if (port !== null) return anyEnd(null, Number(port[1]))
  const slash = lower.indexOf('/')
  const of = PROTOCOLS.find((name) => name === lower.slice(0, Math.max(0, slash)))
  if (of !== undefined) return serviceWord(of, lower.slice(slash + 1))
  const prefix = prefixOf(lower)
  if (prefix !== null) return anyEnd(prefix, null)
  const endpoint = parseEndpoint(lower)
  if (endpoint !== null) return anyEnd(cut(endpoint.address, 128), endpoint.port)
  if (!/^[a-z][a-z0-9_-]*$/.test(lower)) return null
  const state = lower.toUpperCase()
  return { ends: false, fits: (glance) => glance.state.startsWith(state) }
}

function serviceWord(protocol: Protocol, text: string): Word | null {
  const endpoint = parseEndpoint(text)
  if (endpoint === null) return null
  const fits = endTest(cut(endpoint.address, 128), endpoint.port)
  return {
    ends: true,
    fits: (glance) => glance.protocol === protocol && fits(glance.family, glance.virtual),
  }
}

/** Of an address, of a prefix, or of one that is being typed: `198.51.`, `2001:db8:`. */
function prefixOf(text: string): Prefix | null {
  const octets = /^(?:\d{1,3}\.){1,3}$/.test(text) ? text.split('.').slice(0, -1) : null
  if (octets !== null) {
    const whole = [...octets, '0', '0', '0'].slice(0, 4).join('.')
    return prefixOf(`${whole}/${8 * octets.length}`)
  }
  const groups = /^(?:[0-9a-f]{1,4}:){1,7}$/.test(text) ? text.split(':').length - 1 : 0
  if (groups > 0) return prefixOf(`${groups === 7 ? `${text}0` : `${text}:`}/${16 * groups}`)
  const prefix = parsePrefix(text)
  return typeof prefix === 'string' ? null : prefix
}

function anyEnd(prefix: Prefix | null, port: number | null): Word | null {
  if (port !== null && port > 65_535) return null
  const fits = endTest(prefix, port)
  return {
    ends: true,
    fits: ({ family, client, virtual, server }) =>
      fits(family, client) || fits(family, virtual) || fits(family, server),
  }
}

function endTest(prefix: Prefix | null, port: number | null): (family: Family, end: End) => boolean {
  if (prefix === null) return (_family, end) => end.port === port
  const wanted = addressWords(prefix.address)
  const length = Math.min(prefix.length, bitsOf(prefix.family))
  const masks = [0, 1, 2, 3].map((i) => maskWord(length, i))
  return (family, end) =>
    family === prefix.family &&
    (port === null || end.port === port) &&
    masks.every((mask, i) => (end.words[i]! & mask) >>> 0 === wanted[i])
}
