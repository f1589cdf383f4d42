/** The quick start of README.md, as pasted. Blocks say where they run: ```sh director, ```sh client. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { run } from '../../lab/command.ts'
import { executable } from '../../lab/director.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { missingFor, withDirector } from './scene.ts'

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
const BLOCK = /^```sh (director|client)\n(.*?)^```$/gms

test('xdp: every command of the quick start in README.md works', { skip: missingFor('xdp') }, (t) =>
  withDirector('xdp', async (lab) => {
    const blocks = [...README.matchAll(BLOCK)]
    assert.ok(blocks.length >= 3)
    const env = {
      ...lab.director.environment(),
      PATH: `${dirname(executable('ipvsadm'))}:${process.env.PATH}`,
    }
    for (const [, host = '', text = ''] of blocks)
      for (const command of text.trim().split('\n'))
        await t.test(`${host}: ${command}`, async () => {
          const result = await run(inNamespace(lab.prefix + host, ['bash', '-c', command]), { env })
          assert.equal(result.status, 0, result.stderr + result.stdout)
        })
  }),
)
