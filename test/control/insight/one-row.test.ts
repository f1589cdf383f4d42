/** One row in one place is a counter wherever there are any. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Table } from '../../../control/cli/page/content.ts'

const folder = mkdtempSync(join(tmpdir(), 'pointsman-one-row-'))
after(() => rmSync(folder, { recursive: true }))
const koffi = createRequire(import.meta.url).resolve('koffi')

interface Shown {
  readonly metrics: string
  readonly overview: unknown
  readonly top: readonly string[]
  readonly services: Table
  readonly counts: Table
  readonly sorts: readonly string[]
}

/** What is shown by the sources as they are, but for one row at the beginning of a list in one of the files. */
async function shownWith(file: RegExp, list: string, row: string): Promise<Shown> {
  const bundle = join(folder, 'shown.mjs')
  let changed = 0
  await build({
    entryPoints: [fileURLToPath(new URL('one-row-process.ts', import.meta.url))],
    ...{ bundle: true, platform: 'node', format: 'esm', outfile: bundle, logLevel: 'error' },
    plugins: [
      {
        name: 'one more row',
        setup(its) {
          its.onResolve({ filter: /^koffi$/ }, () => ({ path: koffi, external: true }))
          its.onLoad({ filter: file }, ({ path }) => {
            const text = readFileSync(path, 'utf8')
            assert.equal(text.split(list).length, 2, `${list} in ${path}`)
            changed++
            return { contents: text.replace(list, `${list}\n${row}`), loader: 'ts' }
          })
        },
      },
    ],
  })
  assert.equal(changed, 1, 'in one place')
  return JSON.parse(execFileSync(process.execPath, [bundle], { encoding: 'utf8' }))
}

const cells = ({ rows }: Table): string[][] => rows.map((row) => row.cells.map(({ text }) => text))

test('of services and real servers: in metrics, API, top and page, and to sort by', async () => {
  const { metrics, overview, top, services, sorts } = await shownWith(
    /counting\/measures\.ts$/,
    'export const MEASURES: readonly Measure[] = [',
    `{ metric: 'doubled', type: 'gauge', help: 'Twice.', columns: [{ labels: '', of: ({ activeConns }) => 2 * activeConns,
       shown: { name: 'twice', title: 'twice as many', brief: 'TWICE', unit: 'number', sort: 'twice' } }] },`,
  )
  const web = 'service="tcp/192.0.2.10:80"'
  assert.match(metrics, new RegExp(`^pointsman_service_doubled\\{${web}\\} 42$`, 'm'))
  assert.match(
    metrics,
    new RegExp(`^pointsman_real_server_doubled\\{${web},real_server="10.1.0.1:8080"\\} 42$`, 'm'),
  )
  assert.match(JSON.stringify(overview), /"twice":42/)
  const title = top.findIndex((line) => line.startsWith('SERVICE'))
  assert.match(top[title]!, / TWICE /)
  assert.match(top[title + 1]!, /^tcp\/192\.0\.2\.10:80 .* 42 .* 21 /)
  const column = services.columns.findIndex((one) => one.title === 'twice as many')
  assert.equal(cells(services)[0]![column], '42')
  assert.equal(sorts[0], 'twice')
})

test('of the director: in metrics, API, top and page', async () => {
  const { metrics, overview, top, counts } = await shownWith(
    /metrics\/director\.ts$/,
    'export const DIRECTOR_METRICS: readonly DirectorMetric[] = [',
    `{ name: 'pointsman_surprises_total', type: 'counter', help: 'Tested.', of: () => [[{ of: 'eth0' }, 42]] },`,
  )
  assert.match(metrics, /^pointsman_surprises_total\{of="eth0"\} 42$/m)
  assert.match(JSON.stringify(overview), /"surprises eth0":42/)
  assert.ok(top.some((line) => /^surprises eth0 .* 42 in all/.test(line)))
  assert.ok(cells(counts).some(([name, , all]) => name === 'surprises eth0' && all === '42'))
})
