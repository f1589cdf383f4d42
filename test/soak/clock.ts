/** A wall clock of the director's own, to be set at will. CLOCK_REALTIME has no namespace. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { must } from '../../lab/command.ts'

const SOURCE = fileURLToPath(new URL('clock.c', import.meta.url))
const DIST = fileURLToPath(new URL('../../dist', import.meta.url))

export class Clock {
  readonly #library: string
  readonly #file: string

  private constructor(library: string, file: string) {
    this.#library = library
    this.#file = file
    writeFileSync(file, new BigInt64Array([0n]))
  }

  /** `folder`: where the processes whose clock it is find the shift. */
  static async make(folder: string): Promise<Clock> {
    mkdirSync(DIST, { recursive: true })
    const library = join(DIST, 'clock.so')
    const temporary = `${library}.${process.pid}.tmp`
    await must(['clang', '-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', SOURCE, '-o', temporary])
    renameSync(temporary, library)
    return new Clock(library, join(folder, 'clock-shift'))
  }

  /** For a process, and those that it starts. */
  environment(): Record<string, string> {
    return { LD_PRELOAD: this.#library, CLOCK_SHIFT: this.#file }
  }

  /** From now on it is so many seconds later there than here; to be written in place, since it is mapped. */
  shift(seconds: number): void {
    writeFileSync(this.#file, new BigInt64Array([BigInt(seconds)]), { flag: 'r+' })
  }
}
