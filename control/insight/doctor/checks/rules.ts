/** Rules and settings that are kept, and do not do what they say. */
import { serviceTitle } from '../../../front/api/names.ts'
import { SYSCTLS } from '../../../model/sysctls.ts'
import type { Check } from '../finding.ts'

export const unsupportedRules: Check = ({ status }) =>
  (status?.unsupported ?? []).map(({ service, reasons }) => ({
    severity: 'warning',
    cause: `A rule uses what the packet program cannot do yet: ${reasons.join(', ')} in ${serviceTitle(service)}`,
    consequence: 'it is kept and not in force: its packets go to the local stack',
    remedy: 'ipvsadm -Ln',
  }))

/** One of a virtual address is the stack's own affair on every data plane: nothing is translated. */
export const localServers: Check = ({ status, servers, virtual }) => {
  const kind = status?.dataplane.kind
  if (kind !== 'xdp' && kind !== 'tc') return []
  return servers
    .filter(({ route, methods }) => route === 'local' && methods.includes('nat'))
    .filter(({ address }) => !virtual.some((one) => one.address === address))
    .map(({ address }) => ({
      severity: 'note',
      cause: `Real server ${address} is this host itself, by NAT`,
      consequence:
        'a change to the userspace plane, which does not carry that out, resets its connections; xdp and tc keep them',
      remedy: `pointsman dataplane ${kind}`,
    }))
}

export const settings: Check = ({ sysctls }) =>
  Object.entries(sysctls).flatMap(([name, value]) => {
    const sysctl = Object.hasOwn(SYSCTLS, name) ? SYSCTLS[name] : undefined
    if (sysctl === undefined || sysctl.inForce || value === sysctl.initial) return []
    return [
      {
        severity: 'warning',
        cause: `Setting ${name}=${value} is kept and not acted on`,
        consequence: `packets are treated as with ${name}=${sysctl.initial}`,
        remedy: `pointsman set ${name}=${sysctl.initial}`,
      },
    ]
  })

/** Addresses of the host that the program's table has room for (PM_LOCALS buckets of PM_BUCKET). */
const LOCALS = 1024

export const localAddresses: Check = ({ ownAddresses }) =>
  ownAddresses <= LOCALS
    ? []
    : [
        {
          severity: 'note',
          cause: `This host has ${ownAddresses} addresses, and the packet program knows ${LOCALS}`,
          consequence: 'packets that pretend to come from one of the others are balanced (RFC 1812 §5.3.7)',
          remedy: 'ip -br addr',
        },
      ]
