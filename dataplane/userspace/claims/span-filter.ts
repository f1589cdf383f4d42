/** Whether a packet's destination is in a claim on a span of ports. */
import { addressToBytes, type Family } from '../../../net/address.ts'
import { maskWord } from '../../../net/prefix.ts'
import { PROTOCOL_NUMBERS } from '../../../net/protocol.ts'
import { type PortSpan, type SpanClaim, spanKey } from './spans.ts'

const WORDS = { 4: 1, 6: 4 } as const

export class SpanFilter {
  /** By family, length, and then protocol and the prefix's words. */
  readonly #spans = { 4: new Map<number, Spans>(), 6: new Map<number, Spans>() }

  add(claim: SpanClaim): void {
    const { family, prefix, ports } = claim
    const ofLength: Spans = this.#spans[family].get(prefix.length) ?? new Map()
    this.#spans[family].set(prefix.length, ofLength)
    const key = keyOf(claim)
    const spans = ofLength.get(key) ?? new Map<string, PortSpan | null>()
    spans.set(spanKey(claim), ports)
    ofLength.set(key, spans)
  }

  delete(claim: SpanClaim): void {
    const { family, prefix } = claim
    const ofLength = this.#spans[family].get(prefix.length)
    const spans = ofLength?.get(keyOf(claim))
    spans?.delete(spanKey(claim))
    if (spans?.size === 0) ofLength?.delete(keyOf(claim))
    if (ofLength?.size === 0) this.#spans[family].delete(prefix.length)
  }

  /** The destination's address is at `at`. */
  has(family: Family, protocol: number, bytes: Uint8Array, at: number, port: number): boolean {
    return this.#some(
      family,
      protocol,
      bytes,
      at,
      (span) => span !== null && span.from <= port && port <= span.to,
    )
  }

  /** The same of a fragment. */
  hasPieces(family: Family, protocol: number, bytes: Uint8Array, at: number): boolean {
    return this.#some(family, protocol, bytes, at, (span) => span === null)
  }

  #some(
    family: Family,
    protocol: number,
    bytes: Uint8Array,
    at: number,
    fits: (span: PortSpan | null) => boolean,
  ): boolean {
    for (const [length, ofLength] of this.#spans[family]) {
      const spans = ofLength.get(maskedKey(protocol, bytes, at, WORDS[family], length))
      if (spans !== undefined) for (const span of spans.values()) if (fits(span)) return true
    }
    return false
  }
}

type Spans = Map<string, Map<string, PortSpan | null>>

function keyOf({ family, protocol, prefix }: SpanClaim): string {
  return maskedKey(
    PROTOCOL_NUMBERS[protocol],
    addressToBytes(prefix.address),
    0,
    WORDS[family],
    prefix.length,
  )
}

function maskedKey(protocol: number, bytes: Uint8Array, at: number, words: number, length: number): string {
  let key = String(protocol)
  for (let i = 0; i < words; i++) {
    const byte = at + 4 * i
    const word = (bytes[byte]! << 24) | (bytes[byte + 1]! << 16) | (bytes[byte + 2]! << 8) | bytes[byte + 3]!
    key += ` ${word & maskWord(length, i)}`
  }
  return key
}
