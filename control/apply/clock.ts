/** Time as whoever waits here knows it. */
export interface Clock {
  /** Milliseconds, monotonic. */
  nowMs(): number
  /** Calls back once; returns the way to call it off. */
  after(ms: number, action: () => void): () => void
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  after(ms, action) {
    const timer = setTimeout(action, ms)
    return () => clearTimeout(timer)
  },
}
