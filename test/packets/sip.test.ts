/**
 * The persistence engine of SIP on both planes. Which texts name a call, and which do not, was recorded from kernel
 * IPVS (Linux 6.1): each was sent from a port of its own behind one that named `a@x`.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CallIdRecord, PM_WAYS } from '../../dataplane/layout/layout.gen.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Bench } from './bench.ts'
import { decode } from './decode.ts'
import { ip, tcp, udp } from './frame.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import { CLIENT4, ENDS, fromClient, fromServer, RS4, RS6, VIP4 } from './scenes.ts'

const FAMILIES = [4, 6] as const
type Family = (typeof FAMILIES)[number]

const bracket = (address: string): string => (address.includes(':') ? `[${address}]` : address)

function rules(family: Family, options: string, method = '-g', at?: string): string[] {
  const service = at ?? `-u ${bracket(ENDS[family].vip)}:5060`
  return [
    `ipvsadm -A ${service} -s rr ${options}`,
    ...(family === 4 ? RS4 : RS6).map((real) => `ipvsadm -a ${service} -r ${bracket(real)}:5060 ${method}`),
  ]
}

function message(call: string, name = 'Call-ID', end = '\r\n'): string {
  return ['INVITE sip:a@b SIP/2.0', 'Via: x', `${name}: ${call}`, 'Content-Length: 0', '', ''].join(end)
}

/** What text names a call: the one that `a@x` does, another one, or none. */
const TEXTS: readonly (readonly [what: string, text: string, names: 'the same' | 'another' | 'none'])[] = [
  ['another one', message('b@x'), 'another'],
  ['the same again', message('a@x'), 'the same'],
  ['a compact name', message('a@x', 'i'), 'the same'],
  ['a compact name in capitals', message('a@x', 'I'), 'the same'],
  ['a name in capitals', message('a@x', 'CALL-ID'), 'the same'],
  ['lines that end with LF', message('a@x', 'Call-ID', '\n'), 'the same'],
  ['lines that end with CR', message('a@x', 'Call-ID', '\r'), 'the same'],
  ['a blank before the colon', 'INVITE\r\nCall-ID : a@x\r\n\r\n', 'the same'],
  ['no blank behind the colon', 'INVITE\r\nCall-ID:a@x\r\n\r\n', 'the same'],
  ['a folded value', 'INVITE\r\nCall-ID:\r\n a@x\r\n\r\n', 'the same'],
  ['a line that only goes on with another', 'INVITE\r\n Call-ID: b@x\r\nCall-ID: a@x\r\n\r\n', 'the same'],
  ['an empty value before', 'INVITE\r\nCall-ID: @x\r\nCall-ID: a@x\r\n\r\n', 'the same'],
  ['a name that begins with the compact one', 'INVITE\r\nIdentity: b@x\r\nCall-ID: a@x\r\n\r\n', 'the same'],
  ['a name as text of the message', 'INVITE\r\n\r\nCall-ID: a@x\r\n\r\n', 'the same'],
  [
    'a name far behind',
    `INVITE\r\n${'Via: xxxxxxxxxxxxxxxxxxxxx\r\n'.repeat(40)}Call-ID: a@x\r\n\r\n`,
    'the same',
  ],
  ['no host', message('a'), 'another'],
  ['the longest value', message('x'.repeat(255)), 'another'],
  ['a value that is longer', message('x'.repeat(256)), 'none'],
  ['no Call-ID', 'INVITE sip:a@b SIP/2.0\r\nVia: x\r\n\r\n', 'none'],
  ['nothing', '', 'none'],
  ['a keep-alive', '\r\n\r\n', 'none'],
  ['a blank behind the value', message('a@x '), 'none'],
  ['no end of its line', 'INVITE\r\nCall-ID: a@x', 'none'],
  ['the first line', 'Call-ID: a@x\r\n\r\n', 'none'],
  ['an empty host', message('a@'), 'none'],
  ['a character that no word has', message('w;x@h'), 'none'],
  ['two hosts', message('w@h@h'), 'none'],
  ['a line behind an empty one that ends with LF', 'INVITE\n\nCall-ID: a@x\n\n', 'none'],
  ['a compact name that goes on', 'INVITE\r\ni-x: b@x\r\nCall-ID: a@x\r\n\r\n', 'none'],
  ['a name that goes on', 'INVITE\r\nCall-IDs: b@x\r\nCall-ID: a@x\r\n\r\n', 'none'],
]

function questions(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)
  let port = 4000

  /** Number of the real server that a client's message goes to, from 0; or the verdict. */
  function sent(text: string | Uint8Array, client = CLIENT4, sport = port++): number | string {
    const dst = client.includes(':') ? ENDS[6].vip : VIP4
    const packet = ip({ src: client, dst, ttl: 64 }, udp({ sport, dport: 5060 }, text))
    const { verdict, frame } = it().send('c', fromClient(packet))
    return verdict.startsWith('forward_') ? (frame[5] ?? 0) - 0x11 : verdict
  }

  /** Real server n to `dport` of the usual client. */
  function answered(n: number, text: string, dport: number, family: Family = 4) {
    const src = (family === 4 ? RS4 : RS6)[n]!
    const packet = ip({ src, dst: ENDS[family].client, ttl: 64 }, udp({ sport: 5060, dport }, text))
    const { verdict, frame } = it().send('r', fromServer(packet, n))
    return { verdict, lines: decode(frame).join('\n') }
  }

  /** Rows of `ipvsadm -Lnc --persistent-conn` without their time, sorted. */
  async function listed(): Promise<string[]> {
    const rows = (await it().run('ipvsadm -Lnc --persistent-conn')).trimEnd().split('\n').slice(2)
    return rows
      .map((row) =>
        row
          .replace(/^(\w+) \d+:\d\d */, '$1 ')
          .replace(/\s+/g, ' ')
          .trim(),
      )
      .sort()
  }

  for (const family of FAMILIES) {
    test(`IPv${family}: what names a call`, { skip }, async () => {
      const { client } = ENDS[family]
      for (const [what, text, names] of TEXTS) {
        await it().load(rules(family, '-p 100 --pe sip'))
        const first = sent(message('a@x'), client)
        const got = sent(text, client)
        if (names === 'none') assert.equal(got, 'drop_no_call_id', what)
        else {
          assert.equal(typeof got, 'number', `${what}: ${got}`)
          assert.equal(got === first ? 'the same' : 'another', names, what)
        }
      }
    })

    test(`IPv${family}: a call of each client is a call of its own, and is listed`, { skip }, async () => {
      await it().load(rules(family, '-p 100 --pe sip'))
      const { client, vip } = ENDS[family]
      const other = family === 4 ? '198.51.100.9' : '2001:db8:c::9'
      const [one, two] = [sent(message('a@x'), client, 5000), sent(message('a@x'), other, 5001)]
      assert.notEqual(one, two)
      const row = (from: string, sport: number, n: number | string, more: string) =>
        `UDP ${bracket(from)}:${sport} ${bracket(vip)}:5060 ${bracket((family === 4 ? RS4 : RS6)[Number(n)]!)}:5060${more}`
      assert.deepEqual(
        (await listed()).map((line) => line.replace(/ (NONE|UDP) /, ' ')).sort(),
        [
          row(client, 0, one, ' sip a@x'),
          row(client, 5000, one, ''),
          row(other, 0, two, ' sip a@x'),
          row(other, 5001, two, ''),
        ].sort(),
      )
    })

    test(`IPv${family}: one-packet: a call stays, and what is answered comes from the virtual address`, {
      skip,
    }, async () => {
      await it().load(rules(family, '-p 100 --pe sip -o', '-m'))
      const { client, vip } = ENDS[family]
      // As of a proxy: all calls from one port.
      const served = new Map(['a@x', 'b@x', 'c@x'].map((call) => [call, sent(message(call), client, 5060)]))
      assert.equal(new Set(served.values()).size, 3)
      for (let round = 0; round < 3; round++) {
        for (const [call, n] of served) {
          assert.equal(sent(message(call), client, 5060), n)
          const { verdict, lines } = answered(Number(n), message(call), 5060, family)
          assert.equal(verdict, 'forward_nat_reply')
          assert.ok(lines.includes(`${vip} > ${client} udp`), lines)
          assert.match(lines, /udp (sport )?5060/)
          assert.doesNotMatch(lines, /wrong|bad/)
        }
      }
      // Nobody's flood takes their places.
      assert.deepEqual(new Set((await listed()).map((line) => line.split(' ')[1])), new Set(['ASSURED']))
      const strange = answered(Number(served.get('a@x')), 'no call', 5060, family)
      assert.equal(strange.verdict, 'pass_no_service')
      assert.deepEqual((await listed()).map((line) => line.split(' ').at(-1)).sort(), ['a@x', 'b@x', 'c@x'])
      const stats = (await it().run('ipvsadm -Ln --stats --exact')).split('\n')
      assert.deepEqual(stats[3]?.trim().split(/\s+/).slice(2, 5), ['21', '12', '9'])
    })

    test(`IPv${family}: a call that a real server makes comes back to it`, { skip }, async () => {
      for (const options of ['-p 100 --pe sip', '-p 100 --pe sip -o']) {
        await it().load(rules(family, options, '-m'))
        const { client } = ENDS[family]
        const first = Number(sent(message('before@x'), client, 6001))
        const caller = (first + 1) % 3
        assert.equal(answered(caller, message('out@x'), 6000, family).verdict, 'forward_nat_reply', options)
        assert.equal(sent(message('out@x'), client, 6000), caller, options)
        assert.equal(sent(message('out@x'), client, 6002), caller, 'from another port')
        // Another real server has taken it over.
        assert.equal(answered(first, message('out@x'), 6003, family).verdict, 'forward_nat_reply')
        assert.equal(sent(message('out@x'), client, 6004), first, options)
      }
    })
  }

  test('clients under one mask share a call', { skip }, async () => {
    await it().load(rules(4, '-p 100 -M 255.255.255.0 --pe sip'))
    const one = sent(message('a@x'), '198.51.100.1')
    assert.equal(sent(message('a@x'), '198.51.100.2'), one)
    assert.notEqual(sent(message('b@x'), '198.51.100.2'), one)
    assert.deepEqual(
      (await listed()).filter((row) => row.includes('sip')).map((row) => row.split(' ')[2]),
      ['198.51.100.0:0', '198.51.100.0:0'],
    )
  })

  test('a service that is not persistent asks for no call', { skip }, async () => {
    await it().load(rules(4, '--pe sip', '-m'))
    assert.notEqual(sent('no call'), sent('no call'))
    assert.deepEqual(
      answered(0, 'nor here', 6000).verdict,
      'forward_nat_reply',
      'what a real server begins is translated',
    )
  })

  test('no engine, no look at what real servers begin', { skip }, async () => {
    await it().load(rules(4, '-p 100', '-m'))
    assert.equal(answered(0, message('out@x'), 6000).verdict, 'pass_no_service')
  })

  test('only datagrams can name a call', { skip }, async () => {
    await it().load(rules(4, '-p 100 --pe sip', '-g', `-t ${VIP4}:5060`))
    const syn = ip({ src: CLIENT4, dst: VIP4, ttl: 64 }, tcp({ sport: 4000, dport: 5060, flags: 'S' }))
    assert.equal(it().send('c', fromClient(syn)).verdict, 'drop_no_call_id')
  })

  test('a connection goes on whatever its datagrams say', { skip }, async () => {
    await it().load(rules(4, '-p 100 --pe sip'))
    const n = sent(message('a@x'), CLIENT4, 7000)
    assert.equal(sent('', CLIENT4, 7000), n)
    assert.equal(sent(message('b@x'), CLIENT4, 7000), n)
  })

  test('another daemon lists the calls that it finds', { skip }, async () => {
    await it().load(rules(4, '-p 100 --pe sip', '-m'))
    const n = sent(message('a@x'))
    await it().restart()
    assert.ok((await listed()).some((row) => row.endsWith('sip a@x')))
    assert.equal(sent(message('a@x')), n)
    assert.equal(answered(Number(n), message('late@x'), 6000).verdict, 'forward_nat_reply')
  })

  test("a record that somebody died at is nobody else's trouble", { skip }, async () => {
    await it().load(rules(4, '-p 100 --pe sip'))
    const { view, entries } = it().dataplane.map('call_ids')
    for (let set = 0; set < entries; set += PM_WAYS) CallIdRecord.setVersion(view, set * CallIdRecord.size, 1)
    sent(message('a@x'))
    assert.ok((await listed()).some((row) => row.endsWith('sip a@x')))
  })

  test('many calls of one client are kept apart', { skip }, async () => {
    await it().load(rules(4, '-p 100 --pe sip -o'))
    const calls = Array.from({ length: 90 }, (_, i) => message(`call-${i}@x`))
    const served = calls.map((call) => sent(call, CLIENT4, 5060))
    for (const n of [0, 1, 2])
      assert.equal(
        served.filter((one) => one === n).length,
        30,
        'round robin: no two calls were taken for one',
      )
    assert.deepEqual(
      calls.map((call) => sent(call, CLIENT4, 5060)),
      served,
    )
  })
}

describe('SIP in wasm', () => {
  questions(async () => openWasmProgram(), false)
})

describe('SIP in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmpsip${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
  )
})
