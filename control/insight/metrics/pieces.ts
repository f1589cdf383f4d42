/**
 * Text that gathers as bytes until it is worth sending. Of the million lines that a large director has, each is
 * copied together from what it has in common with its neighbours: strings would be made for each, joined, encoded
 * and collected again, which costs thrice as much.
 */

/** So much goes out in one piece. */
const PIECE = 64 * 1024
/** Before a line that is put together without a look at the room: names and labels are shorter by far. */
const LINE_MAX = 4096
const ZERO = 48
const NEWLINE = 10

/** Texts one after the other. */
export class Texts {
  readonly bytes: Uint8Array
  /** Where each ends. */
  readonly ends: Uint32Array

  constructor(texts: readonly string[]) {
    this.ends = new Uint32Array(texts.length)
    let end = 0
    for (let i = 0; i < texts.length; i++) {
      end += Buffer.byteLength(texts[i]!)
      this.ends[i] = end
    }
    this.bytes = Buffer.from(texts.join(''))
  }
}

export const encoded = (text: string): Uint8Array => Buffer.from(text)

export class Pieces {
  #bytes = Buffer.allocUnsafeSlow(PIECE + LINE_MAX)
  #length = 0

  get isFull(): boolean {
    return this.#length >= PIECE
  }

  /** Of any length. */
  add(text: string): void {
    const most = 3 * text.length + LINE_MAX
    if (this.#length + most > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(2 * this.#bytes.length + most)
      this.#bytes.copy(larger, 0, 0, this.#length)
      this.#bytes = larger
    }
    this.#length += this.#bytes.write(text, this.#length)
  }

  /** A part of a line; of one that ends the last full piece there is always room for. */
  part(text: Uint8Array): this {
    this.#bytes.set(text, this.#length)
    this.#length += text.length
    return this
  }

  /** One of many; it is short, and quicker copied than made a view of. */
  of({ bytes: from, ends }: Texts, index: number): this {
    const bytes = this.#bytes
    const end = ends[index]!
    let at = this.#length
    for (let i = index === 0 ? 0 : ends[index - 1]!; i < end; i++) bytes[at++] = from[i]!
    this.#length = at
    return this
  }

  /** Ends a line. */
  number(value: number): void {
    const bytes = this.#bytes
    if (value >= 0 && value < 10 && Number.isInteger(value)) bytes[this.#length++] = ZERO + value
    else this.#length += bytes.write(String(value), this.#length, 'latin1')
    bytes[this.#length++] = NEWLINE
    // What is written beyond the end of bytes is lost without a word.
    if (this.#length > bytes.length)
      throw new RangeError(`A line of metrics is longer than ${LINE_MAX} bytes`)
  }

  take(): Uint8Array {
    const piece = this.#bytes.subarray(0, this.#length)
    this.#bytes = Buffer.allocUnsafeSlow(PIECE + LINE_MAX)
    this.#length = 0
    return piece
  }
}
