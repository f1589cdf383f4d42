/** What `npm start` says while it shows something, and what went wrong. */

const bold = process.stdout.isTTY
  ? (text: string): string => `\x1b[1m${text}\x1b[0m`
  : (text: string): string => text

export function step(text: string): void {
  console.log(`${bold('==>')} ${text}`)
}

export function detail(text: string): void {
  console.log(text.replace(/^/gm, '    ').trimEnd())
}

export const problems: string[] = []
let interrupted = false

/** What is being taken away no longer answers. */
export function expectNothing(): void {
  interrupted = true
}

export function isInterrupted(): boolean {
  return interrupted
}

export function problem(text: string): void {
  if (interrupted) return
  problems.push(text)
  detail(`PROBLEM: ${text}`)
}
