/** The machine could not do what was asked; the message says what was tried and what mends it. */
export class MachineError extends Error {
  override readonly name: string = 'MachineError'
}
