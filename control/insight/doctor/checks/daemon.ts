/** The daemon itself: whether it answers, works where it should, and may see what the doctor asks for. */
import { CountersRecord } from '../../../../dataplane/layout/layout.gen.ts'
import type { Check } from '../finding.ts'
import { startDaemon } from '../finding.ts'

const KERNEL_MIN = [6, 1] as const
/** What nobody would miss on a machine that is a director. */
const IDLE_COUNTERS_MAX = 256 << 20

export const daemon: Check = (facts) => {
  const { status, unreachable, forbidden } = facts
  if (forbidden) {
    return [
      {
        severity: 'failure',
        cause: unreachable ?? 'The daemon does not talk to this user',
        consequence: 'most of what can be wrong is not looked at',
        remedy: 'sudo pointsman doctor',
      },
    ]
  }
  if (status === null) {
    return [
      {
        severity: 'failure',
        cause: unreachable ?? 'No daemon answers',
        consequence: 'rules cannot be changed, ended connections are not cleared away',
        remedy: startDaemon(facts),
      },
    ]
  }
  if (status.dataplane.missing.length > 0) {
    return status.dataplane.missing.map(({ name, state, why }) => ({
      severity: 'failure',
      cause: state === 'waiting' ? `${name} is asked for, and there is no such interface` : why,
      consequence: `packets for virtual services that arrive at ${name} go to the local stack`,
      remedy: state === 'waiting' ? 'ip -br link' : `ip -d link show dev ${name}`,
    }))
  }
  if (status.forwarding) return []
  return [
    {
      severity: 'failure',
      cause: 'pointsmand takes packets from no interface',
      consequence: 'packets for virtual services go to the local stack',
      remedy: facts.candidate === null ? 'ip -br link' : `pointsmand --interface ${facts.candidate}`,
    },
  ]
}

export const lifetime: Check = ({ status }) =>
  (status?.dataplane.warnings ?? []).map((cause) => ({
    severity: 'warning',
    cause,
    consequence: 'forwarding may end with the processes of this session',
    remedy: 'findmnt --target /sys/fs/bpf',
  }))

export const kernel: Check = ({ kernel: release }) => {
  const [major = 0, minor = 0] = release.split('.').map(Number)
  if (major > KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor >= KERNEL_MIN[1])) return []
  return [
    {
      severity: 'failure',
      cause: `The kernel is ${release}, older than ${KERNEL_MIN.join('.')}`,
      consequence: 'the packet program may not load',
      remedy: 'pointsman dataplane userspace',
    },
  ]
}

export const privileges: Check = ({ root }) =>
  root
    ? []
    : [
        {
          severity: 'note',
          cause: 'Not run as root',
          consequence: 'offloads, routes, neighbours and firewall may not be readable: some traps go unseen',
          remedy: 'sudo pointsman doctor',
        },
      ]

export const namespace: Check = ({ together, status }) =>
  together || status === null
    ? []
    : [
        {
          severity: 'warning',
          cause: 'The daemon is in another network namespace, which cannot be entered from here',
          consequence: 'interfaces, routes and addresses below are not the director’s',
          remedy: `nsenter --target ${status.pid} --net pointsman doctor`,
        },
      ]

/** Earlier versions made rows for every CPU that a hypervisor might plug in; maps in use keep their sizes. */
export const counterMemory: Check = (facts) => {
  const { status, onlineCpus } = facts
  const { cpus = 0, reals = 0 } = status?.capacity ?? {}
  const idle = Math.max(0, cpus - onlineCpus) * reals * CountersRecord.size
  if (idle <= IDLE_COUNTERS_MAX) return []
  return [
    {
      severity: 'warning',
      cause: `Counters of ${reals} real servers have rows for ${cpus} CPUs, and ${onlineCpus} run`,
      consequence: `${Math.round(idle / 2 ** 20)} MiB of memory are taken for CPUs that may never come; maps made anew, without the connections of these, have rows for those that are there`,
      remedy: `pointsman detach && ${startDaemon(facts)}`,
    },
  ]
}
