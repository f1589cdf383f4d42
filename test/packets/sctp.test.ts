/**
 * SCTP: states as the specification's tables have them (docs/spec/dataplane.md §9.3), what may begin an
 * association, and the checksum under NAT.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ticksOfSeconds } from '../../control/compile/settings.ts'
import {
  ConnKind,
  ConnRecord,
  ConnStatus,
  LiveRecord,
  PM_CONN_ACTIVE,
  PM_CONN_KIND_MASK,
  PM_CONN_STATE_MASK,
  PM_CONN_STATE_SHIFT,
  PM_CONN_STATUS,
  SctpState,
} from '../../dataplane/layout/layout.gen.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Random } from '../differential/random.ts'
import { Bench } from './bench.ts'
import { be16, hex } from './bytes.ts'
import { CHUNK, type Chunk, fragmentHeader, ip, ipv4, ipv6, patch, type Segment, sctp } from './frame.ts'
import { natIn, natOut } from './model.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import {
  CLIENT4,
  CLIENT6,
  ENDS,
  fromClient,
  RS4,
  RS6,
  reply,
  request,
  toClient,
  toServer,
  VIP4,
  VIP6,
} from './scenes.ts'
import { sctpEvent } from './state-model.ts'

const PORT = 36412
const FAMILIES = [4, 6] as const
const bracket = (address: string): string => (address.includes(':') ? `[${address}]` : address)

function rules(family: 4 | 6, method: string, realPort = PORT, servers = 1): string[] {
  const at = `${bracket(ENDS[family].vip)}:${PORT}`
  const reals = (family === 4 ? RS4 : RS6).slice(0, servers)
  return [
    `ipvsadm -A --sctp-service ${at} -s rr`,
    ...reals.map((real) => `ipvsadm -a --sctp-service ${at} -r ${bracket(real)}:${realPort} ${method}`),
  ]
}

// ---- the model: the specification's tables themselves

const COLUMNS = ['NO', 'I1', 'IN', 'CS', 'CR', 'CW', 'CO', 'CE', 'ES', 'SS', 'SR', 'SA', 'RJ', 'CL']
const EVENTS = [
  ...['data', 'init', 'init_ack', 'cookie_echo', 'cookie_ack', 'shutdown', 'shutdown_ack'],
  ...['shutdown_complete', 'error', 'abort'],
]
const SECONDS = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61]
type Direction = 'in' | 'out' | 'in-only'

function readTables(): ReadonlyMap<string, number> {
  const spec = readFileSync(fileURLToPath(new URL('../../docs/spec/dataplane.md', import.meta.url)), 'utf8')
  const cells = new Map<string, number>()
  let direction = ''
  for (const line of spec.slice(spec.indexOf('### 9.3 SCTP')).split('\n')) {
    const [first = '', ...rest] = line.replace(/^\| | \|$/g, '').split(' | ')
    if (rest[0] === 'NO') direction = first
    else if (EVENTS.includes(first)) {
      rest.forEach((cell, state) => void cells.set(`${direction} ${first} ${state}`, COLUMNS.indexOf(cell)))
    }
  }
  assert.equal(cells.size, 3 * EVENTS.length * COLUMNS.length)
  return cells
}

/** The cells that chunks lead through by these tables, from the first INIT on. One on CLOSED begins anew. */
function reachable(ways: readonly Direction[]): ReadonlySet<string> {
  const cells = readTables()
  const reached = new Set<string>()
  const states = [cells.get(`${ways[0]} init 0`) ?? -1]
  for (const state of states) {
    for (const way of ways) {
      for (const event of EVENTS) {
        if (state === SctpState.Closed && event === 'init' && way !== 'out') continue
        const cell = `${way} ${event} ${state}`
        reached.add(cell)
        const next = cells.get(cell) ?? -1
        if (!states.includes(next)) states.push(next)
      }
    }
  }
  return reached
}

function eventOf(chunks: readonly Chunk[]): string {
  const [first, second] = chunks.map(({ type }) => type)
  return sctpEvent(first ?? 0, second ?? null).name
}

interface Seen {
  readonly state: number
  readonly isActive: boolean
  readonly left: number
}

/** The only association there is; null if there is none. */
function association(program: Program, family: 4 | 6): Seen | null {
  const map = program.dataplane.map(family === 4 ? 'connections4' : 'connections6')
  for (let base = 0; base < map.bytes.length; base += map.entrySize) {
    const word = map.u32[base / 4] ?? 0
    if ((word & PM_CONN_STATUS) !== ConnStatus.Live) continue
    if ((ConnRecord.getTraits(map.view, base) & PM_CONN_KIND_MASK) !== ConnKind.In) continue
    return {
      state: (word >>> PM_CONN_STATE_SHIFT) & PM_CONN_STATE_MASK,
      isActive: (word & PM_CONN_ACTIVE) !== 0,
      left: (ConnRecord.getExpires(map.view, base) - program.dataplane.nowTicks()) | 0,
    }
  }
  return null
}

const TYPES = [...Object.values(CHUNK), 3, 4, 5, 12, 13, 15, 64, 128, 192, 255]
/** Most random walks end in CLOSED, which only INIT leaves: a few of those lead on. */
const LIKELY = [CHUNK.init, CHUNK.cookieEcho, CHUNK.cookieAck, CHUNK.initAck]

/** Random chunks of both sides through a program, beside the tables. */
async function walk(
  program: Program,
  family: 4 | 6,
  method: '-m' | '-g',
  events: number,
): Promise<Set<string>> {
  const cells = readTables()
  const random = new Random(0x5c79 + family)
  const met = new Set<string>()
  let model: number | null = null
  let answered = method === '-m'
  const restart = async (): Promise<void> => {
    await program.load(rules(family, method))
    model = null
    answered = method === '-m'
  }
  /** The next chunk, and whose it is: half of the time one that leads through a cell that was never met. */
  const choose = (n: number): { readonly type: number; readonly isAnswer: boolean } => {
    // An answer that passes through the director is seen with IPv6, also without NAT.
    const mayAnswer = model !== null && (method === '-m' || (family === 6 && n % 50 > 40))
    const isAnswer = mayAnswer && random.below(3) === 0
    const way: Direction = isAnswer ? 'out' : answered ? 'in' : 'in-only'
    const unmet = Object.values(CHUNK).filter((type) => !met.has(`${way} ${eventOf([{ type }])} ${model}`))
    if (unmet.length > 0 && random.below(2) === 0) return { type: random.pick(unmet), isAnswer }
    return { type: random.below(3) === 0 ? random.pick(LIKELY) : random.pick(TYPES), isAnswer }
  }
  await restart()
  for (let n = 0; n < events; n++) {
    if (n % 40 === 39) await restart()
    const { type: first, isAnswer } = choose(n)
    const chunks: Chunk[] = [{ type: first, value: 'x'.repeat(random.below(9)) }]
    if (random.below(4) === 0) chunks.push({ type: random.pick(TYPES), value: '' })
    const event = eventOf(chunks)
    if (isAnswer) {
      const source = method === '-m' ? RS4[0] : ENDS[family].vip
      const back = sctp({ sport: PORT, dport: 40001 }, chunks)
      program.send('r', method === '-m' ? reply(family, back) : patched(family, back, source))
      answered = true
    } else program.send('c', request(family, sctp({}, chunks)))
    const direction: Direction = isAnswer ? 'out' : answered ? 'in' : 'in-only'
    const isReused = !isAnswer && model === SctpState.Closed && first === CHUNK.init
    if (isReused) {
      model = null
      answered = method === '-m'
    }
    if (model !== null || (!isAnswer && first === CHUNK.init)) {
      const way: Direction = isAnswer ? 'out' : answered ? 'in' : 'in-only'
      const cell: string = `${model === null ? way : direction} ${event} ${model ?? 0}`
      met.add(cell)
      model = cells.get(cell) ?? -1
    }
    const seen = association(program, family)
    const said: string = `event ${n}: ${direction} ${chunks.map(({ type }) => type).join('+')}`
    assert.equal(seen?.state ?? null, model, said)
    if (seen === null || model === null) continue
    const isActive: boolean = model === SctpState.Established
    assert.equal(seen.isActive, isActive, said)
    const live = program.dataplane.map('live')
    const total = { active: 0, inactive: 0 }
    for (let base = 0; base < live.bytes.length; base += live.entrySize) {
      total.active += LiveRecord.getActive(live.view, base)
      total.inactive += LiveRecord.getInactive(live.view, base)
    }
    assert.deepEqual(total, isActive ? { active: 1, inactive: 0 } : { active: 0, inactive: 1 }, said)
    assert.equal(seen.left, ticksOfSeconds(SECONDS[model] ?? 0), said)
  }
  return met
}

/** As a real server sends it that has the virtual address itself. */
function patched(family: 4 | 6, segment: Segment, source: string): Uint8Array {
  const answer = reply(family, segment)
  const from = ip({ src: source, dst: ENDS[family].client, ttl: 64 }, segment)
  answer.set(from.bytes, 14)
  return answer
}

test('every cell of the tables that packets can reach, and no other way', async () => {
  // Time stands still: what a busy machine takes is no part of it.
  const program = openWasmProgram(() => 1_000_000)
  try {
    for (const [family, method, events, ways] of [
      [4, '-m', 8_000, ['in', 'out']],
      [4, '-g', 2_000, ['in-only']],
      [6, '-g', 3_000, ['in-only', 'in', 'out']],
    ] as const) {
      const met = await walk(program, family, method, events)
      const missed = [...reachable(ways)].filter((cell) => !met.has(cell))
      // Both tables of one side and of two are met by few walks each: there it is enough that all three are.
      if (ways.length < 3) assert.deepEqual(missed, [])
      else
        for (const way of ways)
          assert.ok(
            [...met].some((cell) => cell.startsWith(`${way} `)),
            way,
          )
    }
  } finally {
    await program.close()
  }
})

// ---- the same questions to both hosts of the program

function questions(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)
  const verdict = (chunks: readonly Chunk[] | Uint8Array, sport = 40001): string =>
    it().send('c', request(4, sctp({ sport }, chunks))).verdict
  const listed = async (): Promise<string[]> =>
    (await it().run('ipvsadm -Lnc'))
      .trimEnd()
      .split('\n')
      .slice(2)
      .map((row) => row.split(/\s+/)[2] ?? '')

  test('INIT begins an association, nothing else does', { skip }, async () => {
    await it().load(rules(4, '-g'))
    for (const type of [CHUNK.data, CHUNK.cookieEcho, CHUNK.abort, CHUNK.shutdown, 77]) {
      assert.equal(verdict([{ type }]), 'pass_not_first', `chunk ${type}`)
    }
    assert.equal(verdict([{ type: CHUNK.init }]), 'forward_dr')
    assert.equal(verdict([{ type: CHUNK.data }]), 'forward_dr')
    assert.deepEqual(await listed(), ['INIT1'])
  })

  test('sloppy_sctp: everything but ABORT begins one', { skip }, async () => {
    await it().load(['sloppy_sctp=1', ...rules(4, '-g')])
    assert.equal(verdict([{ type: CHUNK.abort }]), 'pass_not_first')
    assert.equal(verdict([{ type: CHUNK.cookieEcho }, { type: CHUNK.abort }], 40002), 'forward_dr')
    assert.equal(verdict([{ type: CHUNK.data }], 40003), 'forward_dr')
    assert.deepEqual((await listed()).sort(), ['CLOSED', 'ESTABLISHED'])
  })

  test('INIT on a closed association is for the next real server, unless conn_reuse_mode is 0', {
    skip,
  }, async () => {
    const hop = (): string =>
      hex(
        it()
          .send('c', request(4, sctp({}, [{ type: CHUNK.init }])))
          .frame.subarray(0, 6),
      )
    for (const [mode, isOther] of [
      [1, true],
      [0, false],
    ] as const) {
      await it().load([`conn_reuse_mode=${mode}`, ...rules(4, '-g', PORT, 2)])
      const first = hop()
      assert.equal(hop(), first)
      verdict([{ type: CHUNK.abort }])
      assert.equal(hop() !== first, isOther)
    }
  })

  test('a packet without a whole chunk belongs to its association, and changes nothing', {
    skip,
  }, async () => {
    await it().load(rules(4, '-g'))
    assert.equal(verdict(new Uint8Array(0)), 'pass_not_first')
    assert.equal(verdict([{ type: CHUNK.init }]), 'forward_dr')
    assert.equal(verdict(new Uint8Array(0)), 'forward_dr')
    assert.equal(verdict(Uint8Array.of(CHUNK.abort, 0, 0)), 'forward_dr')
    assert.deepEqual(await listed(), ['INIT1'])
  })

  test('an ABORT behind a long cookie is found, one behind the end of the packet is not', {
    skip,
  }, async () => {
    for (const [second, state] of [
      [[{ type: CHUNK.abort }], 'CLOSED'],
      [[], 'C-REPLIED'],
    ] as const) {
      await it().load(rules(4, '-m'))
      verdict([{ type: CHUNK.init }])
      it().send('r', reply(4, sctp({ sport: PORT, dport: 40001 }, [{ type: CHUNK.initAck }])))
      const cookie = {
        type: CHUNK.cookieEcho,
        value: 'c'.repeat(999),
        ...(second.length > 0 ? {} : { length: 1007 }),
      }
      assert.equal(verdict([cookie, ...second]), 'forward_nat')
      assert.deepEqual(await listed(), [state])
    }
  })

  for (const family of FAMILIES) {
    const [real] = family === 4 ? RS4 : RS6
    test(`NAT IPv${family}: the checksum after a change of ports, for packets of every length`, {
      skip,
    }, async () => {
      await it().load(rules(family, '-m', 5000))
      for (const bytes of [0, 1, 3, 4, 15, 16, 17, 28, 31, 32, 33, 100, 511, 1400]) {
        const chunks = [{ type: CHUNK.init, value: Uint8Array.from({ length: bytes }, (_, i) => i * 7) }]
        const sent = request(family, sctp({}, chunks))
        const there = it().send('c', sent)
        assert.equal(there.verdict, 'forward_nat')
        assert.equal(hex(there.frame), hex(natIn(sent, toServer(0), real, 5000)), `${bytes} bytes`)
        const answer = reply(family, sctp({ sport: 5000, dport: 40001 }, chunks))
        const back = it().send('r', answer)
        assert.equal(back.verdict, 'forward_nat_reply')
        assert.equal(
          hex(back.frame),
          hex(natOut(answer, toClient, ENDS[family].vip, PORT)),
          `${bytes} bytes back`,
        )
      }
    })

    test(`NAT IPv${family}: a wrong checksum stays wrong with the same port, and is right after another`, {
      skip,
    }, async () => {
      const crcAt = family === 4 ? 42 : 62
      const wrong = request(family, sctp({ crc: 0xdeadbeef }, [{ type: CHUNK.init }]))
      await it().load(rules(family, '-m'))
      assert.equal(
        hex(
          it()
            .send('c', wrong)
            .frame.subarray(crcAt, crcAt + 4),
        ),
        'efbeadde',
      )
      await it().load(rules(family, '-m', 5000))
      assert.equal(hex(it().send('c', wrong).frame), hex(natIn(wrong, toServer(0), real, 5000)))
    })
  }

  test('a fragmented packet goes through NAT to the same port, to another its checksum cannot follow', {
    skip,
  }, async () => {
    const whole = sctp({}, [{ type: CHUNK.init, value: 'x'.repeat(52) }])
    const bytes = ipv4({ src: CLIENT4, dst: VIP4, ttl: 64, id: 7 }, whole).bytes.subarray(20)
    const piece = (from: number, to: number, more: boolean): Uint8Array =>
      fromClient(
        ipv4(
          { src: CLIENT4, dst: VIP4, ttl: 64, id: 7, fragmentOffset: from, mf: more },
          { protocol: whole.protocol, build: () => bytes.slice(from, to) },
        ),
      )
    await it().load(rules(4, '-m'))
    const first = it().send('c', piece(0, 40, true))
    assert.equal(first.verdict, 'forward_nat')
    assert.equal(hex(first.frame.subarray(34)), hex(bytes.subarray(0, 40)))
    assert.equal(it().send('c', piece(40, 68, false)).verdict, 'forward_nat')
    await it().load(rules(4, '-m', 5000))
    assert.equal(
      it().send('c', patch(piece(0, 40, true), 18, '0008')).action,
      'pass',
      'the header sum is wrong',
    )
    assert.equal(it().send('c', piece(0, 40, true)).verdict, 'drop_checksum_limit')
    assert.equal(it().send('c', piece(40, 68, false)).verdict, 'drop_fragment_refused')
  })

  test('an atomic fragment of IPv6 is a whole packet, and gets its checksum', { skip }, async () => {
    await it().load(rules(6, '-m', 5000))
    const segment = sctp({}, [{ type: CHUNK.init, value: 'atomic' }])
    const sent = fromClient(
      ipv6({ src: CLIENT6, dst: VIP6, extensions: [fragmentHeader(9, 0, false)] }, segment),
    )
    const { verdict: said, frame } = it().send('c', sent)
    assert.equal(said, 'forward_nat')
    assert.equal(be16(frame, 64), 5000)
    const plain = natIn(request(6, segment), toServer(0), RS6[0], 5000)
    assert.equal(hex(frame.subarray(62)), hex(plain.subarray(54)))
  })
}

describe('SCTP in wasm', () => {
  questions(async () => openWasmProgram(), false)
})

describe('SCTP in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmps${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
  )
})
