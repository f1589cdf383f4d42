/**
 * Writes dataplane/layout/layout.gen.ts from the compiled packet program; `--check` only compares.
 *
 *     npm run generate [-- --check] [--object FILE] [--output FILE]
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { btfOfElf } from '../dataplane/layout/btf.ts'
import { LayoutError } from '../dataplane/layout/record.ts'
import { layoutSource } from './layout-source.ts'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const LAYOUT_PATH = join(root, 'dataplane/layout/layout.gen.ts')

/** The text that `layout.gen.ts` should have. */
export function generateLayout(objectPath: string): string {
  return layoutSource({
    btf: btfOfElf(readFileSync(objectPath)),
    typesHeader: readFileSync(join(root, 'bpf/types.h'), 'utf8'),
    mapsHeader: readFileSync(join(root, 'bpf/maps.h'), 'utf8'),
  })
}

/** Writes or, with `check`, compares the layout; says what is wrong and returns whether all is well. */
export function updateLayout(objectPath: string, outputPath = LAYOUT_PATH, check = false): boolean {
  let wanted: string
  try {
    wanted = generateLayout(objectPath)
  } catch (error) {
    if (error instanceof LayoutError) {
      console.error(`Cannot generate the layout: ${error.message}`)
      return false
    }
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      console.error(`Cannot generate the layout: ${error.message}; build it first: npm run build`)
      return false
    }
    throw error
  }
  if (readIfThere(outputPath) === wanted) return true
  if (check) {
    console.error(`${outputPath} is stale: run npm run generate and commit the result`)
    return false
  }
  writeFileSync(outputPath, wanted)
  console.log(`wrote ${outputPath}`)
  return true
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      check: { type: 'boolean', default: false },
      object: { type: 'string', default: join(root, 'dist/pointsman.bpf.o') },
      output: { type: 'string', default: LAYOUT_PATH },
    },
  })
  if (!updateLayout(values.object, values.output, values.check)) process.exitCode = 1
}
