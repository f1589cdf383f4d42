/**
 * A hold by hand: a weight that a person gave a real server in the middle of the night. It stands above what
 * the source says and above what checks find, until somebody ends it, its time is over, or the source drops
 * the real server.
 */
export interface Hold {
  /** 0 drains. */
  readonly weight: number
  /** Wall clock, ms: it has to mean the same after a restart. */
  readonly sinceMs: number
  /** Ends by itself; null: somebody has to end it. */
  readonly untilMs: number | null
  /** The command it came from, `pointsman drain` or `ipvsadm -e`. */
  readonly by: string
}
