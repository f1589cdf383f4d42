/**
 * Just enough tracking (bpf/untracked.h): services whose connections are in the table only where a change of the real
 * servers would move them. None is moved, whatever changes, and when; none is there that need not be.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { listInterfaces } from '../../dataplane/interface-table.ts'
import {
  ConnStatus,
  CountersRecord,
  NeighbourRecord,
  PM_CONN_STATUS,
  PM_NEIGHBOUR_CHECK4,
  PM_TICK_SHIFT,
  ScheduleRecord,
  ServiceRecord,
} from '../../dataplane/layout/layout.gen.ts'
import { parsePrefix } from '../../net/prefix.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import fc from '../property.ts'
import { Bench } from './bench.ts'
import { icmp, ip, type Segment, tcp, udp } from './frame.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import { ENDS, fromClient, RS4, RS6 } from './scenes.ts'

type Family = 4 | 6
const SECOND = Math.round(1e9 / 2 ** PM_TICK_SHIFT)
const bracket = (address: string): string => (address.includes(':') ? `[${address}]` : address)
const at = (family: Family, port: number): string => `${bracket(ENDS[family].vip)}:${port}`
const real = (family: Family, n: number, port: number): string =>
  `${bracket((family === 4 ? RS4 : RS6)[n]!)}:${port}`

function rules(family: Family, scheduler: string, servers: readonly number[], method = '-g'): string[] {
  const service = `-t ${at(family, 80)}`
  return [
    `ipvsadm -A ${service} -s ${scheduler} -b mh-port --untracked`.replace(
      ' -b mh-port',
      scheduler === 'mh' ? ' -b mh-port' : scheduler === 'sh' ? ' -b sh-port' : '',
    ),
    ...servers.map((n) => `ipvsadm -a ${service} -r ${real(family, n, 80)} ${method}`),
  ]
}

/** Nothing has come yet: that is seen with the next look, and what real servers were added is no change. */
async function used(program: Program): Promise<void> {
  for (let n = 0; n < 100 && inForce(program).lines !== 0; n++) {
    await program.beat()
    await new Promise((resolve) => void setTimeout(resolve, 10))
  }
  assert.deepEqual([inForce(program).beforeCount, inForce(program).lines], [0, 0])
}

async function load(program: Program, commands: readonly string[]): Promise<void> {
  await program.load(commands)
  await used(program)
}

/** Lines of both tables that are in use. */
function lineCount({ dataplane }: Program): number {
  let count = 0
  for (const name of ['connections4', 'connections6'] as const) {
    const { u32, entrySize, entries } = dataplane.map(name)
    for (let line = 0; line < entries; line++) {
      if ((u32[(line * entrySize) / 4]! & PM_CONN_STATUS) === ConnStatus.Live) count++
    }
  }
  return count
}

const schedules = ({ dataplane }: Program) =>
  [0, 1].map((n) => ScheduleRecord.read(dataplane.map('schedules').view, n * ScheduleRecord.size))

/** The schedule in force of the first service. */
function inForce(program: Program) {
  const word = ServiceRecord.getSchedule(program.dataplane.map('services').view, 0)
  return schedules(program)[(word >> 8) & 1]!
}

/** Of each real server, which stands at the end of its next hop's address; or the verdict. */
function whereTo(program: Program, family: Family, segment: Segment, client: string = ENDS[family].client) {
  const { verdict, frame } = program.send(
    'c',
    fromClient(ip({ src: client, dst: ENDS[family].vip, ttl: 64 }, segment)),
  )
  return verdict.startsWith('forward_') ? (frame[5] ?? 0) - 0x11 : verdict
}

function questions(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)
  const go = (family: Family, sport: number, flags: string) =>
    whereTo(it(), family, tcp({ sport, dport: 80, flags }))
  const PORTS = Array.from({ length: 60 }, (_, i) => 2000 + i)

  for (const family of [4, 6] as const) {
    for (const method of ['-g', '-i']) {
      test(`IPv${family} ${method}: packets go by the table, and nothing is entered`, { skip }, async () => {
        if (family === 6 && method === '-i') return
        await load(it(), rules(family, 'mh', [0, 1, 2], method))
        const first = PORTS.map((port) => go(family, port, 'S'))
        assert.deepEqual(new Set(first), new Set([0, 1, 2]))
        for (const flags of ['A', 'PA', 'FA', 'R', 'S']) {
          assert.deepEqual(
            PORTS.map((port) => go(family, port, flags)),
            first,
            flags,
          )
        }
        assert.equal(lineCount(it()), 0)
        const { view } = it().dataplane.map('counters')
        const { cpus } = it().dataplane.sizes
        const counted = { conns: 0n, packets: 0n }
        for (let row = 0; row < 64 * cpus; row++) {
          counted.conns += CountersRecord.getConns(view, row * CountersRecord.size)
          counted.packets += CountersRecord.getInPackets(view, row * CountersRecord.size)
        }
        // What begins is counted, as often as it says so.
        assert.deepEqual(counted, { conns: 120n, packets: 360n })
      })
    }
  }

  test('others of the same director are tracked as ever', { skip }, async () => {
    await load(it(), [
      ...rules(4, 'mh', [0, 1, 2]),
      `ipvsadm -A -t ${at(4, 81)} -s rr`,
      `ipvsadm -a -t ${at(4, 81)} -r ${real(4, 0, 81)} -g`,
    ])
    assert.equal(whereTo(it(), 4, tcp({ sport: 1, dport: 81, flags: 'A' })), 'pass_not_first')
    assert.equal(whereTo(it(), 4, tcp({ sport: 1, dport: 81, flags: 'S' })), 0)
    assert.equal(whereTo(it(), 4, tcp({ sport: 1, dport: 81, flags: 'A' })), 0)
    assert.equal(lineCount(it()), 1)
  })

  test('what a firewall mark has taken stays with it', { skip }, async () => {
    await load(it(), [
      ...rules(4, 'mh', [0, 1]),
      'ipvsadm -A -f 1 -s rr',
      `ipvsadm -a -f 1 -r ${real(4, 2, 0)} -g`,
    ])
    const prefixed = parsePrefix('198.51.100.7/32')
    assert.ok(typeof prefixed !== 'string')
    const any = { source: null, destination: null, protocol: null, ports: null, interface: null }
    const rule = { ...any, family: 4 as const, mark: 1, source: prefixed }
    await it().changeMarks({ add: [rule], delete: [], flush: false })
    assert.deepEqual(
      ['S', 'A', 'PA', 'FA'].map((flags) => go(4, 2000, flags)),
      [2, 2, 2, 2],
    )
    const others = (flags: string) => whereTo(it(), 4, tcp({ sport: 2000, dport: 80, flags }), '198.51.100.9')
    assert.notEqual(others('S'), 2)
    assert.equal(others('A'), others('S'))
    assert.equal(lineCount(it()), 1)
  })

  test('a change enters those alone that it would move, and moves nobody', { skip }, async () => {
    await load(it(), rules(4, 'mh', [0, 1]))
    const first = PORTS.map((port) => go(4, port, 'S'))
    await it().run(`ipvsadm -a -t ${at(4, 80)} -r ${real(4, 2, 80)} -g`)
    assert.deepEqual(
      PORTS.map((port) => go(4, port, 'A')),
      first,
    )
    // Others by the same ports of another client, which have not been there before.
    const later = PORTS.map((port) =>
      whereTo(it(), 4, tcp({ sport: port, dport: 80, flags: 'S' }), '198.51.100.9'),
    )
    assert.deepEqual(new Set(later), new Set([0, 1, 2]))
    const moved = later.filter((server) => server === 2).length
    assert.ok(lineCount(it()) > moved && lineCount(it()) < 2 * PORTS.length, `${lineCount(it())} lines`)
    assert.deepEqual(
      PORTS.map((port) => go(4, port, 'A')),
      first,
    )
    assert.deepEqual(
      PORTS.map((port) => whereTo(it(), 4, tcp({ sport: port, dport: 80, flags: 'A' }), '198.51.100.9')),
      later,
    )
  })

  test('a connection of a removed real server ends as ever, one of a drained one goes on', {
    skip,
  }, async () => {
    await load(it(), rules(4, 'sh', [0, 1, 2]))
    const first = PORTS.map((port) => go(4, port, 'S'))
    await it().run(`ipvsadm -e -t ${at(4, 80)} -r ${real(4, 1, 80)} -g -w 0`)
    await it().run(`ipvsadm -d -t ${at(4, 80)} -r ${real(4, 2, 80)}`)
    assert.deepEqual(
      PORTS.map((port) => go(4, port, 'A')),
      first.map((server) => (server === 2 ? 'drop_real_server_gone' : server)),
    )
    for (const port of PORTS) assert.ok([0, 'answer_port_unreachable'].includes(go(4, port + 1000, 'S')))
  })

  test('UDP: datagrams stay with who has served them while that is in the service', { skip }, async () => {
    const service = `-u ${at(4, 53)}`
    await load(it(), [
      `ipvsadm -A ${service} -s mh -b mh-port --untracked`,
      ...[0, 1].map((n) => `ipvsadm -a ${service} -r ${real(4, n, 53)} -g`),
    ])
    const ask = (port: number) => whereTo(it(), 4, udp({ sport: port, dport: 53 }, 'x'))
    const first = PORTS.map(ask)
    assert.equal(lineCount(it()), 0)
    await it().run(`ipvsadm -a ${service} -r ${real(4, 2, 53)} -g`)
    assert.deepEqual(PORTS.map(ask), first)
    await it().run(`ipvsadm -d ${service} -r ${real(4, 0, 53)}`)
    // Those of real server 0 that had been entered have lost it; whoever comes now goes elsewhere.
    for (const port of PORTS.map((port) => port + 500)) assert.ok([1, 2].includes(ask(port) as number))
    assert.deepEqual(
      PORTS.filter((_, i) => first[i] === 1).map(ask),
      first.filter((server) => server === 1),
    )
  })

  test('an ICMP error about an answer reaches the real server that the table has', { skip }, async () => {
    await load(it(), rules(4, 'mh', [0, 1, 2]))
    for (const port of PORTS.slice(0, 12)) {
      const server = go(4, port, 'S')
      const quote = ip({ src: ENDS[4].vip, dst: ENDS[4].client }, tcp({ sport: 80, dport: port, flags: 'A' }))
      const error = ip({ src: '203.0.113.1', dst: ENDS[4].vip }, icmp({ type: 3, code: 4 }, quote))
      const { verdict, frame } = it().send('c', fromClient(error))
      assert.deepEqual([verdict, (frame[5] ?? 0) - 0x11], ['forward_icmp', server])
    }
    assert.equal(lineCount(it()), 0)
  })

  test('health checks are led by their lines', { skip }, async () => {
    await load(it(), rules(4, 'mh', [0, 1]))
    const first = PORTS.map((port) => go(4, port, 'S'))
    await it().run(`ipvsadm -a -t ${at(4, 80)} -r ${real(4, 2, 80)} -g`)
    const now = () => PORTS.map((port) => go(4, port, 'A'))
    assert.deepEqual(now(), first)
    const { view } = it().dataplane.map('schedules')
    for (const base of [0, ScheduleRecord.size]) {
      ScheduleRecord.setBeforeCount(view, base, 0)
      ScheduleRecord.setLines(view, base, 0)
    }
    assert.notDeepEqual(now(), first, 'lines are there, and not looked for')
    // Packets of checks come by another interface than all others: here it is that of the clients.
    const [ifindex] = listInterfaces(it().dataplane.map('interfaces'))
    const check = PM_NEIGHBOUR_CHECK4 * NeighbourRecord.size
    NeighbourRecord.setIfindex(it().dataplane.map('neighbours').view, check, ifindex!)
    assert.deepEqual(now(), first)
  })

  test('turned on and off, nobody is moved', { skip }, async () => {
    const service = `-t ${at(4, 80)} -s mh -b mh-port`
    await load(it(), rules(4, 'mh', [0, 1, 2]))
    const first = PORTS.map((port) => go(4, port, 'S'))
    await it().run(`ipvsadm -E ${service}`)
    assert.deepEqual(
      PORTS.map((port) => go(4, port, 'A')),
      first,
    )
    assert.equal(lineCount(it()), PORTS.length)
    await it().run(`ipvsadm -d -t ${at(4, 80)} -r ${real(4, 0, 80)}`)
    await it().run(`ipvsadm -E ${service} --untracked`)
    assert.deepEqual(
      PORTS.map((port) => go(4, port, 'A')),
      first.map((server) => (server === 0 ? 'drop_real_server_gone' : server)),
    )
  })
}

describe('just enough tracking in wasm', () => {
  questions(async () => openWasmProgram(), false)
})

describe('just enough tracking in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmut${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
  )
})

describe('just enough tracking, with time at hand', () => {
  let now = 0xffff_f000
  let program: Program
  before(() => {
    program = openWasmProgram(() => now, { connections4: 16_384 })
  })
  after(() => program.close())
  const pass = (seconds: number): void => {
    now = (now + seconds * SECOND) >>> 0
  }
  const PORTS = Array.from({ length: 60 }, (_, i) => 3000 + i)
  const go = (sport: number, flags: string) => whereTo(program, 4, tcp({ sport, dport: 80, flags }))

  test('a change settles when every live connection has had to show itself; then its lines are forgotten', async () => {
    await load(program, rules(4, 'mh', [0, 1]))
    const first = PORTS.map((port) => go(port, 'S'))
    await program.run(`ipvsadm -a -t ${at(4, 80)} -r ${real(4, 2, 80)} -g`)
    assert.notEqual(inForce(program).beforeCount, 0)
    pass(890)
    const held = () => program.dataplane.map('members').u32
    const { beforeFirst, beforeCount } = inForce(program)
    const table = held().slice(beforeFirst * 2, (beforeFirst + beforeCount) * 2)
    await program.beat()
    assert.deepEqual(held().slice(beforeFirst * 2, (beforeFirst + beforeCount) * 2), table)
    assert.deepEqual(
      PORTS.map((port) => go(port, 'A')),
      first,
    )
    const lines = lineCount(program)
    assert.ok(lines > 0 && lines < PORTS.length)
    pass(20)
    await program.beat()
    assert.equal(inForce(program).beforeCount, 0)
    // Settled: what begins now goes by the table alone, those with lines stay.
    const later = PORTS.map((port) => go(port + 1000, 'S'))
    assert.ok(later.includes(2))
    for (let hour = 0; hour < 12; hour++) {
      pass(300)
      await program.beat()
      assert.deepEqual(
        PORTS.map((port) => go(port, 'A')),
        first,
      )
    }
    assert.equal(lineCount(program), lines)
    pass(1000)
    await program.beat()
    assert.equal(lineCount(program), 0)
    pass(1000)
    go(PORTS[0]!, 'A')
    assert.equal(inForce(program).lines, 0, 'lines are not looked for any more')
  })

  test('the program settles by itself when no daemon does', async () => {
    await load(program, rules(4, 'mh', [0, 1]))
    await program.run(`ipvsadm -a -t ${at(4, 80)} -r ${real(4, 2, 80)} -g`)
    pass(2500)
    const where = PORTS.map((port) => go(port, 'S'))
    assert.ok(where.includes(2))
    assert.equal(lineCount(program), 0)
    assert.deepEqual(
      PORTS.map((port) => go(port, 'A')),
      where,
    )
    assert.equal(inForce(program).lines, 0)
  })

  const event = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('begin' as const), port: fc.nat({ max: 39 }) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('speak' as const), port: fc.nat({ max: 39 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('all speak' as const) }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('wait' as const), seconds: fc.nat({ max: 600 }) }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('add' as const), n: fc.nat({ max: 2 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), n: fc.nat({ max: 2 }) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('weigh' as const),
        n: fc.nat({ max: 2 }),
        weight: fc.nat({ max: 3 }),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('edit' as const),
        scheduler: fc.constantFrom('mh -b mh-port', 'mh -b mh-port,mh-fallback', 'sh -b sh-port', 'dh', 'mh'),
        untracked: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('beat' as const) }) },
  )

  test('no sequence of changes moves a live connection', () =>
    fc.assert(
      fc.asyncProperty(fc.array(event, { minLength: 5, maxLength: 80 }), async (events) => {
        await load(program, rules(4, 'mh', [0, 1]))
        const service = `-t ${at(4, 80)}`
        const there = new Set([0, 1])
        /** By port: where the connection is, and when it was heard of last. */
        const live = new Map<number, { server: number; heard: number }>()
        const speak = (port: number): void => {
          const known = live.get(port)
          if (known === undefined) return
          // Whoever is silent for longer is forgotten where all are tracked, too.
          if (((now - known.heard) | 0) > 890 * SECOND) {
            live.delete(port)
            return
          }
          assert.equal(go(port, 'A'), known.server, `port ${port}`)
          known.heard = now
        }
        for (const [i, did] of events.entries()) {
          switch (did.kind) {
            case 'begin': {
              // By a port of its own: another connection may be under way by that.
              const port = 4000 + i * 40 + did.port
              const server = go(port, 'S')
              if (typeof server === 'number') {
                assert.ok(there.has(server))
                live.set(port, { server, heard: now })
                speak(port)
              } else assert.equal(server, 'answer_port_unreachable')
              break
            }
            case 'speak':
              for (const port of [...live.keys()].filter((_, n) => n % 40 === did.port)) speak(port)
              break
            case 'all speak':
              for (const port of [...live.keys()]) speak(port)
              break
            case 'wait':
              pass(did.seconds)
              break
            case 'add':
              if (there.has(did.n)) break
              there.add(did.n)
              await program.run(`ipvsadm -a ${service} -r ${real(4, did.n, 80)} -g`)
              break
            case 'remove':
              if (!there.delete(did.n)) break
              await program.run(`ipvsadm -d ${service} -r ${real(4, did.n, 80)}`)
              for (const [port, { server }] of live) if (server === did.n) live.delete(port)
              break
            case 'weigh':
              if (!there.has(did.n)) break
              await program.run(`ipvsadm -e ${service} -r ${real(4, did.n, 80)} -g -w ${did.weight}`)
              break
            case 'edit':
              await program.run(
                `ipvsadm -E ${service} -s ${did.scheduler}${did.untracked ? ' --untracked' : ''}`,
              )
              break
            case 'restart':
              await program.restart()
              break
            case 'beat':
              await program.beat()
              break
            default:
              did satisfies never
          }
        }
        for (const port of [...live.keys()]) speak(port)
      }),
      { numRuns: 150 },
    ))
})

test('of a hundred thousand live connections none is moved, by changes on top of changes and kills between', async () => {
  const program = openWasmProgram(undefined, { connections4: 524_288 })
  const FLOWS = 100_000
  /** Where the ports begin, and TCP's flags, in a frame of IPv4. */
  const PORT = 34
  const FLAGS = 47
  const clients = ['198.51.100.7', '198.51.100.9'].map((src) =>
    fromClient(ip({ src, dst: ENDS[4].vip, ttl: 64 }, tcp({ sport: 1, dport: 80, flags: 'A' }))),
  )
  const go = (flow: number, flags: number): number => {
    const frame = clients[flow % 2]!.slice()
    new DataView(frame.buffer).setUint16(PORT, 1024 + (flow >>> 1))
    frame[FLAGS] = flags
    const sent = program.send('c', frame)
    return sent.verdict === 'forward_dr' ? sent.frame[5]! - 0x11 : -1
  }
  const ACK = 0x10
  const SYN = 0x02
  const service = `-t ${at(4, 80)}`
  try {
    await load(program, rules(4, 'mh', [0, 1]))
    const first = Uint8Array.from({ length: FLOWS }, (_, flow) => go(flow, SYN))
    assert.equal(lineCount(program), 0)
    let moved = 0
    const speak = (from: number): void => {
      for (let flow = from; flow < FLOWS; flow += 2) if (go(flow, ACK) !== first[flow]) moved++
    }
    await program.run(`ipvsadm -a ${service} -r ${real(4, 2, 80)} -g`)
    speak(0)
    await program.restart()
    // Half of them have not shown themselves since the first change.
    await program.run(`ipvsadm -e ${service} -r ${real(4, 0, 80)} -g -w 5`)
    speak(1)
    await program.run(`ipvsadm -d ${service} -r ${real(4, 2, 80)}`)
    await program.restart()
    await program.run(`ipvsadm -e ${service} -r ${real(4, 1, 80)} -g -w 0`)
    speak(0)
    speak(1)
    assert.equal(moved, 0)
    const lines = lineCount(program)
    assert.ok(lines > FLOWS / 4 && lines < FLOWS, `${lines} of ${FLOWS} had to be remembered`)
  } finally {
    await program.close()
  }
})
