/**
 * A recording: packets as they come off a data plane's tape, told as a capture, until its limit, its client's end or
 * the plane's. Who reads slowly loses packets, which are counted, and holds up nobody.
 */
import type { Dataplane } from '../../../dataplane/dataplane.ts'
import { Action, verdictNames } from '../../../dataplane/layout/layout.gen.ts'
import type { RecordedFrame, RecordedPacket, Tape } from '../../../dataplane/recording.ts'
import { endpointText } from '../../../net/endpoint.ts'
import { keyOf } from '../../../net/packet/key.ts'
import { interfaceBlock, packetBlock, sectionBlock, statisticsBlock } from '../../../net/packet/pcapng.ts'
import { ConnectionTable } from '../../connections/table.ts'
import type { Capture, CaptureAsked } from '../../front/api/route.ts'
import { VERSION } from '../../model/version.ts'
import { findLine } from '../explain/lines.ts'
import { realAt, realText, serviceAt } from '../explain/reading.ts'

/** How often the tape is looked at: its ring holds some ten thousand packets. */
const LOOK_MS = 25
/** Others have their turn after so long. */
const TURN_MS = 8
/** What may lie unread at the client. */
const UNREAD_MAX = 256 * 1024
/** What leaves to the host's own stack changed. */
const STACK = 'stack'

export interface RecordingOptions {
  readonly plane: Dataplane
  readonly tape: Tape
  readonly asked: CaptureAsked
  nameOf(ifindex: number): string | null
  /** Told when it is over, with what became of it. */
  ended(words: string): void
}

export class Recording implements Capture {
  readonly #options: RecordingOptions
  readonly #tables: readonly [ConnectionTable, ConnectionTable]
  /** From the monotonic clock to the epoch's. */
  readonly #epochNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint()
  readonly #interfaces = new Map<string, number>()
  readonly #timers: NodeJS.Timeout[] = []
  #write: (bytes: Uint8Array) => number = () => 0
  #close: () => void = () => {}
  #unread = 0
  #packets = 0
  #bytes = 0
  #isOver = false
  #over: Promise<void> = Promise.resolve()

  constructor(options: RecordingOptions) {
    this.#options = options
    this.#tables = [new ConnectionTable(options.plane, 4), new ConnectionTable(options.plane, 6)]
  }

  follow(write: (bytes: Uint8Array) => number, close: () => void): () => void {
    this.#write = write
    this.#close = close
    this.#put(sectionBlock(`pointsman ${VERSION}`, this.#options.asked.words))
    for (const { name } of this.#options.plane.interfaces()) this.#interface(name)
    const { seconds } = this.#options.asked
    this.#timers.push(setInterval(() => this.#look(), LOOK_MS))
    if (seconds !== null)
      this.#timers.push(setTimeout(() => void this.finish(`${seconds} s are over`), seconds * 1000))
    return () => void this.finish('nobody reads it any more')
  }

  /** Ends it; returns when packets meet the usual program again. */
  finish(why: string): Promise<void> {
    if (!this.#isOver) this.#over = this.#finish(why)
    return this.#over
  }

  async #finish(why: string): Promise<void> {
    this.#look(true)
    if (this.#isOver) return await this.#over
    this.#isOver = true
    for (const timer of this.#timers) clearInterval(timer)
    const { tape, ended } = this.#options
    const lost = tape.lost()
    let words = why
    try {
      await tape.close()
    } catch (error) {
      words = `${why}; ${error instanceof Error ? error.message : error}`
    }
    const at = this.#interfaces.values().next().value ?? this.#interface('none')
    const timeNs = this.#epochNs + process.hrtime.bigint()
    this.#write(statisticsBlock({ at, timeNs, received: this.#packets, lost, comment: words }))
    this.#close()
    ended(`${this.#packets} packets, ${lost} lost: ${words}`)
  }

  #put(bytes: Uint8Array): void {
    this.#bytes += bytes.length
    this.#unread = this.#write(bytes)
  }

  /** @param last nobody looks again, so what waits is taken as far as the client can */
  #look(last = false): void {
    if (this.#isOver) return
    // Written nothing, it says how much of the earlier is unread by now.
    this.#unread = this.#write(new Uint8Array(0))
    const startedMs = performance.now()
    let limit: string | null = null
    this.#options.tape.read((packet) => {
      limit = this.#take(packet)
      if (limit !== null || this.#unread > UNREAD_MAX) return false
      return last || performance.now() - startedMs < TURN_MS
    })
    const over = limit ?? this.#options.tape.over()
    if (over !== null && !last) void this.finish(over)
  }

  /** Why it was the last; null if it was not. */
  #take(packet: RecordedPacket): string | null {
    const { asked } = this.#options
    if (asked.packets !== null && this.#packets >= asked.packets) return `${asked.packets} packets are full`
    if (asked.bytes !== null && this.#bytes >= asked.bytes) return `${asked.bytes} bytes are full`
    const { words, service } = this.#wordsOf(packet)
    if (asked.markService !== null && service !== asked.markService) return null
    this.#packets += 1
    const id = BigInt(this.#packets)
    const came = this.#nameOf(packet.came.ifindex)
    this.#frame(packet, packet.came, came, 'in', id, `#${id} came: ${words}`)
    if (packet.action === Action.Send) {
      const name = this.#nameOf(packet.left.ifindex)
      this.#frame(packet, packet.left, name, 'out', id, `#${id} left: ${words}`)
    } else if (packet.action === Action.Pass && !isSame(packet.came, packet.left)) {
      this.#frame(packet, packet.left, STACK, 'out', id, `#${id} went to the host's stack: ${words}`)
    }
    if (asked.packets !== null && this.#packets >= asked.packets) return `${asked.packets} packets are full`
    return null
  }

  #frame(
    { atNs }: RecordedPacket,
    frame: RecordedFrame,
    name: string,
    direction: 'in' | 'out',
    packet: bigint,
    comment: string,
  ): void {
    const at = this.#interface(name)
    const { bytes, length } = tagged(frame)
    this.#put(packetBlock({ at, timeNs: this.#epochNs + atNs, direction, packet, bytes, length, comment }))
  }

  #nameOf(ifindex: number): string {
    return this.#options.nameOf(ifindex) ?? `interface ${ifindex}`
  }

  #interface(name: string): number {
    const known = this.#interfaces.get(name)
    if (known !== undefined) return known
    const number = this.#interfaces.size
    this.#interfaces.set(name, number)
    this.#put(interfaceBlock(name, this.#options.asked.wanted.snap))
    return number
  }

  /** The connection may have ended since; then less is known. */
  #wordsOf({ verdict, came }: RecordedPacket): { readonly words: string; readonly service: string | null } {
    const { plane } = this.#options
    const name = verdictNames[verdict] ?? String(verdict)
    const key = keyOf(came.bytes)
    const line = key === null ? null : findLine(this.#tables, key, plane.nowTicks())
    if (line === null) return { words: name, service: null }
    const real = realAt(plane, line.real)
    const service = real === null ? null : serviceAt(plane, real.service)
    const parts = [
      name,
      ...(service === null ? [] : [`service ${service.name}`]),
      ...(real === null ? [] : [`real server ${realText(real, line.virtual.port)} (${real.methodText})`]),
      `connection ${endpointText(line.client)} to ${endpointText(line.virtual)}, ${line.state}`,
    ]
    return { words: parts.join('; '), service: service?.name ?? null }
  }
}

function isSame(a: RecordedFrame, b: RecordedFrame): boolean {
  return a.length === b.length && Buffer.compare(a.bytes, b.bytes) === 0
}

const ADDRESSES = 12

/** With the tag that stood beside the frame where it stands on the wire. */
function tagged({ bytes, length, tag }: RecordedFrame): {
  readonly bytes: Uint8Array
  readonly length: number
} {
  if (tag === 0 || bytes.length < ADDRESSES) return { bytes, length }
  const whole = new Uint8Array(bytes.length + 4)
  whole.set(bytes.subarray(0, ADDRESSES))
  new DataView(whole.buffer).setUint32(ADDRESSES, tag)
  whole.set(bytes.subarray(ADDRESSES), ADDRESSES + 4)
  return { bytes: whole, length: length + 4 }
}
