/** What may be played by itself. */
export const PARTS = ['package', 'stacked', 'packets'] as const
export type Part = (typeof PARTS)[number]

/** What the virtual machine says of each step, as a line of JSON. */
export interface StepResult {
  readonly name: string
  readonly passed: boolean
  readonly detail: string
  readonly seconds: number
}

/** Folder of the packet program's tests in the job. */
export const PACKET_TESTS = 'packet-tests'
