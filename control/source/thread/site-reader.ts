/** Reads sites in a thread of their own, one after the other. */
import type { Worker } from 'node:worker_threads'
import { startThread } from '../../../dataplane/thread.ts'
import type { Site, SiteService } from '../../model/site.ts'
import type { StatingSource } from '../../model/source.ts'
import type { Reading } from '../file/read.ts'
import { Unpacker } from './packing.ts'
import type { Extent, Notice, Order, ReadAnswer, ReaderSettings, ReadOrder } from './protocol.ts'

export interface NumberedReading extends Reading {
  readonly number: number
}

interface Waiting {
  readonly order: ReadOrder
  readonly services: SiteService[]
  readonly unpacker: Unpacker
  readonly resolve: (reading: NumberedReading) => void
  readonly reject: (error: Error) => void
}

export class SiteReader {
  /** Told what the thread says by itself. */
  onNotice: (notice: Notice) => void = () => {}
  /** The thread has ended without having been asked to, and with it what it follows. */
  onLost: () => void = () => {}
  readonly #settings: ReaderSettings
  #closed = false
  #worker: Worker | null = null
  #number = 0
  readonly #waiting = new Map<number, Waiting>()
  /** What the thread has sent last of each source, as it remembers that itself. */
  #last = new Map<StatingSource, readonly SiteService[]>()

  constructor(settings: ReaderSettings = { poolFile: null, goodFolder: null }) {
    this.#settings = settings
  }

  /** Rejects only if the thread itself fails; what is wrong with a text is in the reading. */
  read(source: StatingSource, path: string, what: Extent = 'whole'): Promise<NumberedReading> {
    const worker = this.#thread()
    this.#number += 1
    const order: ReadOrder = { order: 'read', number: this.#number, source, path, what }
    return new Promise((resolve, reject) => {
      this.#waiting.set(order.number, { order, services: [], unpacker: new Unpacker(), resolve, reject })
      // While an answer is due, the process must not end for lack of other work.
      worker.ref()
      worker.postMessage(order)
    })
  }

  /**
   * What was read is in force: pools are read again beside these texts.
   * @param without where services stand that were left out
   */
  applied({ number }: NumberedReading, without: readonly string[] = []): void {
    this.#worker?.postMessage({ order: 'applied', number, without } satisfies Order)
  }

  stands(source: StatingSource, why: string | null): void {
    this.#worker?.postMessage({ order: 'stands', source, why } satisfies Order)
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#worker?.terminate()
  }

  #thread(): Worker {
    if (this.#worker !== null) return this.#worker
    const worker = startThread(new URL('./site-worker.ts', import.meta.url), this.#settings)
    this.#worker = worker
    worker.on('message', (answer: ReadAnswer | Notice) => {
      if (answer.kind === 'stale' || answer.kind === 'pools' || answer.kind === 'revised') {
        this.onNotice(answer)
        return
      }
      this.#take(answer)
      worker.postMessage({ order: 'taken' } satisfies Order)
    })
    worker.on('error', (error) =>
      this.#lost(worker, error instanceof Error ? error : new Error(String(error))),
    )
    worker.on('exit', () => this.#lost(worker, new Error('The thread that reads files has ended')))
    return worker
  }

  #take(answer: ReadAnswer): void {
    const waiting = this.#waiting.get(answer.number)
    if (waiting === undefined) return
    const { order, services, unpacker } = waiting
    if (answer.kind === 'services') {
      const last = this.#last.get(order.source) ?? []
      for (const one of unpacker.unpack(answer.packed))
        services.push('same' in one ? moved(last[one.same]!, one.at) : one)
      return
    }
    this.#waiting.delete(answer.number)
    if (this.#waiting.size === 0) this.#worker?.unref()
    if (answer.kind === 'failed') {
      waiting.reject(new Error(`Cannot read ${order.path}: ${answer.message}`))
      return
    }
    if (answer.site !== null) this.#last.set(order.source, services)
    const site: Site | null = answer.site === null ? null : { services, ...answer.site }
    waiting.resolve({ number: answer.number, site, complaints: answer.complaints })
  }

  /** The next order starts another one, which has sent nothing yet. */
  #lost(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return
    this.#worker = null
    this.#last = new Map()
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(error)
    if (!this.#closed) this.onLost()
  }
}

function moved(service: SiteService, at: SiteService['at']): SiteService {
  const { file, line, column } = service.at
  return file === at.file && line === at.line && column === at.column ? service : { ...service, at }
}
