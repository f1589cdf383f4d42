/** The bounds of IPVS's numbers. */
import type { Family } from '../../net/address.ts'

/** Weights, thresholds and most sysctls are signed 32-bit numbers in the kernel. */
export const INT_MAX = 2147483647

/** Of a timeout that a client names, persistence included: 31 days (MAX_TIMEOUT in ipvsadm). */
export const TIMEOUT_MAX_S = 31 * 24 * 60 * 60

/** The netmask that tells every client from every other: a mask (IPv4), a prefix length (IPv6). */
export const WHOLE_ADDRESS: Readonly<Record<Family, number>> = { 4: 0xffffffff, 6: 128 }
