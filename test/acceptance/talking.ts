/** Connections through the director that are watched from here. */
import { type ChildProcess, spawn } from 'node:child_process'
import { run, sleep, until } from '../../lab/command.ts'
import { expect, PATIENCE_MS, Wrong } from './story.ts'
import { KEPT, type Tally } from './traffic.ts'

export interface Asked {
  /** Where the clients are. */
  readonly namespace: string
  readonly address: string
  /** Of the director's commands. */
  readonly environment?: NodeJS.ProcessEnv
  /** Rules as they were. */
  readonly restore: () => Promise<void>
}

export function inNamespace(name: string, ...words: readonly string[]): ChildProcess {
  const [script] = process.argv.slice(1)
  return spawn('ip', ['netns', 'exec', name, process.execPath, script!, ...words], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
}

/** Connections that talk without a pause. */
export class Traffic {
  readonly #asked: Asked
  #client!: ChildProcess
  #tally!: Tally

  constructor(asked: Asked) {
    this.#asked = asked
    this.#start()
  }

  #start(): void {
    this.#tally = { kept: 0, broken: [], answers: 0, opened: 0, refused: 0 }
    const client = inNamespace(this.#asked.namespace, 'client', this.#asked.address, '80')
    this.#client = client
    client.on('message', (tally: Tally) => {
      if (client === this.#client) this.#tally = tally
    })
  }

  async flows(): Promise<void> {
    const before = this.#tally
    await until('connections to talk', PATIENCE_MS, () =>
      this.#tally.kept === KEPT &&
      this.#tally.opened > before.opened + 2 &&
      this.#tally.answers > before.answers + 50
        ? true
        : undefined,
    ).catch(async (error: Error) => {
      const verdicts = await run(['pointsman', 'verdicts'], { env: this.#asked.environment ?? process.env })
      throw new Wrong(
        `${error.message}: ${JSON.stringify(this.#tally)}\n${verdicts.stdout}${verdicts.stderr}`,
      )
    })
  }

  async stops(): Promise<void> {
    await sleep(1000)
    const before = this.#tally.answers
    await sleep(2000)
    expect(this.#tally.answers === before, `${this.#tally.answers - before} answers came all the same`)
  }

  /** Rules as they were and new connections, after a step that may have broken them. */
  async mend(): Promise<void> {
    await this.#asked.restore()
    this.end()
    this.#start()
  }

  /** Runs `body` and sees all connections through it; new ones may fail meanwhile, but are counted. */
  async through(body: () => Promise<string>): Promise<string> {
    await this.flows()
    const before = this.#tally
    const detail = await body()
    await this.flows()
    const { broken, answers, opened, refused } = this.#tally
    expect(broken.length === 0, `${broken.length} of ${KEPT} connections broken: ${broken[0]}; ${detail}`)
    const counted = `${answers - before.answers} answers over ${KEPT} connections, 0 broken; ${opened - before.opened} new, ${refused - before.refused} not made`
    return detail === '' ? counted : `${detail}; ${counted}`
  }

  end(): void {
    this.#client.kill('SIGKILL')
  }
}
