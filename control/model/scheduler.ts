/** The schedulers by IPVS's names. */

/**
 * All names IPVS's schedulers go by, and then two of our own; `none` is IPVS's word for "no scheduler". Debian's
 * kernel is built without `twos`.
 */
export const SCHEDULERS = [
  'none',
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'dh',
  'sh',
  'sed',
  'nq',
  'fo',
  'ovf',
  'mh',
  'twos',
  'random',
  'wrandom',
] as const
export type SchedulerName = (typeof SCHEDULERS)[number]

/** Prime; the kernel's table index 12, which Debian builds. */
export const MH_TABLE_SIZE = 4093
