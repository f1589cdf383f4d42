/** Full NAT beside whatever else a director does: who has a port, who gives way for it, and what other rules make of it. */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import {
  ConnRecord,
  Method,
  PM_CONN_METHOD_MASK,
  PM_CONN_METHOD_SHIFT,
  PM_TICK_SHIFT,
  Verdict,
} from '../../dataplane/layout/layout.gen.ts'
import { parseAddress } from '../../net/address.ts'
import { cut } from '../../net/prefix.ts'
import { concat } from './bytes.ts'
import { decode } from './decode.ts'
import { fragmentsOf } from './fragments-of.ts'
import { icmp, ip, type Segment, tcp, udp } from './frame.ts'
import { openWasmProgram, type Program } from './programs.ts'
import { CLIENT4, DIRECTOR4, fromClient, fromServer, RS4, toClient, toServer, VIP4 } from './scenes.ts'

const OURS = '10.0.2.5'
const SECOND = Math.round(1e9 / 2 ** PM_TICK_SHIFT)
const PORT = 5000

describe('full NAT beside', () => {
  let now = 1_000_000
  let it: Program
  beforeEach(() => {
    it = openWasmProgram(() => now)
  })
  afterEach(() => it.close())

  const load = async (rules: readonly string[], last = PORT, address = OURS): Promise<void> => {
    await it.load(rules)
    await it.changeFullNat({
      add: [{ address: parseAddress(address)!, ports: { from: PORT, to: last } }],
      delete: [],
    })
  }
  const web = (extra = '', options = ''): string[] => [
    `ipvsadm -A -t ${VIP4}:80 -s rr${options}`,
    `ipvsadm -a -t ${VIP4}:80 -r ${RS4[0]}:8080 --full-nat${extra}`,
  ]
  const client = (segment: Segment, src = CLIENT4, dst = VIP4) =>
    it.send('c', fromClient(ip({ src, dst }, segment)))
  const ask = (sport: number, flags = 'S', dport = 80) => client(tcp({ sport, dport, flags })).verdict
  const answer = (dport: number, flags = 'SA', sport = 8080) =>
    it.send('r', fromServer(ip({ src: RS4[0], dst: OURS }, tcp({ sport, dport, flags }))))
  const count = (...verdicts: readonly Verdict[]): bigint =>
    verdicts.reduce((sum, verdict) => sum + it.dataplane.map('verdicts').u64[verdict]!, 0n)
  const evicted = (): bigint =>
    count(Verdict.EvictedEnded, Verdict.EvictedHalfOpen, Verdict.EvictedUnanswered, Verdict.EvictedIdle)

  test('a connection by NAT from that very address and port: it is refused, and the other one goes on', async () => {
    await load([...web(), `ipvsadm -A -t ${VIP4}:81 -s rr`, `ipvsadm -a -t ${VIP4}:81 -r ${RS4[0]}:8080 -m`])
    assert.equal(ask(41_000), 'forward_nat')
    const same = client(tcp({ sport: PORT, dport: 81, flags: 'S' }), OURS)
    assert.equal(same.verdict, 'drop_ports_taken')
    assert.equal(answer(PORT).verdict, 'forward_nat_reply')
    assert.equal(ask(41_000, 'A'), 'forward_nat')
  })

  test('nobody gives way for a connection that gets no port', async () => {
    await it.close()
    it = openWasmProgram(() => now, { connections4: 8 })
    await load([...web(), `ipvsadm -A -t ${VIP4}:81 -s rr`, `ipvsadm -a -t ${VIP4}:81 -r ${RS4[1]}:81 -g`])
    assert.equal(ask(41_000), 'forward_nat')
    assert.equal(answer(PORT).verdict, 'forward_nat_reply')
    assert.equal(ask(41_000, 'A'), 'forward_nat')
    for (let n = 0; n < 6; n++) assert.equal(ask(42_000 + n, 'S', 81), 'forward_dr')
    now += SECOND
    assert.equal(ask(41_001), 'drop_ports_taken')
    assert.equal(evicted(), 0n)
    await it.changeFullNat({
      add: [{ address: parseAddress(OURS)!, ports: { from: PORT, to: PORT + 9 } }],
      delete: [],
    })
    assert.equal(ask(41_001), 'forward_nat', 'for one that gets a port they do')
    assert.equal(evicted(), 2n)
  })

  test('schedule_icmp: an error names no connection that could be made', async () => {
    await load(['schedule_icmp=1', ...web()])
    const about = ip({ src: VIP4, dst: CLIENT4 }, tcp({ sport: 80, dport: 41_000 }))
    assert.equal(client(icmp({ type: 3, code: 1 }, about)).verdict, 'pass_icmp')
    assert.match(await it.run('ipvsadm -Ln'), / FullNat 1 +0 +0 /)
    assert.equal(ask(41_001), 'forward_nat', 'the port is free')
  })

  test('a real server that is the director itself: as by NAT, since its answers come by no network', async () => {
    await load([`ipvsadm -A -t ${VIP4}:80 -s rr`, `ipvsadm -a -t ${VIP4}:80 -r ${DIRECTOR4}:8080 --full-nat`])
    assert.equal(ask(41_000), 'pass_unsupported', 'this plane does not see what local sockets send')
    const { view, entries, entrySize } = it.dataplane.map('connections4')
    const methods = Array.from({ length: entries }, (_, line) => line * entrySize)
      .filter((at) => ConnRecord.getReal(view, at) === 0 && ConnRecord.getSport(view, at) !== 0)
      .map((at) => (ConnRecord.getTraits(view, at) >>> PM_CONN_METHOD_SHIFT) & PM_CONN_METHOD_MASK)
    assert.deepEqual(methods, [Method.Nat, Method.Nat])
    assert.match(await it.run('ipvsadm -Ln'), /-> 10\.0\.2\.1:8080 +FullNat /)
  })

  test('fragments: each gets both ends, there and back', async () => {
    await load([`ipvsadm -A -u ${VIP4}:53 -s rr`, `ipvsadm -a -u ${VIP4}:53 -r ${RS4[0]}:5353 --full-nat`])
    const text = 'a datagram that is longer than what one packet carries here'.repeat(4)
    const there = fragmentsOf(
      fromClient(ip({ src: CLIENT4, dst: VIP4 }, udp({ sport: 41_000, dport: 53 }, text))),
      100,
      7,
    )
    assert.ok(there.length > 2)
    const whole = (frames: readonly Uint8Array[]): Uint8Array =>
      concat(frames[0]!.subarray(0, 14), ...frames.map((frame, n) => frame.subarray(n === 0 ? 14 : 34)))
    const sent = there.map((frame) => it.send('c', frame))
    assert.deepEqual([...new Set(sent.map(({ verdict }) => verdict))], ['forward_nat'])
    for (const { frame } of sent) {
      const [ethernet, packet] = decode(frame)
      assert.ok(ethernet?.includes(toServer(0).dst), ethernet)
      assert.match(packet ?? '', new RegExp(`ipv4 ${OURS} > ${RS4[0]} `))
    }
    const ports = new DataView(whole(sent.map(({ frame }) => frame)).buffer)
    assert.deepEqual([ports.getUint16(34), ports.getUint16(36)], [PORT, 5353])
    const back = fragmentsOf(
      fromServer(ip({ src: RS4[0], dst: OURS }, udp({ sport: 5353, dport: PORT }, text))),
      100,
      8,
    ).map((frame) => it.send('r', frame))
    assert.deepEqual([...new Set(back.map(({ verdict }) => verdict))], ['forward_nat_reply'])
    for (const { frame } of back) {
      const [ethernet, packet] = decode(frame)
      assert.ok(ethernet?.includes(toClient.dst), ethernet)
      assert.match(packet ?? '', new RegExp(`ipv4 ${VIP4} > ${CLIENT4} `))
    }
  })

  test('a service of a firewall mark: the port stays, of the real server, and answers know where to', async () => {
    await load(['ipvsadm -A -f 1 -s rr', `ipvsadm -a -f 1 -r ${RS4[0]} --full-nat`])
    await it.changeMarks({
      add: [
        {
          ...{ family: 4, mark: 1, source: null, protocol: 'tcp', ports: null, interface: null },
          destination: cut(parseAddress(VIP4)!, 32),
        },
      ],
      delete: [],
      flush: false,
    })
    assert.equal(ask(41_000, 'S', 8443), 'forward_nat')
    const { verdict, frame } = answer(PORT, 'SA', 8443)
    assert.equal(verdict, 'forward_nat_reply')
    assert.match(decode(frame).join('\n'), new RegExp(`${VIP4} > ${CLIENT4} tcp[^]* 8443 > 41000`))
    assert.equal(
      ask(41_001, 'S', 8444),
      'forward_nat',
      'another port of the real server has the port for itself',
    )
  })

  test('persistence: connections of one client have a port each', async () => {
    await load(web('', ' -p 300'), PORT + 9)
    assert.equal(ask(41_000), 'forward_nat')
    assert.equal(ask(41_001), 'forward_nat')
    const listed = await it.run('ipvsadm -Lnc')
    assert.equal(listed.match(/10\.0\.2\.11:8080/g)?.length, 3, listed)
  })

  test('one-packet services: a datagram leaves neither line nor port behind', async () => {
    await load([`ipvsadm -A -u ${VIP4}:53 -s rr -o`, `ipvsadm -a -u ${VIP4}:53 -r ${RS4[0]}:53 --full-nat`])
    for (let n = 0; n < 3; n++)
      assert.equal(client(udp({ sport: 41_000 + n, dport: 53 }, 'x')).verdict, 'forward_nat')
    assert.equal(
      it.send('r', fromServer(ip({ src: RS4[0], dst: OURS }, udp({ sport: 53, dport: PORT }, 'y')))).action,
      'pass',
    )
  })

  test('thresholds: what is over them is not connected, and what is connected goes on', async () => {
    await load(web(' -x 1'), PORT + 1)
    const { verdict, frame } = client(tcp({ sport: 41_000, dport: 80, flags: 'S' }))
    assert.equal(verdict, 'forward_nat')
    assert.equal(ask(41_001), 'answer_port_unreachable')
    const had = new DataView(frame.buffer, frame.byteOffset).getUint16(34)
    const free = had === PORT ? PORT + 1 : PORT
    assert.equal(answer(free).action, 'pass', 'nobody has the other port')
    assert.equal(answer(had).verdict, 'forward_nat_reply')
    assert.equal(ask(41_000, 'A'), 'forward_nat')
  })

  test('a service that is deleted, and its real server: what is under way ends as by NAT', async () => {
    await load([...web(), `ipvsadm -A -t ${VIP4}:81 -s rr`])
    assert.equal(ask(41_000), 'forward_nat')
    assert.equal(answer(PORT).verdict, 'forward_nat_reply')
    await it.run(`ipvsadm -D -t ${VIP4}:80`)
    assert.equal(ask(41_000, 'A'), 'drop_real_server_gone')
    assert.equal(answer(PORT, 'A').verdict, 'forward_nat_reply')
    for (const rule of web()) await it.run(rule)
    assert.equal(ask(41_001), 'drop_ports_taken', 'the port is had until that connection is over')
    now += 1000 * SECOND
    assert.equal(ask(41_001), 'forward_nat')
  })

  test('a director that starts anew: connections, addresses and ports are what they were', async () => {
    await load(web())
    assert.equal(ask(41_000), 'forward_nat')
    await it.restart()
    assert.equal(answer(PORT).verdict, 'forward_nat_reply')
    assert.equal(ask(41_001), 'drop_ports_taken')
    assert.match(await it.run('ipvsadm -Sn'), /--full-nat/)
  })

  test('virtual addresses may be the ones that connections come from', async () => {
    await load(web(), PORT, VIP4)
    assert.equal(ask(41_000), 'forward_nat')
    const back = it.send(
      'r',
      fromServer(ip({ src: RS4[0], dst: VIP4 }, tcp({ sport: 8080, dport: PORT, flags: 'SA' }))),
    )
    assert.equal(back.verdict, 'forward_nat_reply')
    const other = it.send(
      'r',
      fromServer(ip({ src: RS4[1], dst: VIP4 }, tcp({ sport: 8080, dport: 80, flags: 'S' }))),
    )
    assert.equal(other.verdict, 'drop_ports_taken', 'and clients of the service as before')
  })
})
