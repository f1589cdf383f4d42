/** What is counted for services and real servers. */

/** Totals since the start or the last `-Z`. */
export interface Counters {
  readonly conns: bigint
  readonly inPackets: bigint
  readonly outPackets: bigint
  readonly inBytes: bigint
  readonly outBytes: bigint
}

/** Per second, as IPVS's estimator would show them (spec dataplane.md §11), rounded for display. */
export interface Rates {
  readonly cps: number
  readonly inPps: number
  readonly outPps: number
  readonly inBps: number
  readonly outBps: number
}
