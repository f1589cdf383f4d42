import type { Errno, Outcome } from './model.ts'

export const done: Outcome = { ok: true, value: undefined }

export function success<T>(value: T): Outcome<T> {
  return { ok: true, value }
}

/** A refusal in IPVS's words; `message` quotes the value and says what was wanted. */
export function refuse(errno: Errno, message: string): { ok: false; errno: Errno; message: string } {
  return { ok: false, errno, message }
}
