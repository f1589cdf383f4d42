/** Servers that a process of ours starts, and that are to be gone with it. */
import type { ChildProcess } from 'node:child_process'

/** A process of ours is not held up by a server that nobody has ended, and leaves none behind. */
export function endWithUs(child: ChildProcess): void {
  const kill = (): void => void child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.removeListener('exit', kill))
  child.unref()
}

/** Ends it without a word, and waits for that. */
export async function killed(child: ChildProcess | null): Promise<void> {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return
  child.ref()
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill('SIGKILL')
  await ended
}
