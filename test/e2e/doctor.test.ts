/** The doctor on a real director: quiet where all is well, and finds what was broken on purpose. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Diagnosis } from '../../control/insight/doctor/checks.ts'
import type { Finding } from '../../control/insight/doctor/finding.ts'
import { must } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { portName } from '../../lab/network.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { missingFor, PLANES, withDirector } from './scene.ts'

const NAT: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
const DIRECT: LabService = { ...NAT, method: 'direct-routing' }

async function findings(lab: Lab): Promise<readonly (Finding & { readonly check: string })[]> {
  const { stdout, stderr } = await lab.director.pointsman(['doctor', '--json'])
  assert.notEqual(stdout, '', stderr)
  const { checks } = JSON.parse(stdout) as Diagnosis
  return checks.flatMap(({ name, findings }) => findings.map((finding) => ({ ...finding, check: name })))
}

async function run(lab: Lab, host: string, command: string): Promise<void> {
  await must(inNamespace(lab.prefix + host, ['sh', '-ec', command]))
}

for (const plane of PLANES) {
  test(`${plane}: the doctor finds nothing wrong in the lab`, { skip: missingFor(plane) }, () =>
    withDirector(plane, async (lab) => {
      await lab.director.restore([...allRules(NAT), ...allRules(DIRECT)])
      await lab.client.http(virtualEndpoint(NAT))
      // A first packet may have come before its next hop was known.
      const found = (await findings(lab)).filter(({ check }) => check !== 'verdicts')
      assert.deepEqual(
        found.filter(({ severity }) => severity !== 'note'),
        [],
      )
    }),
  )
}

test(
  'what was broken on purpose is found, and mended by the command that is named',
  {
    skip: missingFor('xdp'),
  },
  () =>
    withDirector(
      'xdp',
      async (lab) => {
        const { director } = lab
        await director.restore([...allRules(NAT), ...allRules(DIRECT)])
        const clients = portName('director', 'clients')
        const servers = portName('director', 'servers')
        const breakages: readonly (readonly [check: string, host: string, command: string])[] = [
          ['ways out', 'net', `ip link set ${servers} xdp off`],
          ['veth pairs', 'net', `ethtool -K ${clients} tx on`],
          ['forwarding', 'director', 'echo 0 > /proc/sys/net/ipv4/conf/c0/forwarding'],
          ['virtual addresses', 'director', `ip addr del ${virtualEndpoint(DIRECT).address}/32 dev c0`],
        ]
        for (const [check, host, command] of breakages) {
          await run(lab, host, command)
          const found = (await findings(lab)).filter(({ severity }) => severity !== 'note')
          assert.deepEqual(
            found.map((finding) => finding.check),
            [check],
            JSON.stringify(found),
          )
          await run(lab, 'director', found[0]!.remedy)
          const after = (await findings(lab)).filter(({ severity }) => severity !== 'note')
          assert.deepEqual(after, [], `after: ${found[0]!.remedy}`)
        }

        await run(
          lab,
          'director',
          `nft 'table inet filter { chain input { type filter hook input priority 0; ip saddr 192.0.2.50 drop; }; }'`,
        )
        const [bypassed] = (await findings(lab)).filter(({ severity }) => severity !== 'note')
        assert.match(bypassed?.cause ?? '', /inet filter input has a rule .* never sees/)
        assert.match(
          (await director.command((bypassed?.remedy ?? '').split(' '))).stdout,
          /192\.0\.2\.50 drop/,
        )

        await director.rule('-A -u 192.0.2.100:5060 -s rr')
        await director.rule('-a -u 192.0.2.100:5060 -r 10.0.2.11:5060 --full-nat')
        await director.pointsman(['set', 'snat_reroute=0'])
        const checks = (await findings(lab)).map(({ check }) => check)
        assert.ok(checks.includes('rules in force'))
        assert.ok(checks.includes('settings in force'))
      },
      { xdpMode: 'native' },
    ),
)
