/**
 * Explains packets for those who cannot run `pointsman explain`: a thread of its own gets a copy of the maps, so
 * that nobody else waits for it. One at a time, since each copy is as large as what is in the tables.
 */
import { once } from 'node:events'
import type { Worker } from 'node:worker_threads'
import { startThread } from '../../../../dataplane/thread.ts'
import type { NextHop } from '../../../../linux/netlink/next-hop.ts'
import type { ExplainAnswer } from '../../../front/api/route.ts'
import type { ExplainAsked } from '../../../front/api/schema/explanation.ts'
import type { WayQuestion } from '../desk.ts'
import type { FromThread, PacketAsked, ToThread } from './protocol.ts'

/** What a daemon can spare for a moment; `pointsman explain` has memory of its own. */
const COPY_MAX = 1 << 30
const LIMIT_MS = 30_000
/** Those who wait for their turn, with who has it. */
const WAITING_MAX = 8

function packetAsked({ protocol, from, to, flags, frame, ...rest }: ExplainAsked): PacketAsked {
  const words = [protocol ?? '', from ?? '', to ?? '']
  return { words, flags, frame, interface: rest.interface }
}

export class Asker {
  readonly #snapshot: () => AsyncIterable<Uint8Array> | null
  readonly #way: (question: WayQuestion) => NextHop
  #last: Promise<unknown> = Promise.resolve()
  #asking = 0

  /** @param snapshot null: there is no data plane */
  constructor(snapshot: () => AsyncIterable<Uint8Array> | null, way: (question: WayQuestion) => NextHop) {
    this.#snapshot = snapshot
    this.#way = way
  }

  /** @param signal nobody waits any more */
  async explain(asked: ExplainAsked, signal: AbortSignal): Promise<ExplainAnswer | null> {
    if (this.#asking >= WAITING_MAX) return { busy: 'Others ask at this moment: ask again' }
    this.#asking++
    const mine = this.#last.then(() => this.#explain(asked, signal))
    this.#last = mine.catch(() => {})
    try {
      return await mine
    } finally {
      this.#asking--
    }
  }

  async #explain(asked: ExplainAsked, signal: AbortSignal): Promise<ExplainAnswer | null> {
    const snapshot = signal.aborted ? null : this.#snapshot()
    if (snapshot === null) return null
    const thread = startThread(new URL('./explain-thread.ts', import.meta.url), null)
    const over = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)])
    try {
      return await this.#ask(thread, packetAsked(asked), snapshot, over)
    } catch (error) {
      if (over.aborted) return { busy: 'It takes too long at this moment: use pointsman explain' }
      throw error
    } finally {
      await thread.terminate()
    }
  }

  async #ask(
    thread: Worker,
    asked: PacketAsked,
    snapshot: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<ExplainAnswer> {
    const tell = (message: ToThread): void => thread.postMessage(message)
    const heard = async (): Promise<FromThread> => {
      const [message] = (await once(thread, 'message', { signal })) as [FromThread]
      return message
    }
    let length = 0
    for await (const bytes of snapshot) {
      length += bytes.length
      if (length > COPY_MAX)
        return { busy: `The tables have more than ${COPY_MAX >> 20} MiB in them: use pointsman explain` }
      const taken = heard()
      tell({ kind: 'piece', bytes })
      await taken
    }
    let next = heard()
    tell({ kind: 'explain', asked })
    for (;;) {
      const message = await next
      if (message.kind === 'explained') return { explanation: message.explanation }
      if (message.kind === 'refused') return { refused: message.why }
      if (message.kind !== 'way') throw new Error(`The thread that explains says "${message.kind}"`)
      next = heard()
      tell({ kind: 'way', hop: this.#way(message.question) })
    }
  }
}
