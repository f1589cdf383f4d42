/**
 * Requests go side by side, and now and then one thing goes alone. First come, first served: who comes
 * behind something that wants to be alone waits for it, so that it is not overtaken for ever.
 *
 * A permit is for work that ends by itself: a request asks for one when it is complete, and gives it back
 * before its answer has been taken. What goes at the pace of others all the same (a listing that is read
 * piece by piece, a question to a resolver) is told to hurry when somebody has waited too long for it.
 */

/** How long those inside may go on while something waits to be alone, before they are told to hurry. */
export const PATIENCE_MS = 1000

export interface Permit {
  /** Once is enough, more often does no harm. */
  release(): void
}

interface Waiting {
  readonly alone: boolean
  readonly grant: () => void
  readonly refuse: () => void
}

export class Permits {
  /** What is inside, by what makes it hurry. */
  readonly #inside = new Set<{ readonly hurry: () => void }>()
  readonly #queue: Waiting[] = []
  #alone = false
  #closed = false
  #emptied: () => void = () => {}

  /** Whether something goes alone, or waits to. */
  get reserved(): boolean {
    return this.#alone || this.#queue.some(({ alone }) => alone)
  }

  /** Whether something goes alone at this moment. */
  get exclusive(): boolean {
    return this.#alone
  }

  get closed(): boolean {
    return this.#closed
  }

  /** @returns null when the turn has not come within the limit, or will not come any more */
  shared(limitMs: number, hurry: () => void): Promise<Permit | null> {
    return this.#ask(false, limitMs, hurry)
  }

  /** @returns null when those inside have not left within the limit */
  alone(limitMs: number): Promise<Permit | null> {
    return this.#impatient(this.#ask(true, limitMs, () => {}))
  }

  /**
   * Nobody comes in any more, and those that wait are sent away.
   * @returns whether all have left within the limit
   */
  close(limitMs: number): Promise<boolean> {
    this.#closed = true
    for (const { refuse } of this.#queue.splice(0)) refuse()
    if (this.#inside.size === 0) return Promise.resolve(true)
    return this.#impatient(
      new Promise((resolve) => {
        const timer = setTimeout(() => resolve(false), limitMs)
        this.#emptied = () => {
          clearTimeout(timer)
          resolve(true)
        }
      }),
    )
  }

  async #impatient<T>(turn: Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      for (const { hurry } of this.#inside) hurry()
    }, PATIENCE_MS)
    try {
      return await turn
    } finally {
      clearTimeout(timer)
    }
  }

  #ask(alone: boolean, limitMs: number, hurry: () => void): Promise<Permit | null> {
    if (this.#closed) return Promise.resolve(null)
    if (this.#queue.length === 0 && this.#admits(alone)) return Promise.resolve(this.#permit(alone, hurry))
    return new Promise((resolve) => {
      const waiting: Waiting = {
        alone,
        grant: () => {
          clearTimeout(timer)
          resolve(this.#permit(alone, hurry))
        },
        refuse: () => {
          clearTimeout(timer)
          resolve(null)
        },
      }
      const timer = setTimeout(() => {
        this.#queue.splice(this.#queue.indexOf(waiting), 1)
        resolve(null)
        // Those behind it may have waited for nothing else.
        this.#next()
      }, limitMs)
      this.#queue.push(waiting)
    })
  }

  #admits(alone: boolean): boolean {
    return !this.#alone && (!alone || this.#inside.size === 0)
  }

  #permit(alone: boolean, hurry: () => void): Permit {
    const holder = { hurry }
    this.#inside.add(holder)
    this.#alone = alone
    return {
      release: () => {
        if (!this.#inside.delete(holder)) return
        if (alone) this.#alone = false
        this.#next()
        if (this.#inside.size === 0) this.#emptied()
      },
    }
  }

  #next(): void {
    for (;;) {
      const first = this.#queue[0]
      if (first === undefined || !this.#admits(first.alone)) return
      this.#queue.shift()
      first.grant()
    }
  }
}
