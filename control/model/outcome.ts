/** Refusals are values: what IPVS would answer, and what was wrong in words. */

/** The refusals of IPVS's netlink interface, in its words (spec netlink.md §7). */
export type Errno =
  | 'EPERM'
  | 'ENOENT'
  | 'ESRCH'
  | 'EEXIST'
  | 'EINVAL'
  | 'ERANGE'
  | 'ENOMEM'
  | 'ENODEV'
  | 'ENOSPC'
  | 'ENOPROTOOPT'
  | 'EOPNOTSUPP'
  | 'EAFNOSUPPORT'
  | 'EMSGSIZE'
  /** None of IPVS's: the service belongs to a source, and the message says to which. */
  | 'EBUSY'
  /** Neither: an option of ours does not go with another, and the message says with which. */
  | 'ENOTSUP'

export type Outcome<T = void> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly errno: Errno; readonly message: string }

export const done: Outcome = { ok: true, value: undefined }

export function success<T>(value: T): Outcome<T> {
  return { ok: true, value }
}

/** A refusal in IPVS's words; `message` quotes the value and says what was wanted. */
export function refuse(errno: Errno, message: string): { ok: false; errno: Errno; message: string } {
  return { ok: false, errno, message }
}
