/**
 * What `npm run build` makes of the lab's own programs. A lab starts four processes beside the director's:
 * each bundle begins in a tenth of the processor time that its sources take.
 */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

function built(path: string): string {
  const file = fileURLToPath(new URL(`../dist/${path}`, import.meta.url))
  if (!existsSync(file)) throw new Error(`${file} is missing: run "npm run build"`)
  return file
}

/** The object of `lab.bpf.c`. */
export const labPrograms = (): string => built('lab.bpf.o')

/** Command line that runs one of the lab's processes. */
export function labProcess(name: 'server' | 'client-process', args: readonly string[] = []): string[] {
  return [process.execPath, built(`lab/${name}.js`), ...args]
}
