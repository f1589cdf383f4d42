/** How long small requests wait on the daemon's socket. */
import { request } from 'node:http'
import { sleep } from '../lab/command.ts'

export interface Waited {
  readonly median: number
  readonly p99: number
  readonly most: number
}

/** One every two milliseconds, for as long as something else goes on. */
export class Latency {
  readonly #socket: string
  readonly #times: number[] = []
  #stopped = false
  readonly #running: Promise<void>

  constructor(socket: string) {
    this.#socket = socket
    this.#running = this.#run()
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      this.#times.push(await answerMs(this.#socket))
      await sleep(2)
    }
  }

  async stop(): Promise<Waited> {
    this.#stopped = true
    await this.#running
    const sorted = this.#times.toSorted((a, b) => a - b)
    return {
      median: sorted[Math.floor(sorted.length / 2)]!,
      p99: sorted[Math.floor(sorted.length * 0.99)]!,
      most: sorted.at(-1)!,
    }
  }
}

function answerMs(socketPath: string): Promise<number> {
  const started = performance.now()
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path: '/v1/timeouts', agent: false }, (answer) => {
      answer.resume()
      answer.on('end', () => resolve(performance.now() - started))
    })
    asked.on('error', reject)
    asked.end()
  })
}
