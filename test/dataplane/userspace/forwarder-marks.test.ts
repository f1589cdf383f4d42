/** Marking rules and a forwarder: what they lead to a service the stack has no part in, everything else it has. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { before, describe, test } from 'node:test'
import type { MarkRule } from '../../../control/model/mark.ts'
import { parsePrefix } from '../../../net/prefix.ts'
import * as support from '../../control/support.ts'
import { until } from '../private-network.ts'
import { fromClient, fromServer, heard, REAL } from '../two-wires.ts'
import { ForwarderStage, INTAKES, nft, skip } from './forwarder-stage.ts'

const destination = parsePrefix('192.0.2.96/27')
assert.ok(typeof destination !== 'string')
const rule: MarkRule = {
  ...{ family: 4, source: null, destination, protocol: 'tcp', interface: null, mark: 5 },
  ports: { from: 80, to: 90 },
}

for (const intake of INTAKES)
  describe(`marks and a forwarder, ${intake} intake`, { skip }, () => {
    const stage = new ForwarderStage(intake)
    const change = async (add: readonly MarkRule[], remove: readonly MarkRule[] = []) => {
      const outcome = stage.director.changeMarks({ add, delete: remove, flush: false })
      assert.ok(outcome.ok, JSON.stringify(outcome))
      await stage.director.settle()
    }
    before(async () => {
      await stage.add(
        support.service('fwmark 5', { scheduler: 'rr' }),
        support.server(`${REAL}:8080`, { method: 'nat' }),
      )
      await change([rule])
    })

    test('a packet that has the mark goes to a real server, once, and nobody answers beside us', async () => {
      stage.c.send(fromClient(5000, 85, 'S'))
      assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
      assert.deepEqual(await heard(stage.c, 0), [])
    })

    test('another port is the stack’s, which answers once', async () => {
      stage.c.send(fromClient(5001, 91, 'S'))
      assert.equal((await heard(stage.c)).length, 1, stage.verdicts())
      assert.deepEqual(await heard(stage.r, 0), [])
    })

    test('a connection outlives its rule, and nothing else does', async () => {
      stage.c.send(fromClient(5002, 80, 'S'))
      assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
      await change([], [rule])
      assert.deepEqual(stage.director.marks(), [])
      stage.c.send(fromClient(5002, 80, 'A'))
      assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
      stage.r.send(fromServer(5002, 'SA'))
      assert.equal((await heard(stage.c)).length, 1, stage.verdicts())
      assert.deepEqual(await heard(stage.r, 0), [])
      stage.c.send(fromClient(5003, 80, 'S'))
      assert.equal((await heard(stage.c)).length, 1, stage.verdicts())
      assert.deepEqual(await heard(stage.r, 0), [])
    })

    test('the table is made good with its intervals', async () => {
      await change([rule])
      const before = nft().replaceAll(/ expires \w+/g, '')
      assert.match(before, /@spans4 /)
      execFileSync('nft', ['flush', 'ruleset'])
      await until(() => nft().replaceAll(/ expires \w+/g, '') === before, `mended: ${nft()}`)
      stage.c.send(fromClient(5004, 85, 'S'))
      assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
      assert.deepEqual(await heard(stage.c, 0), [])
    })
  })
