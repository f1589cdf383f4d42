/** What all parts of the story are told with: a step is a line of JSON. */
import { must } from '../../lab/command.ts'
import type { StepResult } from './result.ts'

/** An emulated machine is slow, and slower yet where others want the processors that emulate it. */
export const PATIENCE_MS = 900_000

export class Wrong extends Error {}

export function expect(condition: boolean, otherwise: string): void {
  if (!condition) throw new Wrong(otherwise)
}

export async function sh(script: string): Promise<string> {
  return (await must(['sh', '-euc', script], { timeoutMs: PATIENCE_MS })).trim()
}

let witness: () => Promise<string> = async () => ''

/** What is told beside each failure from now on: somebody's last words. */
export function showWithFailures(words: () => Promise<string>): void {
  witness = words
}

export function tell(result: StepResult): void {
  process.stdout.write(`${JSON.stringify(result)}\n`)
}

/** A step's text is what was seen. Returns whether it passed. */
export async function step(name: string, body: () => Promise<string>): Promise<boolean> {
  const startedAt = performance.now()
  const seconds = (): number => Math.round((performance.now() - startedAt) / 100) / 10
  try {
    tell({ name, passed: true, detail: await body(), seconds: seconds() })
    return true
  } catch (error) {
    const detail =
      error instanceof Wrong ? error.message : String(error instanceof Error ? error.stack : error)
    const words = await witness().catch((cause) => String(cause))
    tell({ name, passed: false, detail: `${detail}\n${words}`.trim(), seconds: seconds() })
    return false
  }
}
