import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { before, describe, test } from 'node:test'
import { until } from '../private-network.ts'
import { fromClient, heard } from '../two-wires.ts'
import { ForwarderStage, INTAKES, nft, server, service, skip } from './forwarder-stage.ts'

for (const intake of INTAKES)
  describe(`claims of a forwarder, ${intake} intake`, { skip }, () => {
    const stage = new ForwarderStage(intake)
    before(() => stage.add(service(80), server('nat', 8080)))

    for (const loss of [
      'flush ruleset',
      'delete table netdev pointsman',
      'flush table netdev pointsman',
      'flush set netdev pointsman to4',
    ])
      test(`nft ${loss} is made good, and rules go on changing`, async () => {
        const before = nft().replaceAll(/ expires \w+/g, '')
        execFileSync('nft', loss.split(' '))
        await until(() => nft().replaceAll(/ expires \w+/g, '') === before, `mended: ${nft()}`)
        stage.c.send(fromClient(3700, 80, 'S'))
        assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
        assert.deepEqual(await heard(stage.c, 0), [])
      })

    test('a change of rules right after the table was lost is in force when it is answered', async () => {
      const more = service(8443)
      execFileSync('nft', ['flush', 'ruleset'])
      await stage.add(more, server('nat', 8443))
      stage.c.send(fromClient(3701, 8443, 'S'))
      assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
      assert.deepEqual(await heard(stage.c, 0), [])
      stage.director.deleteService(more.id)
      await stage.director.settle()
    })

    test('a filter or qdisc that somebody takes off is put back', {
      skip: intake === 'xdp' && 'AF_XDP has a program of its own',
    }, async () => {
      const tc = (...words: string[]) => execFileSync('tc', words, { encoding: 'utf8' })
      const stands = () => tc('filter', 'show', 'dev', 'c0', 'ingress').includes('pref 28781')
      assert.ok(stands())
      tc('filter', 'del', 'dev', 'c0', 'ingress', 'pref', '28781')
      await until(stands, 'the filter to be back')
      tc('qdisc', 'del', 'dev', 'c0', 'clsact')
      await until(stands, 'qdisc and filter to be back')
    })

    test('what is claimed holds for 30 seconds only, and errors about others are never the lot', () => {
      const listing = nft()
      const table = listing.slice(listing.indexOf('set alive'))
      assert.match(table, /elements = \{ ip timeout 30s expires (30|[12]\d|\d)s/)
      // Nothing is dropped before the lease was looked at.
      for (const chain of listing.split('hook ingress').slice(1))
        assert.match(chain.split('\n')[1]!, /ether type != @alive accept/)
      // ICMP is dropped by what it quotes alone.
      for (const line of listing.split('\n').filter((each) => /icmp(v6)? type/.test(each)))
        assert.match(line, /@quoted_(to|from)[46](_any)? drop/)
    })
  })
