/** A configuration file: what it says, and every way it can be wrong, each with its place. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { placeText } from '../../../control/model/site.ts'
import { type Files, readSite } from '../../../control/source/file/read.ts'

function folder(files: Readonly<Record<string, string>>): Files {
  return {
    read: (path) => {
      const text = files[path]
      if (text === undefined) throw new Error(`ENOENT: no such file, open '${path}'`)
      return text
    },
    list: (path) =>
      Object.keys(files)
        .filter((name) => name.startsWith(`${path}/`))
        .map((name) => name.slice(path.length + 1)),
  }
}

const read = (text: string, others: Readonly<Record<string, string>> = {}) =>
  readSite('/etc/pm.yaml', folder({ '/etc/pm.yaml': text, ...others }))

const wrongs = (text: string, others: Readonly<Record<string, string>> = {}) => {
  const { site, complaints } = read(text, others)
  assert.equal(site, null)
  return complaints.map(({ at, message }) => `${placeText(at)}: ${message}`)
}

describe('a file that is right', () => {
  test('says services with all that ipvsadm knows, from several files, pools and defaults', () => {
    const { site, complaints } = read(
      `director:
  interfaces: [eth0]
  timeouts: { tcp: 15m, udp: 30 }
  sysctls: { sloppy_tcp: 1 }
  sync: [{ state: master, interface: eth1, sync_id: 3 }]
defaults:
  server: { method: nat, weight: 2 }
  check: { interval: 1s }
checks:
  web: { kind: http, url: /health, status: [200, 300-302] }
pools:
  apps:
    servers: [10.0.0.1, { address: 10.0.0.2, weight: 5 }]
    upper_threshold: 100
  watched: { file: apps.json, method: tunnel, tunnel: { type: gue, port: 6080 } }
include: conf.d/*.yaml
services:
  - tcp: 192.0.2.10:80
    scheduler: mh
    flags: [mh-fallback, mh-port]
    persistence_timeout: 5m
    netmask: 24
    pools: [apps, watched]
    real_servers: ["10.0.0.3:8080"]
    checks: [web, { kind: tcp, path: direct }]
    sorry_server: 10.0.0.9
    on_failure: drain
    slow_start: 30s
    on_quorum_up: { command: /bin/echo up, user: nobody }
`,
      {
        '/etc/apps.json':
          '[{"targets": ["10.0.0.4:81"], "labels": {"weight": "7", "env": "x"}}, "10.0.0.5:82"]',
        '/etc/conf.d/b.yaml':
          'services: [{ fwmark: 7, family: ipv6, real_servers: [{address: "2001:db8::5"}] }]',
        '/etc/conf.d/a.yaml':
          'services:\n- udp: "[2001:db8::1]:53"\n  one_packet: true\n  real_servers: ["[2001:db8::2]:53"]\n',
      },
    )
    assert.deepEqual(complaints, [])
    assert.ok(site !== null)
    assert.deepEqual(site.director, {
      interfaces: ['eth0'],
      timeouts: { tcp: 900, tcpFin: 0, udp: 30 },
      sysctls: { sloppy_tcp: 1 },
      daemons: [
        {
          state: 'master',
          interface: 'eth1',
          syncId: 3,
          maxLength: undefined,
          group: undefined,
          port: undefined,
          ttl: undefined,
        },
      ],
      fullNat: null,
    })
    assert.deepEqual(site.files, [
      '/etc/pm.yaml',
      '/etc/conf.d/a.yaml',
      '/etc/conf.d/b.yaml',
      '/etc/apps.json',
    ])
    assert.deepEqual(site.watched, ['/etc/apps.json'])
    const [web, dns, mark] = site.services
    assert.deepEqual(web!.service, {
      id: { kind: 'address', protocol: 'tcp', address: '192.0.2.10', family: 4, port: 80 },
      scheduler: 'mh',
      schedulerFlags: 0x18,
      onePacket: false,
      untracked: false,
      persistenceTimeoutS: 300,
      netmask: 0xffffff00,
      persistenceEngine: null,
    })
    assert.deepEqual(
      web!.servers.map(({ real, pool }) => [
        `${real.id.address}:${real.id.port}`,
        real.method,
        real.weight,
        real.upperThreshold,
        pool,
      ]),
      [
        ['10.0.0.3:8080', 'nat', 2, 0, null],
        ['10.0.0.1:80', 'nat', 2, 100, 'apps'],
        ['10.0.0.2:80', 'nat', 5, 100, 'apps'],
        ['10.0.0.4:81', 'tunnel', 7, 0, 'watched'],
        ['10.0.0.5:82', 'tunnel', 2, 0, 'watched'],
      ],
    )
    assert.deepEqual(
      web!.servers.map(({ checks }) => checks.map(({ name, path, intervalMs }) => [name, path, intervalMs])),
      [...Array(3).fill('direct'), ...Array(2).fill('service')].map((path) => [
        ['web', path, 1000],
        ['tcp', 'direct', 1000],
      ]),
    )
    assert.deepEqual(web!.servers[0]!.checks[0]!.question, {
      kind: 'http',
      tls: null,
      method: 'GET',
      version: '1.1',
      host: null,
      requests: [
        {
          path: '/health',
          status: [
            { from: 200, to: 200 },
            { from: 300, to: 302 },
          ],
          body: null,
          digest: null,
        },
      ],
    })
    assert.equal(web!.servers[0]!.checks, web!.servers[1]!.checks, 'equal checks are one value')
    assert.equal(web!.health.sorryServer?.id.address, '10.0.0.9')
    assert.deepEqual(web!.health.onQuorumUp, { command: ['/bin/echo', 'up'], user: 'nobody' })
    assert.equal(web!.health.slowStartMs, 30_000)
    assert.equal(dns!.service.onePacket, true)
    assert.equal(placeText(dns!.at), '/etc/conf.d/a.yaml:2:3')
    assert.deepEqual(mark!.service.id, { kind: 'fwmark', mark: 7, family: 6 })
  })

  test('may be JSON, or empty', () => {
    const json = '{"services": [{"tcp": "192.0.2.1:80", "real_servers": ["10.0.0.1"]}]}'
    assert.equal(read(json).site?.services.length, 1)
    assert.deepEqual(read('').site?.services, [])
    assert.deepEqual(read('# nothing yet\n').site?.services, [])
  })
})

describe('a file that is wrong', () => {
  test('is told all of it at once, each with place, value, what was wanted, and the nearest word', () => {
    assert.deepEqual(
      wrongs(`director: { sysctls: { slopy_tcp: 1, sync_version: 7 } }
services:
  - tcp: 192.0.2.10
    schedular: rr
  - tcp: 192.0.2.11:80
    scheduler: wlcc
    real_servers:
      - 10.0.0.1:80
      - { address: 10.0.0.2:80, methd: nat, weight: heavy }
      - { address: 10.0.0.300 }
  - tcp: 192.0.2.11:80
    checks: [{ kind: htp }]
  - udp: 192.0.2.12:53
    fwmark: 3
  - {}
`),
      [
        '/etc/pm.yaml:3:10: tcp: expected an address with a port in quotes or plain: 192.0.2.10:80, "[2001:db8::1]:80", got "192.0.2.10"',
        '/etc/pm.yaml:4:5: Unknown key "schedular": did you mean "scheduler"?',
        '/etc/pm.yaml:6:16: scheduler: expected one of none, rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, random, wrandom, got "wlcc"; did you mean "wlc"?',
        '/etc/pm.yaml:9:53: real_servers.1.weight: expected a whole number, got "heavy"',
        '/etc/pm.yaml:9:33: Unknown key "methd": did you mean "method"?',
        '/etc/pm.yaml:10:20: real_servers.2.address: expected an address, with a port or without: 10.0.0.1:80, "[2001:db8::1]:80", 10.0.0.1, got "10.0.0.300"',
        '/etc/pm.yaml:12:22: checks.0.kind: expected kind: one of tcp, http, https, tls, dns, smtp, udp, ping, grpc, exec, file, agent, got "htp"; did you mean "http"?',
        '/etc/pm.yaml:14:13: A service has exactly one of tcp, udp, sctp, fwmark, not udp and fwmark',
        '/etc/pm.yaml:15:5: A service has exactly one of tcp, udp, sctp, fwmark',
        '/etc/pm.yaml:1:35: Unknown setting "slopy_tcp": expected one of amemthresh, am_droprate, backup_only, cache_bypass, conn_reuse_mode, conntrack, drop_entry, drop_packet, expire_nodest_conn, expire_quiescent_template, ignore_tunneled, lblc_expiration, lblcr_expiration, nat_icmp_send, pmtu_disc, run_estimation, schedule_icmp, secure_tcp, sloppy_sctp, sloppy_tcp, snat_reroute, sync_persist_mode, sync_ports, sync_refresh_period, sync_retries, sync_sock_size, sync_version',
        '/etc/pm.yaml:1:52: Cannot set sync_version to 7: expected 0 to 1',
      ],
    )
  })

  test('also what stands beside a misspelt key, but not what may only follow from it', () => {
    assert.deepEqual(
      wrongs(
        `chekcs: { web: { kind: tcp } }
include: other.yaml
pools: { apps: { file: apps.json } }
director: { sysctls: { sync_version: 7 } }
services:
  - { tcp: "192.0.2.10:80", checks: [web], pools: [apps] }
  - { tcp: "192.0.2.11:80", schedular: rr }
`,
        { '/etc/apps.json': '["10.0.0.1:80", "10.0.0.300"]', '/etc/other.yaml': 'services: 7\n' },
      ).map((text) => text.replace(/(: [^:]*?)[:,] .*/, '$1')),
      [
        '/etc/pm.yaml:1:1: Unknown key "chekcs"',
        '/etc/other.yaml:1:11: services',
        '/etc/apps.json:1:17: 1',
        '/etc/pm.yaml:7:29: Unknown key "schedular"',
        '/etc/pm.yaml:4:38: Cannot set sync_version to 7',
      ],
    )
  })

  test('in what belongs together', () => {
    assert.deepEqual(
      wrongs(`services:
  - tcp: 192.0.2.1:80
    real_servers: [10.0.0.1, "10.0.0.1:80", { address: "[2001:db8::1]:80" }]
    pools: [aps]
    checks: [wbe]
  - tcp: 192.0.2.1:80
  - tcp: 192.0.2.2:0
    one_packet: true
    flags: [sh-port]
    hysteresis: 2
    real_servers:
      - { address: 10.0.0.1, lower_threshold: 5, upper_threshold: 3, tunnel: { type: gre } }
checks: { web: { kind: tcp } }
pools: { apps: { servers: [] } }
`),
      [
        '/etc/pm.yaml:5:14: Unknown check "wbe": did you mean "web"?',
        '/etc/pm.yaml:3:30: Real server "10.0.0.1:80" is named twice in this service',
        '/etc/pm.yaml:3:56: "[2001:db8::1]:80" is of another family than its service: only method tunnel can',
        '/etc/pm.yaml:4:13: Unknown pool "aps": did you mean "apps"?',
        '/etc/pm.yaml:6:5: Service "tcp 192.0.2.1:80" is stated twice, first at /etc/pm.yaml:2:5',
        '/etc/pm.yaml:7:10: Port 0 is for persistent services: give a port, or persistence_timeout',
        '/etc/pm.yaml:8:17: one_packet is for udp services',
        '/etc/pm.yaml:9:13: Flag "sh-port" is not for scheduler wlc',
        '/etc/pm.yaml:12:47: lower_threshold 5 is above upper_threshold 3',
        '/etc/pm.yaml:12:78: tunnel is for method tunnel, not for direct-routing',
        '/etc/pm.yaml:10:17: hysteresis 2 has to be less than the quorum, 1',
      ],
    )
  })

  test('as YAML, in an included file, a pool, or by a file that is not there', () => {
    assert.match(
      wrongs('services:\n  - tcp: [::1]:80\n').join('\n'),
      /:2:.*an IPv6 address in brackets needs quotes/,
    )
    assert.match(wrongs('services: [\n')[0]!, /^\/etc\/pm\.yaml:2:1: /)
    assert.match(wrongs('a: &a [1]\na: 2\n').join('\n'), /:2:1: Map keys must be unique/)
    assert.match(
      wrongs('include: other.yaml\n')[0]!,
      /^\/etc\/pm\.yaml:1:10: Cannot read "\/etc\/other\.yaml": ENOENT/,
    )
    assert.match(
      wrongs('include: other.yaml\n', { '/etc/other.yaml': 'include: pm.yaml\n' })[0]!,
      /^\/etc\/other\.yaml:1:10: "\/etc\/pm\.yaml" is included twice/,
    )
    assert.match(
      wrongs('include: other.yaml\n', { '/etc/other.yaml': 'director: { interfaces: [eth0] }\n' })[0]!,
      /^\/etc\/other\.yaml:1:11: What is about the director itself belongs in \/etc\/pm\.yaml/,
    )
    const pool = 'pools:\n  a: { file: a.json }\n'
    assert.match(
      wrongs(pool, { '/etc/a.json': '' })[0]!,
      /^\/etc\/a\.json:1:1: Empty: a pool of nobody is written \[\]/,
    )
    assert.match(wrongs(pool, { '/etc/a.json': '["10.0.0.1:80", {"targets"' })[0]!, /^\/etc\/a\.json:1:/)
    assert.match(
      wrongs(pool, { '/etc/a.json': '[\n {"target": ["10.0.0.1:80"]}]' }).join('\n'),
      /^\/etc\/a\.json:2:/,
    )
  })

  test('however large its aliases pretend to be', () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x]']
    for (let i = 1; i < 9; i++)
      lines.push(
        `a${i}: &a${i} [${Array(9)
          .fill(`*a${i - 1}`)
          .join(', ')}]`,
      )
    assert.match(wrongs(lines.join('\n'))[0]!, /alias/)
  })
})
