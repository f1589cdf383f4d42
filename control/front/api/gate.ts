/** Lets requests through side by side, and now and then one thing alone. */
export class Gate {
  #inside = 0
  #closed: Promise<void> | null = null
  #emptied: (() => void) | null = null

  /** Waits while something goes on alone. */
  async enter(): Promise<void> {
    while (this.#closed !== null) await this.#closed
    this.#inside++
  }

  leave(): void {
    this.#inside--
    if (this.#inside === 0) this.#emptied?.()
  }

  /** To be called from within: lets the others finish, keeps new ones waiting, then acts. */
  async alone<T>(action: () => Promise<T>): Promise<T> {
    while (this.#closed !== null) await this.#closed
    let open: () => void = () => {}
    this.#closed = new Promise((resolve) => {
      open = resolve
    })
    this.#inside--
    try {
      if (this.#inside > 0) {
        await new Promise<void>((resolve) => {
          this.#emptied = resolve
        })
      }
      return await action()
    } finally {
      this.#emptied = null
      this.#inside++
      this.#closed = null
      open()
    }
  }
}
