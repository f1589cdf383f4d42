/**
 * Writes dataplane/layout/layout.gen.ts from the compiled packet program; `--check` only compares. The
 * layout that is replaced joins the earlier ones in versions.gen.ts; with `--unreleased` it does not, and its
 * version may stay: no maps of it are anywhere but with developers.
 *
 *     npm run generate [-- --check] [--unreleased] [--object FILE] [--output FILE]
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { btfOfElf } from '../dataplane/layout/btf.ts'
import { LayoutError } from '../dataplane/layout/record.ts'
import { EARLIER_LAYOUTS } from '../dataplane/layout/versions.gen.ts'
import {
  describedLayout,
  keptLayouts,
  type LayoutText,
  layoutSource,
  versionsSource,
} from './layout-source.ts'

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
export function updateLayout(
  objectPath: string,
  outputPath = LAYOUT_PATH,
  { check = false, unreleased = false } = {},
): boolean {
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
  const present = readIfThere(outputPath)
  if (present === wanted) return true
  if (check) {
    console.error(`${outputPath} is stale: run npm run generate and commit the result`)
    return false
  }
  const next = describedLayout(wanted)
  if (next === null) throw new Error('The generated layout does not describe itself')
  let kept: readonly LayoutText[]
  try {
    const previous = present === null || unreleased ? null : describedLayout(present)
    kept = keptLayouts(EARLIER_LAYOUTS, previous, next)
  } catch (error) {
    if (!(error instanceof LayoutError)) throw error
    console.error(`Cannot generate the layout: ${error.message}`)
    return false
  }
  write(outputPath, wanted)
  if (kept !== EARLIER_LAYOUTS) write(join(dirname(outputPath), 'versions.gen.ts'), versionsSource(kept))
  return true
}

function write(path: string, text: string): void {
  writeFileSync(path, text)
  console.log(`wrote ${path}`)
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
      unreleased: { type: 'boolean', default: false },
      object: { type: 'string', default: join(root, 'dist/pointsman.bpf.o') },
      output: { type: 'string', default: LAYOUT_PATH },
    },
  })
  if (!updateLayout(values.object, values.output, values)) process.exitCode = 1
}
