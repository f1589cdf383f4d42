/** Bytes that both ends can make by themselves, so that each can tell whether the other's are intact. */
import { createHash } from 'node:crypto'

/** Odd, so that no length of a segment divides it. */
const PERIOD_BYTES = 262_139
const block = createHash('shake256', { outputLength: PERIOD_BYTES }).update('soak').digest()

/** `length` bytes of an endless sequence, beginning at `from`, in pieces. */
export function* pieces(from: number, length: number): Generator<Buffer> {
  let at = from % PERIOD_BYTES
  let left = length
  while (left > 0) {
    const piece = block.subarray(at, Math.min(PERIOD_BYTES, at + left))
    yield piece
    left -= piece.length
    at = 0
  }
}

export function digest(parts: Iterable<Uint8Array>): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

/** First word of every datagram of the soak: garbage that gets through is not counted. */
const MARK = 'soak'

export interface DatagramName {
  readonly phase: number
  readonly flow: number
  readonly sequence: number
}

export function datagram({ phase, flow, sequence }: DatagramName, length: number): Buffer {
  const head = Buffer.from(`${MARK} ${phase} ${flow} ${sequence} `)
  return Buffer.concat([head, ...pieces(sequence * 31 + flow, Math.max(0, length - head.length))])
}

/** The name in a datagram; null when it is none of the soak's. */
export function nameIn(message: Buffer): DatagramName | null {
  const match = /^soak (\d{1,9}) (\d{1,9}) (\d{1,9}) /.exec(message.subarray(0, 40).toString('latin1'))
  if (match === null) return null
  return { phase: Number(match[1]), flow: Number(match[2]), sequence: Number(match[3]) }
}
