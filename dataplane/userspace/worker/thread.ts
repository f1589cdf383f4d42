/** A packet worker as the daemon's thread sees it: orders in, answers out. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker, type WorkerOptions } from 'node:worker_threads'
import { libc, words } from '../../../linux/libc.ts'
import { builtFile } from '../../assets.ts'
import { DataplaneError } from '../../dataplane.ts'
import type { NumberedOrder, WorkerAnswer, WorkerOrder, WorkerSetup } from './messages.ts'

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class WorkerThread {
  readonly #worker: Worker
  readonly #bell: Int32Array
  readonly #wakeFd: number
  readonly #waiting = new Map<number, Waiting>()
  readonly #exit: Promise<void>
  #number = 0
  #over = false
  #isEnding = false

  /** `onFailure` is told when the thread ended without being asked to. */
  constructor(setup: WorkerSetup, onFailure: (error: Error) => void) {
    this.#bell = new Int32Array(setup.seat.memory.buffer, setup.bell, 1)
    this.#wakeFd = setup.wakeFd
    this.#worker = startWorker({ workerData: setup, name: `packets ${setup.seat.cpu}` })
    this.#worker.unref()
    let failure: Error | null = null
    this.#worker.on('message', (answer: WorkerAnswer) => this.#answered(answer))
    this.#worker.on('error', (error) => {
      failure = error
    })
    this.#exit = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        const expected = this.#over
        this.#over = true
        const error = new DataplaneError(
          `A packet worker has ended: ${failure === null ? 'no reason given' : failure.message}`,
        )
        for (const { reject } of this.#waiting.values()) reject(error)
        this.#waiting.clear()
        resolve()
        if (!expected) onFailure(error)
      })
    })
  }

  get alive(): boolean {
    return !this.#over
  }

  /** Ends the thread wherever it is; `onFailure` hears of it. */
  async crash(): Promise<void> {
    // An answer that comes meanwhile must not let the process end before the thread has.
    this.#isEnding = true
    await this.#worker.terminate()
  }

  /** Returns when the worker has carried it out. */
  async order(order: WorkerOrder): Promise<void> {
    if (this.#over) throw new DataplaneError('Cannot give orders to a packet worker that has ended')
    this.#number += 1
    const message: NumberedOrder = { number: this.#number, order }
    const answered = new Promise<void>((resolve, reject) => {
      this.#waiting.set(message.number, { resolve, reject })
    })
    // While an answer is due, the process must not end for lack of other work.
    this.#worker.ref()
    this.#worker.postMessage(message)
    Atomics.add(this.#bell, 0, 1)
    libc.write(this.#wakeFd, words(1, 0), 8)
    await answered
  }

  async stop(): Promise<void> {
    if (this.#over) return
    const stopped = this.order({ kind: 'stop' })
    this.#over = true
    await stopped
    await this.#exit
  }

  #answered({ number, error }: WorkerAnswer): void {
    const waiting = this.#waiting.get(number)
    if (waiting === undefined) return
    this.#waiting.delete(number)
    if (this.#waiting.size === 0 && !this.#over && !this.#isEnding) this.#worker.unref()
    if (error === null) waiting.resolve()
    else waiting.reject(new DataplaneError(error))
  }
}

/** Starts what the build made; from sources, the source, behind the loader that this process runs with. */
function startWorker(options: WorkerOptions): Worker {
  const source = new URL('./packet-worker.ts', import.meta.url)
  if (!existsSync(fileURLToPath(source))) return new Worker(builtFile('packet-worker.js'), options)
  // A worker does not inherit loaders that were registered after the start.
  const loader = import.meta.resolve('tsx/esm/api')
  const script = `import(${JSON.stringify(loader)}).then(({ register }) => {
    register()
    return import(${JSON.stringify(source.href)})
  })`
  return new Worker(script, { ...options, eval: true })
}
