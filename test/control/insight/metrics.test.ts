/** Metrics: the right numbers under the right names, in a form that Prometheus' own tool finds no fault with. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { metricNames } from '../../../control/insight/metrics/collector.ts'
import { LiveRecord, PM_VERDICT_MAX, Verdict, verdictNames } from '../../../dataplane/layout/layout.gen.ts'
import { check, site, stage } from '../health/stage.ts'
import { ip, server } from '../support.ts'
import { count, scene } from './counting-director.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

function promtool(words: readonly string[], input = ''): void {
  const { status, stdout, stderr } = spawnSync('promtool', words, { input, encoding: 'utf8', cwd: root })
  assert.equal(status, 0, `promtool ${words.join(' ')}\n${stdout}${stderr}\n${input}`)
}

const lineOf = (text: string, start: string): string =>
  text.split('\n').find((line) => line.startsWith(start)) ?? `no line begins with ${start}`

describe('metrics', () => {
  test('have what was counted on all CPUs, by service and real server, in both directions', async () => {
    const { dataplane, director, web, text } = await scene()
    const { u32 } = dataplane.map('live')
    u32[LiveRecord.offsets.active / 4] = 7
    u32[LiveRecord.offsets.inactive / 4] = 2
    count(dataplane, 0, 0, { conns: 5, inPackets: 10, outPackets: 8, inBytes: 1000, outBytes: 2 ** 40 })
    count(dataplane, 0, 1, { conns: 1, inPackets: 2, outPackets: 0, inBytes: 34, outBytes: 1 })
    count(dataplane, 1, 1, { conns: 4 })
    const before = await text()
    const expected = [
      'pointsman_service_new_connections_total{service="tcp/192.0.2.10:80"} 10',
      'pointsman_service_packets_total{service="tcp/192.0.2.10:80",direction="in"} 12',
      `pointsman_service_bytes_total{service="tcp/192.0.2.10:80",direction="out"} ${2 ** 40 + 1}`,
      'pointsman_service_connections{service="tcp/192.0.2.10:80",state="active"} 7',
      'pointsman_service_weight{service="tcp/192.0.2.10:80"} 3',
      'pointsman_service_weight{service="udp/[2001:db8::10]:53"} 1',
      'pointsman_service_weight{service="fwmark/268443648"} 1',
      'pointsman_real_server_new_connections_total{service="tcp/192.0.2.10:80",real_server="10.1.0.1:8080"} 6',
      'pointsman_real_server_new_connections_total{service="tcp/192.0.2.10:80",real_server="10.1.0.2:8080"} 4',
      'pointsman_real_server_connections{service="tcp/192.0.2.10:80",real_server="10.1.0.1:8080",state="inactive"} 2',
      'pointsman_real_server_bytes_total{service="tcp/192.0.2.10:80",real_server="10.1.0.1:8080",direction="in"} 1034',
      'pointsman_real_server_weight{service="udp/[2001:db8::10]:53",real_server="[2001:db8:77::2]:53"} 1',
      'pointsman_services 3',
      'pointsman_real_servers 4',
      'pointsman_build_info{version="1.2"} 1',
      'process_start_time_seconds 5',
    ]
    const lines = new Set(before.split('\n'))
    assert.deepEqual(
      expected.filter((line) => !lines.has(line)),
      [],
      before,
    )
    // What a removed real server has counted stays with its service: a counter never falls.
    director.deleteServer(web.id, server('10.1.0.2:8080').id)
    await director.settle()
    const after = await text()
    assert.ok(after.includes('pointsman_service_new_connections_total{service="tcp/192.0.2.10:80"} 10\n'))
    assert.ok(!after.includes('10.1.0.2'))
  })

  test('ask for the sums of each service once: others wait meanwhile', async () => {
    const { applier, text } = await scene()
    const tally = applier.tally.bind(applier)
    let asked = 0
    applier.tally = (service) => {
      asked++
      return tally(service)
    }
    await text('text', 'service')
    assert.equal(asked, 3)
  })

  test("have node_exporter's names and labels of IPVS", async () => {
    const { dataplane, text } = await scene()
    dataplane.map('live').u32[LiveRecord.offsets.active / 4] = 7
    count(dataplane, 0, 0, { conns: 5, inPackets: 10, outPackets: 8, inBytes: 1000, outBytes: 2000 })
    const lines = (await text()).split('\n').filter((line) => line.startsWith('node_ipvs'))
    const labels = (id: string, remote: string): string => `${id},${remote}`
    const web = 'local_address="192.0.2.10",local_mark="",local_port="80",proto="TCP"'
    const six = 'local_address="2001:db8::10",local_mark="",local_port="53",proto="UDP"'
    const mark = 'local_address="",local_mark="10002000",local_port="0",proto="FWM"'
    const one = labels(web, 'remote_address="10.1.0.1",remote_port="8080"')
    const two = labels(web, 'remote_address="10.1.0.2",remote_port="8080"')
    const three = labels(six, 'remote_address="2001:db8:77::2",remote_port="53"')
    const four = labels(mark, 'remote_address="10.1.0.3",remote_port="443"')
    const backends = (name: string, numbers: readonly [string, number][]) =>
      numbers.map(([of, number]) => `node_ipvs_backend_${name}{${of}} ${number}`)
    const expected = [
      'node_ipvs_connections_total 5',
      'node_ipvs_incoming_packets_total 10',
      'node_ipvs_outgoing_packets_total 8',
      'node_ipvs_incoming_bytes_total 1000',
      'node_ipvs_outgoing_bytes_total 2000',
      ...backends('connections_active', [
        [one, 7],
        [two, 0],
        [three, 0],
        [four, 0],
      ]),
      ...backends('connections_inactive', [
        [one, 0],
        [two, 0],
        [three, 0],
        [four, 0],
      ]),
      ...backends('weight', [
        [one, 3],
        [two, 0],
        [three, 1],
        [four, 1],
      ]),
    ]
    assert.deepEqual(lines.toSorted(), expected.toSorted())
  })

  test('count every verdict by its name, evictions apart', async () => {
    const { dataplane, text } = await scene()
    const { u64 } = dataplane.map('verdicts')
    u64[Verdict.ForwardNat] = 100n
    u64[PM_VERDICT_MAX + Verdict.ForwardNat] = 11n
    u64[Verdict.EvictedIdle] = 3n
    const all = await text()
    assert.match(all, /^pointsman_packets_total\{verdict="forward_nat"\} 111$/m)
    assert.match(all, /^pointsman_packets_total\{verdict="drop_table_full"\} 0$/m)
    assert.match(all, /^pointsman_evictions_total\{connection="idle"\} 3$/m)
    assert.doesNotMatch(all, /verdict="(evicted|expired|repaired|continue)/)
  })

  test('and whatever else is counted like verdicts, each once; people see each by its name', async () => {
    const { dataplane, collector, text } = await scene()
    const { u64 } = dataplane.map('verdicts')
    const names = Object.entries(verdictNames).filter(([number]) => number !== '0')
    for (const [number] of names) u64[Number(number)] = 7_000_000n + BigInt(number)
    const all = await text()
    const { counts } = await collector.overview({})
    for (const [number, name] of names) {
      const count = 7_000_000 + Number(number)
      assert.equal(all.match(new RegExp(` ${count}$`, 'gm'))?.length, 1, name)
      assert.equal(counts[name], count, name)
    }
    assert.equal(counts['otlp_pushes failed'], 2)
    assert.ok(!('otlp_pushes taken' in counts), 'what goes well is no news')
  })

  test('say of the tables how full they are once a sweep has been over them', async () => {
    const { applier, text } = await scene()
    const before = await text()
    assert.match(before, /^pointsman_connection_table_lines\{family="ipv4"\} 1024$/m)
    assert.doesNotMatch(before, /^pointsman_connection_table_lines_used/m)
    while (!applier.sweepSlice(1000));
    const after = await text()
    assert.match(after, /^pointsman_connection_table_lines_used\{family="ipv6"\} 0$/m)
    assert.match(after, /^pointsman_sweep_duration_seconds \S+$/m)
  })

  test('say of each address of full NAT how many ports it has, and how many are taken', async () => {
    const { director, applier, text } = await scene()
    assert.doesNotMatch(await text(), /full_nat/)
    const add = [{ address: ip('10.0.2.5'), ports: { from: 2000, to: 2999 } }, { address: ip('2001:db8::5') }]
    assert.ok(director.changeFullNat({ add, delete: [] }).ok)
    Object.assign(applier, { portsTaken: () => new Map([['10.0.2.5', { connections: 12, most: 7 }]]) })
    const after = (await text()).split('\n').filter((line) => line.startsWith('pointsman_full_nat'))
    assert.deepEqual(after, [
      'pointsman_full_nat_ports{address="10.0.2.5"} 1000',
      'pointsman_full_nat_ports{address="2001:db8::5"} 31744',
      'pointsman_full_nat_ports_taken{address="10.0.2.5"} 7',
      'pointsman_full_nat_ports_taken{address="2001:db8::5"} 0',
      'pointsman_full_nat_connections{address="10.0.2.5"} 12',
      'pointsman_full_nat_connections{address="2001:db8::5"} 0',
    ])
  })

  test('tell of the programs beside the packet program, where rules want them', async () => {
    const { dataplane, applier, text } = await scene()
    assert.doesNotMatch(await text(), /companion/)
    const refused = ['eth2: another program is at its egress']
    Object.assign(dataplane, {
      cutting: () => ({ seen: true, interfaces: ['eth0', 'eth1'], refused }),
      warnings: ['a driver that hands no note along'],
    })
    Object.defineProperty(applier, 'ownClients', { value: { served: true, refused: [] } })
    const all = await text()
    const line = (program: string, state: string, value: number): RegExp =>
      new RegExp(`^pointsman_companion_programs\\{program="${program}",state="${state}"\\} ${value}$`, 'm')
    assert.match(all, line('cutting', 'attached', 2))
    assert.match(all, line('cutting', 'refused', 1))
    assert.match(all, line('own clients', 'attached', 1))
    assert.doesNotMatch(all, /local answers/)
    assert.match(all, /^pointsman_warnings 1$/m)
  })

  test('tell health of what is checked, and how long checks take', async () => {
    const checks = stage()
    const web = site('tcp 192.0.2.10:80', ['10.1.0.1:8080', '10.1.0.2:8080'], [check({ name: 'a "b" \\' })])
    checks.health.want([web])
    checks.say('10.1.0.1', 'good', 'connected', { ms: 250 })
    checks.say('10.1.0.2', 'bad', 'refused')
    await checks.pass(5000)
    const { text } = await scene(checks.health)
    const all = new Set((await text()).split('\n'))
    const one = 'service="tcp/192.0.2.10:80",real_server="10.1.0.1:8080"'
    const two = 'service="tcp/192.0.2.10:80",real_server="10.1.0.2:8080"'
    const expected = [
      'pointsman_service_up{service="tcp/192.0.2.10:80"} 1',
      'pointsman_service_real_servers_down{service="tcp/192.0.2.10:80"} 1',
      `pointsman_real_server_up{${one}} 1`,
      `pointsman_real_server_up{${two}} 0`,
      `pointsman_check_duration_seconds{${one},check="a \\"b\\" \\\\"} 0.25`,
    ]
    assert.deepEqual(
      expected.filter((line) => !all.has(line)),
      [],
    )
    promtool(['check', 'metrics'], [...all].join('\n'))
    assert.doesNotMatch(await text('text', 'service'), /pointsman_real_server_|check=/)
  })

  test('by service leave real servers out', async () => {
    const { text } = await scene()
    const coarse = await text('text', 'service')
    assert.match(coarse, /^pointsman_service_weight/m)
    assert.match(coarse, /^node_ipvs_connections_total/m)
    assert.doesNotMatch(coarse, /10\.1\.0\.|node_ipvs_backend/)
  })

  test('are what promtool takes, and OpenMetrics ends by saying so', async () => {
    const { text } = await scene()
    promtool(['check', 'metrics'], await text())
    const open = await text('openmetrics')
    assert.ok(open.endsWith('\n# EOF\n'))
    assert.equal(open.match(/# EOF/g)?.length, 1)
    assert.match(open, /^# TYPE pointsman_packets counter\n(pointsman_packets_total\{.*\} \d+\n)+#/m)
    const families = [...open.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name)
    assert.equal(new Set(families).size, families.length, 'no name stands twice')
  })

  test('are told to so many at once, and to the next when one of them is done', async () => {
    const { collector } = await scene()
    const under = [1, 2, 3, 4].map(() => collector.text('text', null)![Symbol.asyncIterator]())
    for (const one of under) await one.next()
    assert.equal(collector.text('text', null), null)
    // A client that goes away ends its own.
    await under[0]!.return?.()
    assert.notEqual(collector.text('text', null), null)
  })
})

describe('the overview', () => {
  test('has the busiest services first, one of them in full, and health beside it', async () => {
    const checks = stage()
    checks.health.want([site('tcp 192.0.2.10:80', ['10.1.0.1:8080', '10.1.0.2:8080'], [check()])])
    checks.say('10.1.0.2', 'bad', 'refused')
    await checks.pass(5000)
    const { dataplane, applier, collector } = await scene(checks.health)
    dataplane.map('live').u32[LiveRecord.offsets.active / 4] = 7
    // Two seconds in which the third real server, of the DNS service, was busiest.
    for (let step = 0; step < 3; step++) {
      count(dataplane, 0, 0, { conns: 10, inPackets: 100, inBytes: 100_000 })
      count(dataplane, 2, 1, { conns: 90, inPackets: 90, inBytes: 9000 })
      while (!applier.estimateSlice());
    }
    const names = async (sort: 'new' | 'packets' | 'bytes' | 'connections' | 'name') =>
      (await collector.overview({ sort })).services.map(({ name }) => name)
    const [web, dns, mark] = ['tcp/192.0.2.10:80', 'udp/[2001:db8::10]:53', 'fwmark/268443648']
    assert.deepEqual(await names('new'), [dns, web, mark])
    assert.deepEqual(await names('packets'), [web, dns, mark])
    assert.deepEqual(await names('bytes'), [web, dns, mark])
    assert.deepEqual(await names('connections'), [web, dns, mark])
    assert.deepEqual(await names('name'), [web, dns, mark])

    const seen = await collector.overview({ filter: 'TCP', service: web, limit: 1 })
    assert.deepEqual([seen.total, seen.more, seen.services.length], [3, 0, 1])
    const [service] = seen.services
    assert.deepEqual(
      [service?.health, service?.servers, service?.down, service?.numbers.active, service?.weight],
      ['up', 2, 1, 7, 3],
    )
    assert.ok(service!.rates.inPps > 0)
    assert.deepEqual(
      seen.servers?.map(({ name, health, words, numbers }) => [name, health, words, numbers.active]),
      [
        ['10.1.0.1:8080', 'up', 'web: connected', 7],
        ['10.1.0.2:8080', 'down', 'web: refused', 0],
      ],
    )
    assert.equal((await collector.overview({ service: 'tcp/192.0.2.99:80' })).servers, null)
    assert.equal((await collector.overview({ limit: 1 })).more, 2)
  })
})

describe('rules and dashboard', () => {
  const names = new Set(metricNames())
  const rules = readFileSync(join(root, 'deploy/prometheus/pointsman.rules.yml'), 'utf8')
  const dashboard = readFileSync(join(root, 'deploy/grafana/pointsman.json'), 'utf8')

  test('rules are what promtool takes, and fire when they should', () => {
    promtool(['check', 'rules', 'deploy/prometheus/pointsman.rules.yml'])
    promtool(['test', 'rules', 'test/deploy/prometheus-rules.yml'])
  })

  for (const [what, text] of [
    ['rules', rules],
    ['dashboard', dashboard],
  ] as const) {
    test(`every metric that ${what} name exists`, () => {
      const used = new Set(text.match(/\b(?:pointsman|process|node_ipvs)_[a-z_]+\b/g) ?? [])
      assert.ok(used.size > 5, `found ${[...used].join(' ')}`)
      assert.deepEqual(
        [...used].filter((name) => !names.has(name)),
        [],
      )
    })
  }

  test('every name that is promised is said by a director that has something to say of it', async () => {
    const { applier, director, text } = await scene()
    assert.ok(director.changeFullNat({ add: [{ address: ip('10.0.2.5') }], delete: [] }).ok)
    while (!applier.sweepSlice(1000));
    const said = await text()
    const silent = [...names].filter((name) => !said.includes(`\n${name}`) && !said.startsWith(name))
    // Without sources, send failures and checks there are none of these.
    const optional =
      /source|send_failures|companion|_up$|sorry|quorum|check_|weight_up|real_servers_down|attached/
    assert.deepEqual(
      silent.filter((name) => !optional.test(name)),
      [],
      lineOf(said, '# TYPE'),
    )
  })
})
