/** Servers that a process of ours starts, and that are to be gone with it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

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

/** A server as a process, with a folder that goes with it. */
export class ServerProcess {
  readonly folder: string
  #child: ChildProcess | null = null

  /** @param folder one of its own, unless said */
  constructor(name: string, folder?: string) {
    this.folder = folder ?? mkdtempSync(join(tmpdir(), `pointsman-${name}-`))
  }

  /** `outlive`: it may go on after this process. */
  protected run([program, ...words]: readonly [string, ...string[]], outlive = false): ChildProcess {
    const child = spawn(program, words, { stdio: 'ignore', detached: outlive })
    if (outlive) child.unref()
    else endWithUs(child)
    this.#child = child
    return child
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  /** Without a word; returns when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    await killed(child)
  }

  async remove(): Promise<void> {
    await this.kill()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
