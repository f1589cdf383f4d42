/**
 * The way out of the process, which always gets there: what has to be kept is kept first, clients are waited
 * for a little, and nothing (a client that stalls, a kernel that does not answer) can hold it up.
 */

/** Clients are waited for this long altogether. */
export const CLIENTS_MS = 2000
/** Then the process ends, wherever it is. */
export const END_MS = 5000

export interface Step {
  /** Completes "Cannot ...". */
  readonly name: string
  /** It is left alone after this. */
  readonly limitMs: number
  readonly run: () => unknown
}

export interface EndingOptions {
  /** Ends the process; the last resort. */
  readonly exit: (status: number) => void
  readonly warn: (error: unknown, message: string) => void
}

export class Ending {
  readonly #options: EndingOptions
  #begun = false
  #failed = false

  constructor(options: EndingOptions) {
    this.#options = options
  }

  get begun(): boolean {
    return this.#begun
  }

  /** Whatever the reason to end was, it is a failure now. */
  failed(): void {
    this.#failed = true
  }

  /**
   * Runs the steps in order, each whether or not those before it could be done.
   * @returns the exit status: `status`, or 1 if something failed
   */
  async run(status: number, steps: readonly Step[]): Promise<number> {
    this.#begun = true
    const last = setTimeout(() => {
      this.#options.warn(null, `Cannot end within ${END_MS} ms: leaving as it is`)
      this.#options.exit(1)
    }, END_MS)
    for (const { name, limitMs, run } of steps) {
      try {
        await within(limitMs, run())
      } catch (error) {
        this.#options.warn(error, `Cannot ${name}`)
        this.#failed = true
      }
    }
    clearTimeout(last)
    return this.#failed ? 1 : status
  }
}

/** Rejects when something does not end in time; it goes on by itself then. */
async function within(limitMs: number, action: unknown): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${limitMs} ms`)), limitMs)
  })
  try {
    await Promise.race([action, late])
  } finally {
    clearTimeout(timer)
  }
}
