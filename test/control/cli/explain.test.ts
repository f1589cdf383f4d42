/** What `pointsman explain` prints, over a snapshot: packets in words, captures, and questions without sense. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { type ExplainOptions, explain } from '../../../control/cli/explain.ts'
import { readCapture } from '../../../control/insight/explain/capture.ts'
import { takeSnapshot } from '../../../control/insight/explain/snapshot.ts'
import { putInterface } from '../../../dataplane/interface-table.ts'
import { LiveRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import type { NextHop } from '../../../linux/netlink/next-hop.ts'
import { macBytes } from '../../packets/bytes.ts'
import { writeCapture } from '../../packets/capture.ts'
import { ethernet, ipv4, tcp, udp } from '../../packets/frame.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'

const DIRECTOR = '02:00:00:00:00:02'
const hop: NextHop = {
  ...{ result: 'ok', ifindex: 2, mtu: 1500 },
  ...{ smac: macBytes(DIRECTOR), dmac: macBytes('02:00:00:00:00:99') },
}

describe('explain', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-explain-'))
  const path = join(folder, 'director.snapshot')
  before(async () => {
    const dataplane = new MemoryDataplane()
    const { director } = openDirector({ dataplane, host: testHost() })
    const web = service('tcp 192.0.2.10:80', { scheduler: 'wlc' })
    director.addService(web)
    director.addServer(web.id, server('192.168.77.11:8080', { weight: 2 }))
    director.addServer(web.id, server('192.168.77.12:8080', { weight: 1 }))
    director.addServer(web.id, server('192.168.77.13:8080', { weight: 0 }))
    director.addService(service('udp 192.0.2.10:53', { scheduler: 'rr' }))
    await director.settle()
    // By index: 11 and 12 are busy, and 12 less for its weight.
    const { view } = dataplane.map('live')
    LiveRecord.setActive(view, 0, 9)
    LiveRecord.setActive(view, LiveRecord.size, 4)
    putInterface(dataplane, { name: 'eth0', ifindex: 2, mac: macBytes(DIRECTOR), mtu: 1500 })
    const pieces: Uint8Array[] = []
    const hops = ['11', '12', '13'].map((last) => [`192.168.77.${last}`, hop] as const)
    const facts = { version: '1', wallMs: 0, interfaces: [{ ifindex: 2, name: 'eth0' }], hops }
    for await (const piece of takeSnapshot(dataplane, facts)) pieces.push(piece)
    writeFileSync(path, gzipSync(Buffer.concat(pieces)))
  })
  after(() => rmSync(folder, { recursive: true }))

  async function said(words: readonly string[], options: Partial<ExplainOptions> = {}): Promise<string> {
    let text = ''
    await explain('/nonexistent', words, { json: false, snapshot: path, ...options }, (more) => {
      text += more
    })
    return text
  }

  test('tells the way of a packet: what it met, who was chosen and why, and how it left', async () => {
    const text = await said(['tcp', '198.51.100.7:40000', '192.0.2.10:80'])
    const titles = text.split('\n').filter((line) => /^[A-Z]/.test(line))
    assert.deepEqual(titles, [
      ...[
        'Packet',
        'Arrives',
        'Connection',
        'Virtual service',
        'Scheduler wlc',
        'Next hop',
        'Leaves',
        'Verdict',
      ],
    ])
    assert.match(
      text,
      /^\+ made: syn_recv, from the client; 198\.51\.100\.7:40000 at 192\.168\.77\.12:8080 by nat/m,
    )
    assert.match(text, /^ {2}→ 192\.168\.77\.12:8080 {2}weight 1, 4 active, 0 inactive {2}load 1028$/m)
    assert.match(
      text,
      /192\.168\.77\.11:8080 {2}weight 2, 9 active, 0 inactive {2}load 2313 \/ 2 = 1156\.5$/m,
    )
    assert.match(text, /192\.168\.77\.13:8080 .* weight 0 takes no new connections$/m)
    assert.match(text, /^- +tcp 40000 > 80 \[S\]/m)
    assert.match(text, /^\+ +tcp 40000 > 8080 \[S\]/m)
    assert.match(text, /by eth0 to 02:00:00:00:00:99, MTU 1500/)
    assert.match(text, /forward_nat: client → real server/)
  })

  test('names the nearest service, and why it is not meant', async () => {
    const port = await said(['tcp', '198.51.100.7:40000', '192.0.2.10:81'])
    assert.match(port, /^ {2}none for tcp\/192\.0\.2\.10:81$/m)
    assert.match(port, /^ {2}tcp\/192\.0\.2\.10:80: another port$/m)
    assert.match(port, /^ {2}udp\/192\.0\.2\.10:53: another protocol, another port$/m)
    const address = await said(['tcp', '198.51.100.7:40000', '192.0.2.11:80'])
    assert.match(address, /no service has the address 192\.0\.2\.11; there are 2 with others/)
    assert.match(address, /pass_no_service: .*\n.*What to do: .*ipvsadm -Ln/)
    const first = await said(['tcp', '198.51.100.7:40000', '192.0.2.10:80'], { flags: 'ack' })
    assert.match(first, /pass_not_first/)
  })

  test('says that nobody can take the connection', async () => {
    const text = await said(['udp', '198.51.100.7:40000', '192.0.2.10:53'])
    assert.match(text, /the service has no real servers/)
    assert.match(text, /answer_port_unreachable/)
  })

  test('spreads many connections as the scheduler would', async () => {
    const rows = JSON.parse(
      await said(['tcp', '198.51.100.7:40000', '192.0.2.10:80'], { count: '30', json: true }),
    ) as readonly { readonly realServer: string; readonly packets: number }[]
    assert.equal(
      rows.reduce((sum, { packets }) => sum + packets, 0),
      30,
    )
    assert.ok(rows.length === 2 && rows.every(({ packets }) => packets > 5), JSON.stringify(rows))
  })

  test('plays a capture frame by frame, each on top of those before it', async () => {
    const capture = join(folder, 'frames.pcap')
    const packet = (sport: number, flags: string, dst = DIRECTOR) =>
      ethernet(
        { src: '02:00:00:00:01:50', dst },
        ipv4({ src: '198.51.100.7', dst: '192.0.2.10' }, tcp({ sport, dport: 80, flags })),
      )
    const other = ethernet(
      { dst: DIRECTOR },
      ipv4({ src: '198.51.100.7', dst: '192.0.2.10' }, udp({ dport: 9 })),
    )
    writeCapture(capture, [
      packet(41_000, 'S'),
      packet(41_000, 'A'),
      packet(41_001, 'A'),
      other,
      packet(1, 'S', 'ff:ff:ff:ff:ff:ff'),
    ])
    const rows = (await said([], { capture })).trim().split('\n')
    assert.deepEqual(
      rows.map((row) => row.trim().split(/\s+/)[1]),
      ['forward_nat', 'forward_nat', 'pass_not_first', 'pass_no_service', 'pass_not_for_host'],
    )
    assert.match(await said([], { capture, frame: '3' }), /pass_not_first: belongs to no connection/)
    await assert.rejects(said([], { capture, frame: '6' }), /has no frame 6: it has 5/)
  })

  test('refuses what has no sense, with what would', async () => {
    const to = '192.0.2.10:80'
    const from = '198.51.100.7:1'
    const refused: readonly (readonly [readonly string[], Partial<ExplainOptions>, RegExp])[] = [
      [['tcp', 'nonsense', to], {}, /Cannot read "nonsense": expected an address with a port/],
      [['tcp', from], {}, /expected: pointsman explain tcp/],
      [['icmp', from, to], {}, /expected tcp, udp or sctp/],
      [['tcp', '[2001:db8::1]:1', to], {}, /one is IPv4 and the other IPv6/],
      [['tcp', from, to], { flags: 'sin' }, /Unknown TCP flag "sin"/],
      [['tcp', from, to], { interface: 'eth9' }, /No packets are taken from interface "eth9": expected eth0/],
      [['tcp', from, to], { count: '1000000' }, /expected 1 to 100000/],
      [['tcp', from, to], { snapshot: '/etc/hostname' }, /this is no snapshot/],
      [['tcp', from, to], { snapshot: '/nonexistent' }, /Cannot read \/nonexistent/],
      [[], { capture: '/nonexistent' }, /Cannot read \/nonexistent/],
      [['tcp', from, to], { capture: '/nonexistent' }, /Cannot explain both/],
    ]
    for (const [words, options, message] of refused) await assert.rejects(said(words, options), message)
  })

  test('refuses damaged snapshots and captures, whatever is in them', async () => {
    const { readFileSync } = await import('node:fs')
    const { gunzipSync } = await import('node:zlib')
    const whole = gunzipSync(readFileSync(path))
    const bad = join(folder, 'bad')
    const damaged = (change: (bytes: Buffer) => Buffer, message: RegExp) => {
      writeFileSync(bad, change(Buffer.from(whole)))
      return assert.rejects(said(['tcp', '198.51.100.7:1', '192.0.2.10:80'], { snapshot: bad }), message)
    }
    const head = whole.indexOf(10) + 1
    await damaged((bytes) => bytes.subarray(0, bytes.length - 20), /cut short/)
    await damaged((bytes) => bytes.fill(0xee, head, head + 4), /damaged|cut short/)
    await damaged((bytes) => bytes.fill(0xee, head + 8, head + 14), /damaged/)
    await damaged(
      (bytes) =>
        Buffer.from(bytes.toString('latin1').replace(/"fingerprint":"..../, '"fingerprint":"zzzz'), 'latin1'),
      /taken by pointsman 1, whose tables are laid out otherwise/,
    )
    const capture = (hex: string): string => {
      writeFileSync(bad, Buffer.from(hex.replaceAll(' ', ''), 'hex'))
      return bad
    }
    const read = (hex: string) => [...readCapture(capture(hex))]
    const pcap = 'd4c3b2a1 02000400 00000000 00000000 ffff0000 01000000'
    assert.throws(() => read(''), /is empty/)
    assert.throws(() => read('0102030405'), /no capture file/)
    assert.throws(
      () => read(`${pcap} 00000000 00000000 ffffff7f ffffff7f`),
      /frame 1 says that it has 2147483647 bytes/,
    )
    assert.throws(() => read(`${pcap} 00000000 00000000 10000000 10000000 00`), /cut short/)
    assert.throws(
      () => read(`${pcap.slice(0, -8)}71000000 ${'00'.repeat(8)} 04000000 04000000 01020304`),
      /link type is 113/,
    )
    assert.throws(
      () => read('0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffffffffffff 1c000000 06000000 ffffff00'),
      /a block says/,
    )
    assert.throws(() => read('0a0d0d0a 1c000000 deadbeef 01000000'), /byte order/)
  })
})
