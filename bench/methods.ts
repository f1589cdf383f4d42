/** What is measured by every host of the packet program: the methods, their names and their verdicts. */
import { Verdict } from '../dataplane/layout/layout.gen.ts'

export const VIP = { 4: '10.200.1.1', 6: 'fd00:200::1' } as const
export const METHODS = ['direct-routing', 'tunnel', 'nat'] as const
export type Method = (typeof METHODS)[number]
export const FORWARDED = {
  'direct-routing': Verdict.ForwardDr,
  tunnel: Verdict.ForwardTun,
  nat: Verdict.ForwardNat,
} as const
export const LABEL = { 'direct-routing': 'DR', tunnel: 'TUN', nat: 'NAT' } as const
