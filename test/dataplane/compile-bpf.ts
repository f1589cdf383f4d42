/** Compiles a few lines of C to a BPF object, for tests that need an object of their own. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const multiarch = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`

/** Why objects cannot be compiled here, or false. */
export const skipWithoutClang: string | false =
  spawnSync('clang', ['--version']).status === 0 ? false : 'needs clang to compile an object'

/** The bytes of the object; `headers` replaces headers of bpf/ by name. */
export function compileBpf(source: string, headers: Readonly<Record<string, string>> = {}): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-bpf-'))
  try {
    for (const [name, text] of Object.entries(headers)) writeFileSync(join(folder, name), text)
    writeFileSync(join(folder, 'test.bpf.c'), source)
    const output = join(folder, 'test.bpf.o')
    const mode = ['-target', 'bpf', '-mcpu=v3', '-O2', '-g', '-Wall', '-Werror']
    const paths = [`-I${folder}`, `-I${join(root, 'bpf')}`, `-I${multiarch}`]
    execFileSync('clang', [...mode, ...paths, '-c', join(folder, 'test.bpf.c'), '-o', output], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    return readFileSync(output)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
