/** Debian's own ipvsadm, run with `shim.c` in place of the kernel. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decodeRequest } from './requests.ts'

const PROGRAM = '/usr/sbin/ipvsadm'
/** The package whose bytes we promise. */
const VERSION = /ipvsadm v1\.31 .*popt/

export interface DebianOutput {
  readonly status: number | null
  readonly stdout: Buffer
  readonly stderr: Buffer
  /** What it asked of the kernel, in words (`requests.ts`). */
  readonly requests: readonly string[]
}

/** Answers that listings get. */
export type Answer = 'errno' | 'services' | 'dests' | 'daemons' | 'connections'

export class Debian {
  readonly #dir = mkdtempSync(join(tmpdir(), 'pointsman-oracle-'))
  readonly #shim = join(this.#dir, 'shim.so')
  readonly #log = join(this.#dir, 'log')

  constructor() {
    const source = fileURLToPath(new URL('shim.c', import.meta.url))
    execFileSync('clang', [
      '-shared',
      '-fPIC',
      '-O1',
      '-Wall',
      '-Wextra',
      '-Werror',
      '-o',
      this.#shim,
      source,
    ])
  }

  /** Why Debian's program cannot be asked here; null if it can. */
  static obstacle(): string | null {
    if (!existsSync(PROGRAM)) return `${PROGRAM} is missing: install the package ipvsadm`
    const debian = new Debian()
    try {
      const { stdout } = debian.run(['ipvsadm', '-v'])
      return VERSION.test(stdout.toString()) ? null : `${PROGRAM} is not version 1.31 with popt`
    } finally {
      debian.close()
    }
  }

  run(argv: readonly string[], stdin: string | Buffer = ''): DebianOutput {
    const [program, ...args] = argv
    writeFileSync(this.#log, '')
    const { status, stdout, stderr } = spawnSync(PROGRAM, args, {
      argv0: program!,
      input: stdin,
      maxBuffer: 64 * 1024 * 1024,
      // popt 1.19 looks forever for a word to put in place of `!#:+` where there is none.
      timeout: 5_000,
      killSignal: 'SIGKILL',
      env: { LC_ALL: 'C', LD_PRELOAD: this.#shim, ORACLE_LOG: this.#log, ORACLE_DIR: this.#dir },
    })
    const requests = readFileSync(this.#log, 'latin1').split('\n').filter(Boolean).map(decodeRequest)
    return { status, stdout, stderr, requests }
  }

  /** Sets what the kernel would answer; null: nothing. */
  answer(what: Answer, content: string | Uint8Array | null): void {
    const path = join(this.#dir, what)
    if (content === null) rmSync(path, { force: true })
    else writeFileSync(path, content)
  }

  close(): void {
    rmSync(this.#dir, { recursive: true, force: true })
  }
}
