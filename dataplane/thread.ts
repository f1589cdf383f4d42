/** Threads of a program's own, started from what the build made or from their sources. */
import { existsSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { builtFile } from './assets.ts'

/** Starts what the build made; from sources, the source, behind the loader that this process runs with. */
export function startThread(source: URL, workerData: unknown): Worker {
  const path = fileURLToPath(source)
  if (!existsSync(path))
    return new Worker(builtFile(`${basename(path).replace(/\.ts$/, '')}.js`), { workerData })
  // A worker does not inherit loaders that were registered after the start.
  const loader = import.meta.resolve('tsx/esm/api')
  const script = `import(${JSON.stringify(loader)}).then(({ register }) => {
    register()
    return import(${JSON.stringify(source.href)})
  })`
  return new Worker(script, { eval: true, workerData })
}
