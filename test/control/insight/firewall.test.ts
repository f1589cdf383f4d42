import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { type Chain, concerns, iptablesChains, nftChains } from '../../../control/insight/doctor/firewall.ts'
import { enterPrivateNetwork, skipWithoutPrivileges } from '../../dataplane/private-network.ts'

const VIPS = [
  { address: '192.0.2.100', ports: [80] },
  { address: '2001:db8::100', ports: [443] },
]
const skip =
  skipWithoutPrivileges ||
  (spawnSync('nft', ['--version']).status === 0 ? false : 'needs nft: apt-get install nftables')
if (skip === false) enterPrivateNetwork()

/** Chains that packets for the virtual addresses, arriving at c0, used to meet a rule in. */
function meet(chains: readonly Chain[] | null): string[] {
  assert.ok(chains !== null)
  return chains
    .filter(({ rules }) => rules.some((rule) => concerns(rule, VIPS, ['c0'])))
    .map(({ name }) => name)
}

/** The kernel's own words for a ruleset. */
function chainsOf(script: string): readonly Chain[] | null {
  execFileSync('nft', ['-f', '-'], {
    // A block ends with its line.
    input: `flush ruleset\n${script.replaceAll('; }', ';\n}\n')}`,
  })
  return nftChains(
    execFileSync('nft', ['--json', '--numeric', 'list', 'ruleset'], { encoding: 'utf8' }),
    (table) => table === 'pointsman',
  )
}

function input(rule: string, sets = ''): readonly Chain[] | null {
  return chainsOf(`table inet filter { ${sets} chain input { type filter hook input priority 0; ${rule}; } }`)
}

describe('the host’s packet filter, by nft', { skip }, () => {
  test('rules that could end a packet for a virtual service', () => {
    for (const rule of [
      'ip saddr 198.51.100.66 drop',
      'ip daddr 192.0.2.100 drop',
      'ip daddr 192.0.2.0/24 tcp dport 80 reject',
      'ip daddr { 192.0.2.7, 192.0.2.100 } drop',
      'ip daddr 192.0.2.90-192.0.2.110 drop',
      'iifname "c*" drop',
      'iifname { "c0", "r0" } tcp dport { 22, 79-81 } drop',
      'tcp dport 80 limit rate over 10/second drop',
      'ip6 daddr 2001:db8::/64 drop',
      'ip saddr vmap { 198.51.100.66 : drop }',
      'tcp dport 80 meta mark set 7',
    ]) {
      assert.deepEqual(meet(input(rule)), ['inet filter input'], rule)
    }
  })

  test('rules that are about something else', () => {
    for (const rule of [
      'ip daddr 203.0.113.1 drop',
      'ip daddr 192.0.2.100 tcp dport 22 drop',
      'ip6 daddr fd00::/8 drop',
      'iifname "lo" drop',
      'tcp dport { 22, 25 } drop',
      'ip daddr 192.0.2.100 accept',
      'ip saddr 198.51.100.66 counter',
    ]) {
      assert.deepEqual(meet(input(rule)), [], rule)
    }
  })

  test('sets with names, and chains behind a jump', () => {
    assert.deepEqual(
      meet(input('ip daddr @ours drop', 'set ours { type ipv4_addr; elements = { 192.0.2.100 }; }')),
      ['inet filter input'],
    )
    assert.deepEqual(
      meet(input('ip daddr @ours drop', 'set ours { type ipv4_addr; elements = { 192.0.2.7 }; }')),
      [],
    )
    assert.deepEqual(
      meet(input('ip daddr 192.0.2.100 jump block', 'chain block { ip saddr 198.51.100.0/24 drop; }')),
      ['inet filter input'],
    )
    assert.deepEqual(
      meet(input('ip daddr 203.0.113.1 jump block', 'chain block { ip saddr 198.51.100.0/24 drop; }')),
      [],
    )
  })

  test('chains that stand before local delivery, in tables for these families, and not ours', () => {
    const chains = chainsOf(`
      table ip raw { chain pre { type filter hook prerouting priority -300; ip saddr 198.51.100.66 drop; } }
      table ip6 only { chain input { type filter hook input priority 0; drop; } }
      table inet filter {
        chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept; }
        chain forward { type filter hook forward priority 0; drop; }
        chain output { type filter hook output priority 0; drop; }
      }
      table inet pointsman { chain mine { type filter hook input priority 0; drop; } }`)
    assert.deepEqual(meet(chains), ['ip raw pre', 'ip6 only input'])
    assert.deepEqual(
      chains?.filter(({ closed }) => closed).map(({ name }) => name),
      ['inet filter input'],
    )
  })

  test('a table for the other family is about other packets', () => {
    const only4 = [VIPS[0]!]
    const [chain] = chainsOf('table ip6 t { chain input { type filter hook input priority 0; drop; } }') ?? []
    assert.equal(
      chain!.rules.some((rule) => concerns(rule, only4, ['c0'])),
      false,
    )
  })

  test('no text of nft is no answer', () => {
    assert.equal(
      nftChains('Error: no', () => false),
      null,
    )
  })
})

describe('the host’s packet filter, by iptables-save', () => {
  const saved = (rule: string): string => `*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:f2b - [0:0]
-A FORWARD -j DROP
-A f2b -s 198.51.100.66/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b -j RETURN
${rule}
COMMIT
`
  test('finds the same', () => {
    for (const rule of [
      '-A INPUT -s 198.51.100.66/32 -j DROP',
      '-A INPUT -p tcp -m multiport --dports 22,80 -j f2b',
      '-A INPUT -i c+ -j DROP',
      '-A INPUT -d 192.0.2.100/32 -p tcp -m tcp --dport 80 -j DROP',
      '-A INPUT ! -d 203.0.113.1/32 -j DROP',
    ]) {
      assert.deepEqual(meet(iptablesChains(saved(rule), 'iptables')), ['filter INPUT'], rule)
    }
    for (const rule of [
      '-A INPUT -p tcp -m tcp --dport 22 -j f2b',
      '-A INPUT -d 203.0.113.1/32 -j DROP',
      '-A INPUT -i lo -j DROP',
      '-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT',
    ]) {
      assert.deepEqual(meet(iptablesChains(saved(rule), 'iptables')), [], rule)
    }
    const filter = iptablesChains(saved(''), 'iptables').find(({ name }) => name === 'filter INPUT')
    assert.equal(filter?.closed, true)
    assert.equal(filter.command, 'iptables -t filter -nvL INPUT --line-numbers')
  })
})
