/** What follows for a service from what its checks say. Plain and immutable. */
import type { RealServer } from './server.ts'

/** A program to be run when something has happened; nobody waits for it. */
export interface Hook {
  readonly command: readonly string[]
  /** null: the user the daemon may run programs as. */
  readonly user: string | null
}

/** What becomes of a real server that is down: taken out of the list, or weight 0 (connections stay). */
export type OnFailure = 'remove' | 'drain'
/** What a real server is before its checks have said anything: `down` is keepalived's alpha. */
export type Start = 'up' | 'down'

/** What is said of a single real server. */
export interface ServerPolicy {
  readonly onUp: Hook | null
  readonly onDown: Hook | null
  /** null: as its service says. */
  readonly onFailure: OnFailure | null
  readonly start: Start | null
}

export const NO_SERVER_POLICY: ServerPolicy = { onUp: null, onDown: null, onFailure: null, start: null }

export interface HealthPolicy {
  /** A service is up with this much weight of real servers that are up (the sum, as keepalived counts). */
  readonly quorum: number
  /** Up at quorum + hysteresis, down below quorum - hysteresis; less than the quorum. */
  readonly hysteresis: number
  readonly onQuorumUp: Hook | null
  readonly onQuorumDown: Hook | null
  readonly onFailure: OnFailure
  readonly start: Start
  /** When the daemon ends, hooks are told as if all were down: keepalived's omega. */
  readonly hooksAtEnd: boolean
  /** Serves in the place of all others while the service is down; its own checks never take it out. */
  readonly sorryServer: RealServer | null
  /** It stays in the list with weight 0 when it is not needed, so that connections to it do not end. */
  readonly sorryStays: boolean
  /** After coming up the weight grows to what was said within this time; 0: at once. */
  readonly slowStartMs: number
}

export const DEFAULT_HEALTH_POLICY: HealthPolicy = {
  quorum: 1,
  hysteresis: 0,
  onQuorumUp: null,
  onQuorumDown: null,
  onFailure: 'remove',
  start: 'up',
  hooksAtEnd: false,
  sorryServer: null,
  sorryStays: false,
  slowStartMs: 0,
}
