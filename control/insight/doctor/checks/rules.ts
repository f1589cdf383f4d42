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
