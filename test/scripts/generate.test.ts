import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { appendFileSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const committed = join(root, 'dataplane/layout/layout.gen.ts')
const object = join(root, 'dist/pointsman.bpf.o')
const skip = existsSync(object) ? false : 'needs dist/pointsman.bpf.o: npm run build'
const folder = mkdtempSync(join(tmpdir(), 'pointsman-generate-'))
after(() => rmSync(folder, { recursive: true }))

function generate(...words: string[]): { status: number | null; stderr: string } {
  const argv = ['--import', import.meta.resolve('tsx'), join(root, 'scripts/generate.ts'), ...words]
  return spawnSync(process.execPath, argv, { cwd: folder, encoding: 'utf8' })
}

test("generate: the committed layout is the object's, from any folder", { skip }, () => {
  const { status, stderr } = generate('--check')
  assert.equal(stderr, '')
  assert.equal(status, 0)
})

test('generate: a stale layout fails the check and is mended without it', { skip }, () => {
  const output = join(folder, 'layout.gen.ts')
  copyFileSync(committed, output)
  appendFileSync(output, '// edited\n')
  const stale = generate('--check', '--output', output)
  assert.equal(stale.status, 1)
  assert.match(stale.stderr, /layout.gen.ts is stale: run npm run generate/)
  assert.equal(generate('--output', output).status, 0)
  assert.equal(readFileSync(output, 'utf8'), readFileSync(committed, 'utf8'))
})

test('generate: a missing object is reported with the command that makes it', () => {
  const { status, stderr } = generate('--check', '--object', join(folder, 'absent.o'))
  assert.equal(status, 1)
  assert.match(stderr, /Cannot generate the layout: ENOENT.*npm run build/)
})
