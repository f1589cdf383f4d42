/** Debian's keepalived as a process of a test. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { builtFile } from '../../dataplane/assets.ts'
import type { LabDirector } from '../../lab/director.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { PRELOAD_LIBRARY } from '../preload/library.ts'

export const KEEPALIVED = '/usr/sbin/keepalived'

/** A keepalived in a director's namespace, with the preload library. */
export class Keepalived {
  readonly #director: LabDirector
  readonly #files: string
  readonly #roles: readonly string[]
  #child: ChildProcess | null = null

  /** @param roles options that leave out some of what it does: -C without VRRP, -P without checks */
  constructor(director: LabDirector, roles: readonly string[] = []) {
    this.#director = director
    this.#roles = roles
    this.#files = `${director.runDir}/keepalived`
  }

  get #checkers(): string {
    return `${this.#files}.checkers`
  }

  get #vrrp(): string {
    return `${this.#files}.vrrp`
  }

  get told(): readonly string[] {
    const path = `${this.#files}.told`
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : []
  }

  get log(): string {
    return readFileSync(`${this.#files}.log`, 'utf8')
  }

  /** A script that notes the words it is called with. */
  writeScript(): string {
    const script = `${this.#files}.sh`
    writeFileSync(script, `#!/bin/sh\necho "$1" >> ${this.#files}.told\n`, { mode: 0o755 })
    return script
  }

  write(configuration: string): void {
    writeFileSync(`${this.#files}.conf`, configuration)
  }

  start(): void {
    const pids = ['-p', `${this.#files}.pid`, '-c', this.#checkers, '-r', this.#vrrp]
    const words = ['-n', '-l', ...this.#roles, '-f', `${this.#files}.conf`, ...pids]
    const [program, ...args] = inNamespace(this.#director.namespace, [
      ...['sh', '-c', `exec "$@" >> ${this.#files}.log 2>&1`, 'sh', KEEPALIVED],
      ...words,
    ])
    const environment = { ...this.#director.environment(), LD_PRELOAD: builtFile(PRELOAD_LIBRARY) }
    this.#child = spawn(program, args, { stdio: 'ignore', env: environment })
  }

  reload(): void {
    this.#child?.kill('SIGHUP')
  }

  /** With all its processes, without a word. */
  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null) return
    const ended = once(child, 'exit')
    // The parent last, and held meanwhile: its death tells the others to end in good order, theirs to start them again.
    child.kill('SIGSTOP')
    try {
      for (const file of [this.#checkers, this.#vrrp]) {
        if (!existsSync(file)) continue
        process.kill(Number(readFileSync(file, 'utf8')), 'SIGKILL')
        // Nobody may have waited for it here, and the next one would take the dead one for alive.
        rmSync(file)
      }
    } finally {
      child.kill('SIGKILL')
    }
    await ended
  }

  async end(): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null) return
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  }
}
