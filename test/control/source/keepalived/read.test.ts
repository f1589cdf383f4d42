import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import type { SiteService } from '../../../../control/model/site.ts'
import { siteDocument } from '../../../../control/source/file/document.ts'
import { readSite } from '../../../../control/source/file/read.ts'
import { documentText } from '../../../../control/source/file/write.ts'
import { type KeepalivedReading, readKeepalived } from '../../../../control/source/keepalived/read.ts'
import { CORPUS } from './corpus.ts'

const KEEPALIVED = '/usr/sbin/keepalived'
const skip = existsSync(KEEPALIVED) ? false : `${KEEPALIVED} is missing: apt-get install keepalived`
const dir = mkdtempSync(join(tmpdir(), 'pointsman-keepalived-'))
after(() => rmSync(dir, { recursive: true }))

const files = {
  read: (path: string) => readFileSync(path, 'utf8'),
  list: (folder: string) => readdirSync(folder),
}

function written(text: string, name = 'keepalived.conf'): string {
  const path = join(dir, name)
  writeFileSync(path, text)
  return path
}

const read = (text: string): KeepalivedReading =>
  readKeepalived(written(text), files, { configId: 'me', hostName: 'me.example' })

function service(text: string): SiteService {
  const { site } = read(text)
  assert.equal(site?.services.length, 1)
  return site.services[0]!
}

/** Lines that keepalived -t remarks on, and how it ends. */
function oracle(path: string): { readonly status: number | null; readonly lines: readonly number[] } {
  const { status, stdout, stderr } = spawnSync(KEEPALIVED, ['-t', '-f', path, '-i', 'me'], {
    encoding: 'utf8',
  })
  const lines = [...`${stdout}${stderr}`.matchAll(/\((?:\S+: )?Line (\d+)\)/g)].map(([, line]) =>
    Number(line),
  )
  return { status, lines: [...new Set(lines)].sort((a, b) => a - b) }
}

describe('beside keepalived -t', { skip }, () => {
  for (const [name, text] of Object.entries(CORPUS))
    test(name, () => {
      const path = written(text)
      const theirs = oracle(path)
      const ours = read(text)
      // It crashes of a checker without a url, having said so.
      if (theirs.status !== null)
        assert.equal(ours.status, theirs.status, JSON.stringify(ours.complaints, null, 1))
      else assert.ok(ours.status > 0)
      const lines = new Set(ours.complaints.map(({ at }) => at.line))
      assert.deepEqual(
        theirs.lines.filter((line) => !lines.has(line)),
        [],
        'lines that only keepalived remarks on',
      )
    })
})

test('services, real servers and policy are those that are written', () => {
  const got = service(`virtual_server 10.0.0.1 80 {
  lvs_sched wlc
  lvs_method DR
  protocol TCP
  persistence_timeout 50
  persistence_granularity 255.255.255.0
  quorum 3
  hysteresis 1
  alpha
  omega
  inhibit_on_failure
  quorum_up "/bin/x a 'b c'" nobody
  sorry_server 10.0.0.9 80
  real_server 10.0.0.2 80 {
    weight 3
    uthreshold 10
    lthreshold 5
    notify_down /bin/y
  }
  real_server 10.0.0.3 80 {
    lvs_method TUN type gue port 6080 csum
  }
}`)
  assert.deepEqual(got.service, {
    id: { kind: 'address', protocol: 'tcp', address: '10.0.0.1', family: 4, port: 80 },
    ...{ scheduler: 'wlc', schedulerFlags: 0, onePacket: false, untracked: false, persistenceTimeoutS: 50 },
    ...{ netmask: 0xffffff00, persistenceEngine: null },
  })
  assert.deepEqual(
    got.servers.map(({ real }) => real),
    [
      {
        id: { address: '10.0.0.2', family: 4, port: 80 },
        ...{ method: 'direct-routing', tunnel: { type: 'ipip' }, weight: 3 },
        ...{ upperThreshold: 10, lowerThreshold: 5 },
      },
      {
        id: { address: '10.0.0.3', family: 4, port: 80 },
        ...{ method: 'tunnel', tunnel: { type: 'gue', port: 6080, checksum: 'csum' }, weight: 1 },
        ...{ upperThreshold: 0, lowerThreshold: 0 },
      },
    ],
  )
  const { sorryServer, ...policy } = got.health
  assert.equal(sorryServer?.id.address, '10.0.0.9')
  assert.deepEqual(policy, {
    ...{ quorum: 3, hysteresis: 1, start: 'down', hooksAtEnd: true, onFailure: 'drain', slowStartMs: 0 },
    sorryStays: false,
    onQuorumUp: { command: ['/bin/x', 'a', 'b c'], user: 'nobody' },
    onQuorumDown: null,
  })
  assert.deepEqual(got.servers[0]!.policy, {
    ...{ onUp: null, onFailure: null, start: null },
    onDown: { command: ['/bin/y'], user: null },
  })
})

test('times come from the nearest block, and the defaults are those of each checker', () => {
  const [first, second] = service(`virtual_server 10.0.0.1 80 {
  protocol TCP
  delay_loop 7
  real_server 10.0.0.2 80 {
    retry 5
    TCP_CHECK {
      connect_timeout 1.5
    }
    HTTP_GET {
      retry 2
      delay_loop 3
      url {
        path /
      }
    }
  }
}`).servers[0]!.checks
  assert.deepEqual(
    [first!.intervalMs, first!.retryIntervalMs, first!.timeoutMs, first!.fall, first!.startJitterMs],
    [7000, 1000, 1500, 6, 7000],
  )
  assert.deepEqual([second!.intervalMs, second!.retryIntervalMs, second!.fall], [3000, 3000, 3])
})

test('checks of the virtual address go over the forwarding path, which is said once', () => {
  const server = (last: number): string => `  real_server 10.0.0.${last} 80 {
    TCP_CHECK {
      connect_ip 192.0.2.1
      connect_port 80
      bindto 10.0.0.250
      fwmark 7
    }
  }
`
  const { site, complaints, status } = read(
    `virtual_server 192.0.2.1 80 {\nlb_algo rr\nlb_kind TUN\nprotocol TCP\n${server(2)}${server(3)}}`,
  )
  assert.equal(status, 0)
  for (const { checks } of site!.services[0]!.servers) {
    const [{ path, address, port, source }] = checks as [(typeof checks)[number]]
    assert.deepEqual(
      { path, address, port, source },
      { path: 'service', address: null, port: null, source: null },
    )
  }
  assert.equal(complaints.filter(({ message }) => message.includes('forwarding path')).length, 1)
})

test('questions are those of the checkers', () => {
  const { checks } = service(CORPUS['every checker']!).servers[0]!
  assert.deepEqual(
    checks.map(({ question }) => question.kind),
    ['tcp', 'http', 'http', 'http', 'smtp', 'dns', 'ping', 'udp', 'exec'],
  )
  const [tcp, plain, named, tls] = checks
  assert.deepEqual([tcp!.path, tcp!.port, tcp!.source], ['direct', 8080, '10.0.0.9'])
  assert.deepEqual(plain!.question, {
    ...{ kind: 'http', tls: null, method: 'GET', version: '1.1', host: null },
    requests: [
      {
        path: '/a',
        status: [
          { from: 200, to: 299 },
          { from: 301, to: 301 },
        ],
        body: null,
        digest: null,
      },
    ],
  })
  assert.ok(named!.question.kind === 'http' && named!.question.host === 'b.example')
  assert.ok(tls!.question.kind === 'http' && tls!.question.requests[0]!.body === 'ok')
  const udp = checks[7]!.question
  assert.ok(udp.kind === 'udp' && udp.payload === '0a0b0c' && udp.reply.required)
  assert.deepEqual(checks[8]!.question, {
    ...{ kind: 'exec', command: ['/nowhere/check', 'a', 'b'], user: null, result: 'weight' },
  })
})

test('groups are a service for each address and mark', () => {
  const { site } = read(CORPUS['a group']!)
  const ids = site!.services.map(({ service: { id } }) =>
    id.kind === 'fwmark' ? `mark ${id.mark}` : id.address,
  )
  assert.deepEqual(ids, [
    '10.1.0.1',
    ...[1, 2, 3, 4, 5].map((last) => `10.1.1.${last}`),
    ...[8, 9, 10, 11].map((last) => `10.1.2.${last}`),
    'mark 7',
  ])
})

test('definitions, conditions and repetitions are put in where they are used', () => {
  const weights = (name: string) => service(CORPUS[name]!).servers.map(({ real }) => real.weight)
  assert.deepEqual(weights('definitions'), [3])
  assert.deepEqual(weights('definitions that hold definitions'), [3])
  assert.deepEqual(weights('conditions'), [4])
  assert.deepEqual(
    service(CORPUS.sequences!).servers.map(({ real }) => `${real.id.address} ${real.weight}`),
    ['10.0.0.3 2', '10.0.0.5 2', '10.0.0.7 2', '10.0.0.2 1'],
  )
})

test('included files stand where they are named, by wildcard and relative to their includer', () => {
  written(CORPUS.plain!.replace('10.0.0.1', '10.0.0.5'), 'b.part')
  written(`include b.part\nnonsense\n`, 'a.part')
  const { site, complaints } = read(`include a.p*\ninclude nothing*\n${CORPUS.plain}`)
  assert.deepEqual(
    site!.services.map(({ service: { id } }) => id.kind === 'address' && id.address),
    ['10.0.0.5', '10.0.0.1'],
  )
  assert.deepEqual(
    complaints.map(({ at }) => at),
    [{ file: join(dir, 'a.part'), line: 2, column: 1 }],
  )
  assert.equal(site!.files.length, 3)
})

test('files that include each other come to an end', () => {
  written('include keepalived.conf\n', 'loop.part')
  assert.ok(read(`include loop.part\n`).complaints.length > 0)
})

test('VRRP is left to keepalived, which is said once', () => {
  const vrrp = 'vrrp_instance V {\n  virtual_ipaddress {\n    10.0.0.1\n  }\n}\n'
  const { complaints, status, site } = read(vrrp + vrrp + CORPUS.plain)
  assert.deepEqual([status, complaints.length, site!.services.length], [0, 1, 1])
  assert.match(complaints[0]!.message, /keepalived -P/)
})

test('what is imported reads as the same', () => {
  for (const [name, text] of Object.entries(CORPUS)) {
    const { site } = read(text)
    const path = written(documentText(siteDocument(site!.director, site!.services)), 'imported.yaml')
    const again = readSite(path, files)
    assert.deepEqual(again.complaints, [], name)
    const plain = (services: readonly SiteService[]) => services.map(({ at, ...rest }) => rest)
    assert.deepEqual(plain(again.site!.services), plain(site!.services), name)
  }
})
