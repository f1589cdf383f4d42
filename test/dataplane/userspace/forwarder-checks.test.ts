/** Answers to health checks: to the link that the question came by, and the director's own stack has no part in it. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import {
  CHECK_DEVICE,
  makeProbePair,
  PROBE_DEVICE,
  PROBE_MAC,
  PROBE_MTU,
  PROBE_PORT_FIRST,
  type ProbePair,
} from '../../../linux/netlink/probe-pair.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { parseAddress } from '../../../net/address.ts'
import { ethernet, ipv4, tcp } from '../../packets/frame.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { ip, until } from '../private-network.ts'
import { heard, R0, REAL, ROUTER, RS1, SOURCE } from '../two-wires.ts'
import { ForwarderStage, INTAKES, nft, server, service, skip } from './forwarder-stage.ts'

/** Of a service that clients reach by another director: the stack would answer its packets as anybody's. */
const ELSEWHERE = '192.0.2.200'
/** While it is checked it is in no list, so that nothing but the check tells of it. */
const PORT = 8099

for (const intake of INTAKES)
  describe(`health checks and a forwarder, ${intake} intake`, { skip }, () => {
    const stage = new ForwarderStage(intake)
    let netlink: RequestSocket
    let pair: ProbePair
    let probe: PacketSocket
    before(async () => {
      ip(`neigh add ${ELSEWHERE} lladdr ${ROUTER} dev c0 nud permanent`)
      await stage.add(service(80), server('nat', 8080))
      netlink = new RequestSocket()
      pair = makeProbePair(netlink)
      probe = new PacketSocket(PROBE_DEVICE)
      // There is no socket that asks: the stack would answer what comes out there.
      const hook = `type filter hook ingress device "${PROBE_DEVICE}" priority 0; policy drop;`
      execFileSync('nft', [`table netdev hush { chain probe { ${hook} }; }`])
      const results = await stage.plane.attach(['c0', 'r0', CHECK_DEVICE])
      assert.ok(
        results.every((result) => 'attached' in result),
        JSON.stringify(results),
      )
    })
    after(() => {
      probe?.close()
      netlink?.close()
    })

    const answer = (src: string, sport: number, dport: number) =>
      ethernet({ src: RS1, dst: R0 }, ipv4({ src, dst: SOURCE }, tcp({ sport, dport, flags: 'SA' })))

    for (const [n, method] of (['nat', 'direct-routing', 'tunnel'] as const).entries()) {
      test(`${method}: an answer gets to who asked, once, and nobody resets its connection`, async () => {
        const port = PROBE_PORT_FIRST + n
        const way = stage.probeWays.open({
          real: server(method, PORT),
          protocol: 'tcp',
          virtual: { address: parseAddress(ELSEWHERE)!, family: 4, port: 80 },
          source: { address: parseAddress(SOURCE)!, port },
          hop: { ifindex: pair.check, smac: PROBE_MAC, dmac: PROBE_MAC, mtu: PROBE_MTU },
          lifeMs: 60_000,
        })
        assert.ok(typeof way !== 'string', String(way))
        stage.r.send(method === 'nat' ? answer(REAL, PORT, port) : answer(ELSEWHERE, 80, port))
        assert.equal((await heard(probe)).length, 1, stage.verdicts())
        assert.deepEqual(await heard(stage.r, 0), [])
        assert.deepEqual(await heard(stage.c, 0), [])
        way.close()
      })
    }

    test('what else comes to such a port is the stack’s, which answers once', async () => {
      stage.r.send(answer(REAL, PORT, PROBE_PORT_FIRST + 9))
      assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
    })

    test('another address is claimed when it is there, and none when nobody asks any more', async () => {
      ip('addr add 10.0.2.9/24 dev r0')
      await until(() => nft().includes('10.0.2.9'), `the address to be claimed: ${nft()}`)
      await stage.attach()
      assert.doesNotMatch(nft(), /10\.0\.2\.9|@spans/)
    })
  })
