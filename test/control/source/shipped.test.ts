/** What is shipped about configuration files is true. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkKeepalived } from '../../../control/cli/import.ts'
import { checkFile } from '../../../control/cli/site.ts'
import { jsonSchemaText } from '../../../control/source/file/schema.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

describe('shipped', () => {
  test('the schema for editors is that of the definition (node --import tsx scripts/openapi.ts)', () => {
    const shipped: unknown = JSON.parse(readFileSync(join(root, 'deploy/pointsman.schema.json'), 'utf8'))
    assert.deepEqual(shipped, JSON.parse(jsonSchemaText()))
  })

  test('every example is right, and none is left out', () => {
    const files = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.yaml'))
    assert.ok(files.length >= 3)
    for (const name of files) {
      const { good, text, json } = checkFile(join(root, 'examples', name))
      assert.ok(good, text())
      assert.ok((json as { services: number }).services > 0)
    }
  })

  test('the example for keepalived has nothing that is not taken', () => {
    const { status, json } = checkKeepalived(join(root, 'examples/keepalived.conf'), undefined)
    assert.equal(status, 0)
    const { services, complaints } = json as { services: number; complaints: readonly unknown[] }
    // One: that a check goes over the forwarding path.
    assert.deepEqual([services, complaints.length], [1, 1])
  })

  test('the manual names every word that may stand in a file', () => {
    const manual = readFileSync(join(root, 'man/pointsman.yaml.5'), 'utf8')
    const { $defs } = JSON.parse(jsonSchemaText()) as { $defs: Record<string, { properties?: object }> }
    const words = ['SiteService', 'SiteRealServer', 'SiteDirector'].flatMap((name) =>
      Object.keys($defs[name]?.properties ?? {}),
    )
    assert.ok(words.length > 20)
    const missing = words.filter((word) => !new RegExp(`\\b${word}\\b`).test(manual))
    assert.deepEqual(missing, [])
  })
})
