/** Timeouts, settings and verdicts as they cross the API. */
import { z } from 'zod'
import { TIMEOUT_MAX_S } from '../../../model/limits.ts'
import { SYSCTLS } from '../../../model/sysctls.ts'

const seconds = z.int().min(0).max(TIMEOUT_MAX_S)
export const timeoutsBody = z
  .strictObject({ tcp: seconds, tcpFin: seconds, udp: seconds })
  .partial()
  .meta({ id: 'Timeouts', description: 'seconds; 0 or left out keeps a value' })
export const timeoutsAnswer = z
  .object({ tcp: z.int(), tcpFin: z.int(), udp: z.int() })
  .meta({ id: 'TimeoutsShown', description: 'seconds' })

export const sysctlParams = z.object({ name: z.string() })
export const sysctlBody = z.strictObject({ value: z.int() }).meta({ id: 'SysctlValue' })
export const sysctlsAnswer = z
  .record(z.string(), z.int())
  .meta({ id: 'Sysctls', description: 'values by the names of net.ipv4.vs' })
/** A setting that was changed. */
export const sysctlAnswer = z
  .object({
    name: z.string(),
    value: z.int(),
    inForce: z.boolean().meta({ description: 'false: kept and shown, nothing acts on it' }),
  })
  .meta({ id: 'SysctlShown' })

export function sysctlJson(name: string, value: number): z.infer<typeof sysctlAnswer> {
  return { name, value, inForce: SYSCTLS[name]?.inForce ?? false }
}

export const verdictsAnswer = z
  .record(z.string(), z.number())
  .meta({ id: 'Verdicts', description: 'packets by verdict; those that never occurred are left out' })
