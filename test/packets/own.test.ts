/** Answers to this host's own clients: they go to its sockets, whatever happens to the lines of the connection. */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { forgetOwnHops, giveHop } from '../../dataplane/given-hops.ts'
import {
  Conn4Record,
  ConnKind,
  ConnRecord,
  ConnStatus,
  PM_CONN_HELD,
  PM_CONN_KIND_MASK,
  PM_CONN_STATUS,
  PM_LEVELS_SHIFT,
  PM_NEIGHBOUR_OWN,
  PM_TICK_SHIFT,
  Setting,
  SettingsRecord,
} from '../../dataplane/layout/layout.gen.ts'
import { parseAddress } from '../../net/address.ts'
import { MAC } from './bench.ts'
import { macBytes } from './bytes.ts'
import { decode } from './decode.ts'
import { ip, tcp } from './frame.ts'
import { openWasmProgram, type Program } from './programs.ts'
import { fromClient, fromServer, RS4, service, VIP4 } from './scenes.ts'

const OWN = '192.0.2.1'
const PAIR = '02:70:6d:00:00:02'
const SECOND = Math.round(1e9 / 2 ** PM_TICK_SHIFT)
const WORDS = Conn4Record.size / 4

/** By full NAT real servers see another address of ours, and a port of that. */
const SEEN = { '-m': [OWN, 40000], '--full-nat': ['10.0.2.5', 5000] } as const

for (const method of ['-m', '--full-nat'] as const)
  describe(`an own client of a service, ${method}`, () => ofMethod(method))

function ofMethod(method: '-m' | '--full-nat'): void {
  let now = 1_000_000
  let program: Program
  beforeEach(async () => {
    program = openWasmProgram(() => now)
    await program.load(service(4, 't', method, 1))
    const [address, port] = SEEN['--full-nat']
    await program.changeFullNat({
      add: [{ address: parseAddress(address)!, ports: { from: port, to: port } }],
      delete: [],
    })
    // So that lines stand where they stood the last time.
    settings()[SettingsRecord.offsets.hashSeed / 4] = 1
    give()
    own()
    assert.equal(ask('S').verdict, 'forward_nat')
    comesHome()
    assert.equal(ask('A').verdict, 'forward_nat')
  })
  afterEach(() => program.close())

  const [seenAs, seenPort] = SEEN[method]
  const settings = () => program.dataplane.map('settings').u32
  const own = () => Atomics.or(settings(), SettingsRecord.offsets.flags / 4, Setting.Own)
  const mac = macBytes(PAIR)
  /** The clients' wire stands for the pair. */
  const give = () =>
    giveHop(program.dataplane, PM_NEIGHBOUR_OWN, { ifindex: 2, smac: macBytes(MAC.c0), dmac: mac, mtu: 3500 })
  const ask = (flags: string) => {
    own()
    return program.send('c', fromClient(ip({ src: OWN, dst: VIP4 }, tcp({ sport: 40000, dport: 80, flags }))))
  }
  const answer = () => {
    own()
    return program.send(
      'r',
      fromServer(ip({ src: RS4[0], dst: seenAs }, tcp({ sport: 80, dport: seenPort, flags: 'SA' }))),
    )
  }
  const comesHome = () => {
    const { verdict, frame } = answer()
    assert.equal(verdict, 'forward_nat_reply')
    assert.deepEqual(frame.subarray(0, 6), mac)
    assert.match(decode(frame).join('\n'), new RegExp(`ipv4 ${VIP4} > ${OWN} [^]* 80 > 40000`))
  }
  /** Where the line for answers stands, in words. */
  const replyLine = () => {
    const { u32, view, entries } = program.dataplane.map('connections4')
    for (let line = 0; line < entries; line++) {
      const traits = ConnRecord.getTraits(view, line * Conn4Record.size)
      if (
        (u32[line * WORDS]! & PM_CONN_STATUS) === ConnStatus.Live &&
        (traits & PM_CONN_KIND_MASK) === ConnKind.Reply
      )
        return line * WORDS
    }
    return assert.fail('no line for answers')
  }

  test('while another packet holds their line', () => {
    const { u32 } = program.dataplane.map('connections4')
    const at = replyLine()
    Atomics.or(u32, at, PM_CONN_HELD)
    comesHome()
    Atomics.and(u32, at, ~PM_CONN_HELD)
    comesHome()
  })

  test('when the pair is back that was away for a moment', () => {
    forgetOwnHops(program.dataplane)
    assert.notEqual(answer().verdict, 'forward_nat_reply')
    give()
    comesHome()
  })

  test('when their line is moved, which has been silent for longer than the other one', () => {
    const levels = SettingsRecord.offsets.levels4 / 4
    const before = replyLine()
    now += 60 * SECOND
    ask('A')
    // Another part of the table, beside the one in use so far.
    settings()[levels] = ((1 << settings()[levels]!) << PM_LEVELS_SHIFT) | 4
    comesHome()
    assert.notEqual(replyLine(), before, 'moved')
    comesHome()
  })
}
