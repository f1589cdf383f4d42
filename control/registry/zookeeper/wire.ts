/** ZooKeeper's encoding: big-endian numbers, texts and buffers with their length in front. */

export class ZkWriter {
  readonly #parts: Buffer[] = []

  int(value: number): this {
    const part = Buffer.alloc(4)
    part.writeInt32BE(value)
    this.#parts.push(part)
    return this
  }

  long(value: bigint): this {
    const part = Buffer.alloc(8)
    part.writeBigInt64BE(value)
    this.#parts.push(part)
    return this
  }

  bool(value: boolean): this {
    this.#parts.push(Buffer.from([value ? 1 : 0]))
    return this
  }

  bytes(value: Uint8Array): this {
    this.int(value.length)
    this.#parts.push(Buffer.from(value))
    return this
  }

  text(value: string): this {
    return this.bytes(Buffer.from(value))
  }

  /** With its own length in front, as it goes out. */
  frame(): Buffer {
    const body = Buffer.concat(this.#parts)
    const length = Buffer.alloc(4)
    length.writeInt32BE(body.length)
    return Buffer.concat([length, body])
  }
}

/** Throws a RangeError where a message ends too early. */
export class ZkReader {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  int(): number {
    this.#offset += 4
    return this.#bytes.readInt32BE(this.#offset - 4)
  }

  long(): bigint {
    this.#offset += 8
    return this.#bytes.readBigInt64BE(this.#offset - 8)
  }

  bytes(): Buffer {
    const length = this.int()
    if (length < 0) return Buffer.alloc(0)
    const end = this.#offset + length
    if (end > this.#bytes.length) throw new RangeError(`expected ${length} more bytes`)
    const value = this.#bytes.subarray(this.#offset, end)
    this.#offset = end
    return value
  }

  text(): string {
    return this.bytes().toString('utf8')
  }

  texts(): string[] {
    const count = this.int()
    const list: string[] = []
    for (let n = 0; n < count; n++) list.push(this.text())
    return list
  }
}
