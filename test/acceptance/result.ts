/** What may be played by itself. */
export const PARTS = ['package', 'stacked'] as const
export type Part = (typeof PARTS)[number]

/** What the virtual machine says of each step, as a line of JSON. */
export interface StepResult {
  readonly name: string
  readonly passed: boolean
  readonly detail: string
  readonly seconds: number
}
