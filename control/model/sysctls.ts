/**
 * The settings IPVS keeps under `net.ipv4.vs`, by short name. Defaults and ranges are the kernel's
 * (Linux 6.1); what the packet program does with each is in `control/compile/settings.ts`.
 */
import { INT_MAX } from './limits.ts'
import type { Outcome } from './outcome.ts'
import { done, refuse } from './outcome.ts'

export interface Sysctl {
  readonly initial: number
  readonly min: number
  readonly max: number
  /** Whether the packet path or the daemon acts on it; the others have the value that they act by, and no other. */
  readonly inForce: boolean
}

/** Taken although nothing acts on it, and said so: answers are always routed as with 1 (docs/DIFFERENCES.md). */
const TAKEN_ALL_THE_SAME = 'snat_reroute'

const flag = (initial: number, inForce: boolean): Sysctl => ({ initial, min: 0, max: INT_MAX, inForce })
const mode = (inForce: boolean): Sysctl => ({ initial: 0, min: 0, max: 3, inForce })

export const SYSCTLS: Readonly<Record<string, Sysctl>> = {
  amemthresh: { initial: 1024, min: 0, max: INT_MAX, inForce: true },
  am_droprate: { initial: 10, min: 0, max: INT_MAX, inForce: true },
  backup_only: flag(0, false),
  cache_bypass: flag(0, true),
  conn_reuse_mode: { initial: 1, min: 0, max: INT_MAX, inForce: true },
  conntrack: flag(0, false),
  drop_entry: mode(false),
  drop_packet: mode(true),
  expire_nodest_conn: flag(0, true),
  expire_quiescent_template: flag(0, true),
  ignore_tunneled: flag(0, false),
  lblc_expiration: { initial: 86400, min: 0, max: INT_MAX, inForce: true },
  lblcr_expiration: { initial: 86400, min: 0, max: INT_MAX, inForce: true },
  nat_icmp_send: flag(0, true),
  pmtu_disc: flag(1, true),
  run_estimation: flag(1, true),
  schedule_icmp: flag(0, true),
  secure_tcp: mode(true),
  sloppy_sctp: flag(0, true),
  sloppy_tcp: flag(0, true),
  snat_reroute: flag(1, false),
  sync_persist_mode: flag(0, false),
  sync_ports: { initial: 1, min: 1, max: 64, inForce: false },
  sync_refresh_period: { initial: 0, min: 0, max: INT_MAX, inForce: false },
  sync_retries: { initial: 0, min: 0, max: 3, inForce: false },
  sync_sock_size: { initial: 0, min: 0, max: INT_MAX, inForce: false },
  sync_version: { initial: 1, min: 0, max: 1, inForce: false },
}

export function initialSysctls(): Record<string, number> {
  return Object.fromEntries(Object.entries(SYSCTLS).map(([name, { initial }]) => [name, initial]))
}

/** Whether `value` may be given to `name`. */
export function checkSysctl(name: string, value: number): Outcome {
  const sysctl = Object.hasOwn(SYSCTLS, name) ? SYSCTLS[name] : undefined
  if (sysctl === undefined) {
    return refuse('ENOENT', `Unknown setting "${name}": expected one of ${Object.keys(SYSCTLS).join(', ')}`)
  }
  if (!Number.isInteger(value) || value < sysctl.min || value > sysctl.max) {
    return refuse('EINVAL', `Cannot set ${name} to ${value}: expected ${sysctl.min} to ${sysctl.max}`)
  }
  if (name === 'sync_ports' && (value & (value - 1)) !== 0) {
    return refuse('EINVAL', `Cannot set sync_ports to ${value}: expected a power of two`)
  }
  if (!sysctl.inForce && value !== sysctl.initial && name !== TAKEN_ALL_THE_SAME) {
    return refuse(
      'EOPNOTSUPP',
      `Cannot set ${name} to ${value}: there is no such setting here yet, all goes as with ${sysctl.initial}`,
    )
  }
  return done
}
