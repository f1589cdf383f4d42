/** The soak's own judgement: what it takes for explained, and what for growth. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { on } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { Clock } from './clock.ts'
import { datagram, digest, nameIn, pieces } from './content.ts'
import { overcounted, type PhaseResult, unexplained } from './drops.ts'
import { growthOf, growthProblems, type Size } from './process-size.ts'

const GOOD: PhaseResult = {
  name: 'phase',
  datagrams: { sent: 100, answered: 100, sinkSent: 50, sinkArrived: 50, changed: 0, lost: 0 },
  verdicts: { forward_nat: 300, pass_not_ip: 2 },
  socketDrops: 0,
  unseen: 0,
}

function lost(number: number, more: Partial<PhaseResult> = {}): PhaseResult {
  return { ...GOOD, ...more, datagrams: { ...GOOD.datagrams, answered: 100 - number, lost: number } }
}

test('a phase without loss, or whose losses have a name, is explained', () => {
  for (const phase of [
    GOOD,
    lost(3, { verdicts: { ...GOOD.verdicts, drop_ring: 2, drop_tx: 1 } }),
    lost(3, { socketDrops: 3 }),
    lost(3, { unseen: 4 }),
  ])
    assert.deepEqual(unexplained(phase), [])
})

test('a single datagram lost without a name is a problem', () => {
  for (const [phase, message] of [
    [lost(1), /1 of 150 datagrams were lost, but only 0 drops/],
    [lost(4, { verdicts: { drop_ring: 3 } }), /only 3 drops are known/],
    [lost(-1), /more came than were sent/],
    [{ ...GOOD, verdicts: { drop_map: 1 } }, /unexpected verdict: 1 × drop_map/],
    [{ ...GOOD, verdicts: { drop_answer_failed: 2 } }, /unexpected verdict: 2 × drop_answer_failed/],
    [{ ...GOOD, datagrams: { ...GOOD.datagrams, changed: 1 } }, /1 answers arrived changed/],
    [{ ...GOOD, datagrams: { ...GOOD.datagrams, sent: 0 } }, /no datagrams were sent/],
  ] as const) {
    const problems = unexplained(phase)
    assert.equal(problems.length, 1, problems.join('\n'))
    assert.match(problems[0] ?? '', message)
  }
})

test('drops that nobody has lost anything by are a problem', () => {
  const gone = { drop_real_server_gone: 5 }
  assert.deepEqual(overcounted(lost(5, { verdicts: gone }), 'drop_real_server_gone'), [])
  assert.match(overcounted(lost(4, { verdicts: gone }), 'drop_real_server_gone')[0] ?? '', /only 4/)
  assert.match(overcounted(GOOD, 'drop_real_server_gone')[0] ?? '', /was to be met/)
})

const MIB = 1024 * 1024

function life(own: (sample: number) => number, descriptors: (sample: number) => number): Size[] {
  return Array.from({ length: 100 }, (_, i) => ({
    atMs: i * 1000,
    own: own(i),
    maps: i * MIB, // fills up to a fixed size
    descriptors: descriptors(i),
  }))
}

test('memory that wavers is flat, memory and descriptors that rise are not', () => {
  const problems = (samples: readonly Size[]): string[] => {
    const growth = growthOf(samples)
    assert.ok(growth !== null)
    return growthProblems('life', growth)
  }
  const flat = (i: number): number => (90 + (i % 7)) * MIB
  const open = (i: number): number => 36 + (i % 2)
  assert.deepEqual(problems(life(flat, open)), [])
  assert.deepEqual(problems(life((i) => flat(i) + (i < 20 ? i - 20 : 0) * MIB, open)), [])
  assert.match(problems(life((i) => flat(i) + i * 0.4 * MIB, open))[0] ?? '', /memory grew by/)
  assert.match(problems(life(flat, (i) => 36 + i / 4))[0] ?? '', /more file descriptors/)
  assert.equal(growthOf(life(flat, open).slice(0, 5)), null)
})

test('content tells a missing, a doubled and a changed byte', () => {
  const whole = digest(pieces(1000, 300_000))
  const bytes = Buffer.concat([...pieces(1000, 300_000)])
  assert.equal(bytes.length, 300_000)
  assert.equal(digest([bytes]), whole)
  assert.notEqual(digest([bytes.subarray(1)]), whole)
  assert.notEqual(digest([bytes.subarray(0, 1), bytes]), whole)
  bytes[200_000] = (bytes[200_000] ?? 0) ^ 1
  assert.notEqual(digest([bytes]), whole)
})

test('a datagram carries its name, and garbage carries none', () => {
  const name = { phase: 3, flow: 17, sequence: 99 }
  assert.deepEqual(nameIn(datagram(name, 40)), name)
  assert.equal(datagram(name, 1200).length, 1200)
  assert.equal(nameIn(Buffer.from('soak 1 2 x ')), null)
  assert.equal(nameIn(Buffer.alloc(0)), null)
})

test('a clock that was shifted is later by that much, and no other clock is', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-clock-'))
  try {
    const clock = await Clock.make(folder)
    const script = `process.stdin.once('data', () => {
      console.log(JSON.stringify([Date.now(), performance.now()]))
      process.exit()
    })
    console.log('ready')`
    const child = spawn(process.execPath, ['-e', script], {
      env: { ...process.env, ...clock.environment() },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const lines = on(createInterface(child.stdout), 'line')
    await lines.next()
    const year = 365 * 86_400_000
    clock.shift(year / 1000)
    child.stdin.write('now')
    const [wall, monotonic] = JSON.parse((await lines.next()).value[0])
    assert.ok(Math.abs(wall - Date.now() - year) < 60_000, `${new Date(wall)}`)
    assert.ok(monotonic < 60_000)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
