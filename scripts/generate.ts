/**
 * Writes dataplane/layout.gen.ts from the compiled packet program; `--check` only compares.
 *
 *     npm run generate [-- --check] [--object FILE] [--output FILE]
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { btfOfElf } from '../dataplane/btf.ts'
import { LayoutError } from '../dataplane/record-layout.ts'
import { layoutSource } from './layout-source.ts'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** The text that `layout.gen.ts` should have. */
export function generateLayout(objectPath: string): string {
  return layoutSource({
    btf: btfOfElf(readFileSync(objectPath)),
    typesHeader: readFileSync(join(root, 'bpf/types.h'), 'utf8'),
    mapsHeader: readFileSync(join(root, 'bpf/maps.h'), 'utf8'),
  })
}

function main(): number {
  const { values } = parseArgs({
    options: {
      check: { type: 'boolean', default: false },
      object: { type: 'string', default: join(root, 'dist/pointsman.bpf.o') },
      output: { type: 'string', default: join(root, 'dataplane/layout.gen.ts') },
    },
  })
  let wanted: string
  try {
    wanted = generateLayout(values.object)
  } catch (error) {
    if (error instanceof LayoutError) {
      console.error(`Cannot generate the layout: ${error.message}`)
      return 1
    }
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      console.error(`Cannot generate the layout: ${error.message}; build it first: npm run build`)
      return 1
    }
    throw error
  }
  const present = readIfThere(values.output)
  if (present === wanted) return 0
  if (values.check) {
    console.error(`${values.output} is stale: run npm run generate and commit the result`)
    return 1
  }
  writeFileSync(values.output, wanted)
  console.log(`wrote ${values.output}`)
  return 0
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main()
