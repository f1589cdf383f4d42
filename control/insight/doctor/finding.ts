/** What the doctor says, and how a check comes to it: facts in, findings out. */
import type { DoctorFacts } from './facts.ts'

export interface Finding {
  /** failure: packets are lost or will be; warning: they may be; note: cannot be seen, or good to know. */
  readonly severity: 'failure' | 'warning' | 'note'
  readonly cause: string
  readonly consequence: string
  /**
   * A command that can be typed as it stands: it mends the cause, or shows what has to be known for that
   * where only the operator can.
   */
  readonly remedy: string
}

export type Check = (facts: DoctorFacts) => readonly Finding[]

/** Starts the daemon: the service where there is one, else by hand. */
export function startDaemon({ service, candidate, orphaned, runDirectory }: DoctorFacts): string {
  if (service && runDirectory === null) return 'systemctl restart pointsmand'
  const folder = runDirectory === null ? '' : ` --run-dir ${runDirectory}`
  // Told of one, it would let go of the others that packets are taken from now.
  if (orphaned) return `pointsmand${folder}`
  return candidate === null ? 'ip -br link' : `pointsmand${folder} --interface ${candidate}`
}

/** A command for where the other end of a veth pair is. */
export function at(namespace: string | null, command: string): string {
  return namespace === null ? command : `ip netns exec ${namespace} ${command}`
}
