/** The preload library, as built for this machine. */
import { existsSync } from 'node:fs'
import { builtFile } from '../../dataplane/assets.ts'

const MACHINE = process.arch === 'arm64' ? 'aarch64' : 'x86_64'
export const PRELOAD_LIBRARY = `pointsman-preload-${MACHINE}.so`

/** Why a program cannot be run with the library here; null if it can. */
export function preloadObstacle(program: string, debianPackage: string): string | null {
  if (process.getuid?.() !== 0) return 'namespaces and packet programs need root'
  if (!existsSync(builtFile(PRELOAD_LIBRARY))) return `${PRELOAD_LIBRARY} is missing: run npm run build`
  return existsSync(program) ? null : `${program} is missing: apt-get install ${debianPackage}`
}
