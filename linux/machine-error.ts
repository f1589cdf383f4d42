/** The machine could not do what was asked; the message says what was tried and what mends it. */
export class MachineError extends Error {
  override readonly name: string = 'MachineError'
}

/**
 * Whether an error is the machine's (a full disk, a kernel that refuses or does not answer), which can
 * happen at any time; anything else thrown is a fault of ours.
 */
export function isMachineTrouble(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error instanceof MachineError) return true
  // System calls of ours, and Node's.
  if ('errno' in error && typeof error.errno === 'number') return true
  return error.cause !== undefined && isMachineTrouble(error.cause)
}
