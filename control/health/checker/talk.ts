/** A conversation over a stream, for protocols of lines and of lengths: waits are ended by whoever hangs up. */
import type { Socket } from 'node:net'

/** The other end said or did something that the protocol does not know. */
export class Unexpected extends Error {
  override readonly name = 'Unexpected'
}

export class Talk {
  readonly #socket: Socket
  #buffer: Buffer = Buffer.alloc(0)
  #ended = false
  #error: Error | null = null
  #wake: () => void = () => {}

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (part: Buffer) => {
      this.#buffer = this.#buffer.length === 0 ? part : Buffer.concat([this.#buffer, part])
      // Nobody reads faster than they are asked to.
      if (this.#buffer.length > PIECE_MAX) socket.pause()
      this.#wake()
    })
    const over = () => {
      this.#ended = true
      this.#wake()
    }
    socket.on('end', over)
    socket.on('close', over)
    socket.on('error', (error) => {
      this.#error = error
      this.#wake()
    })
  }

  send(data: string | Uint8Array): void {
    this.#socket.write(data)
  }

  /** What has come, as soon as `enough` of it; null: the other end has ended before. Throws its error. */
  async #until(enough: (buffer: Buffer) => number, what: string): Promise<Buffer | null> {
    for (;;) {
      const length = enough(this.#buffer)
      if (length >= 0) {
        const taken = this.#buffer.subarray(0, length)
        this.#buffer = this.#buffer.subarray(length)
        this.#socket.resume()
        return taken
      }
      if (this.#buffer.length > PIECE_MAX) throw new Unexpected(`${what} is longer than ${PIECE_MAX} bytes`)
      if (this.#error !== null) throw this.#error
      if (this.#ended) return null
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** A line without its end; null: there is no more. */
  async line(what: string): Promise<string | null> {
    const bytes = await this.#until((buffer) => buffer.indexOf(10) + 1 || -1, what)
    return bytes === null ? null : bytes.toString('latin1').replace(/\r?\n$/, '')
  }

  /** Up to `max` bytes, at least one; null: there is no more. */
  async some(max: number): Promise<Buffer | null> {
    return await this.#until(
      (buffer) => (buffer.length === 0 ? -1 : Math.min(max, buffer.length)),
      'the answer',
    )
  }

  /** What is left when the other end has ended. */
  rest(): string {
    return this.#buffer.toString('latin1')
  }
}

/** Lines of these protocols are far shorter. */
const PIECE_MAX = 64 * 1024
