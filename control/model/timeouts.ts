/** How long connections live without packets. */

/** Seconds. */
export interface Timeouts {
  readonly tcp: number
  readonly tcpFin: number
  readonly udp: number
}
