/** The stopwatch and its stands, with this tree on both sides: machinery, no numbers. */
import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { StandClient } from '../../bench/against/stand-client.ts'
import { packageRoot } from '../../dataplane/assets.ts'
import { skipWithoutPrivileges } from '../dataplane/private-network.ts'

it('stands a service of this tree for another process', { skip: skipWithoutPrivileges }, async () => {
  const stand = await StandClient.start(packageRoot())
  try {
    const opened = await stand.ask({ ask: 'open', lines: { 4: 1024, 6: 4 } })
    assert.ok(opened.program > 0)
    const scene = { method: 'direct-routing', family: 4, servers: 3, scheduler: 'rr', oneArm: false } as const
    const served = await stand.ask({ ask: 'serve', scene, keep: false })
    assert.equal(served.clients.frame.length, 64)
    assert.equal(await stand.ask({ ask: 'establish', method: 'direct-routing', family: 4, flows: 16 }), null)
    await stand.ask({ ask: 'mark' })
    // Nobody has sent anything since.
    await stand.ask({ ask: 'expect', verdict: 'ForwardDr', packets: 0 })
    await assert.rejects(
      stand.ask({ ask: 'expect', verdict: 'ForwardDr', packets: 16 }),
      /expected 16 packets with verdict forward_dr, counted 0/,
    )
    await assert.rejects(
      stand.ask({ ask: 'expect', verdict: 'ForwardYesterday' as 'ForwardDr', packets: 0 }),
      /it has no verdict ForwardYesterday/,
    )
    await stand.ask({ ask: 'close' })
    await assert.rejects(stand.ask({ ask: 'mark' }), /Open the packet program first/)
  } finally {
    await stand.end()
  }
})

it('says what a tree lacks that cannot stand', async () => {
  const tree = mkdtempSync(join(tmpdir(), 'pointsman-old-tree.'))
  try {
    mkdirSync(join(tree, 'bench/against'), { recursive: true })
    copyFileSync(join(packageRoot(), 'bench/against/stand.ts'), join(tree, 'bench/against/stand.ts'))
    copyFileSync(join(packageRoot(), 'package.json'), join(tree, 'package.json'))
    await assert.rejects(StandClient.start(tree), /bench\/subject\.ts/)
  } finally {
    rmSync(tree, { recursive: true })
  }
})
