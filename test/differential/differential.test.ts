import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { FibRecord, FragmentRecord } from '../../dataplane/layout/layout.gen.ts'
import { type NextHop, NextHopResolver } from '../../linux/netlink/next-hop.ts'
import { RequestSocket } from '../../linux/netlink/socket.ts'
import { addressToBytes, familyOf, parseAddress } from '../../net/address.ts'
import { ADDRESSES, NEIGHBOURS } from '../packets/bench.ts'
import { BenchRoutes } from '../packets/bench-routes.ts'
import { unhex } from '../packets/bytes.ts'
import { readCapture, writeCapture } from '../packets/capture.ts'
import { sctp } from '../packets/frame.ts'
import { request } from '../packets/scenes.ts'
import { isInject, loadVectors } from '../packets/vectors.ts'
import { hunt, type Pair } from './hunt.ts'
import { ProgramClock, ProgramRun } from './program-run.ts'
import { Random } from './random.ts'
import { writeRules } from './rules.ts'
import { carriesError } from './sctp-error.ts'
import { shrink } from './shrink.ts'
import { openStage, type Stage } from './stage.ts'
import { Traffic } from './traffic.ts'
import { type Run, Twin } from './twin.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root, for BPF and network namespaces'
const folder = mkdtempSync(join(tmpdir(), 'pointsman-differences-'))
const packets = Number(process.env.POINTSMAN_DIFFERENTIAL_PACKETS ?? 300_000)

let stage: Stage | undefined
before(async () => {
  if (skip === false) stage = await openStage(`pmdt${process.pid % 100_000}`)
})
after(async () => await stage?.close())

function theStage(): Stage {
  assert.ok(stage)
  return stage
}

test('the model of the routes forwards to what the kernel forwards to', { skip }, () => {
  const { twin } = theStage()
  const routes = new BenchRoutes(twin.indices)
  const socket = new RequestSocket()
  const resolver = new NextHopResolver(socket, () => 0)
  const forwards = ({ result }: NextHop) => result === 'ok' || result === 'no-neighbour'
  const addresses = [
    ...ADDRESSES.flatMap(({ address }) => [
      address,
      address.replace(/[^.:]*$/, address.includes(':') ? '' : '0'),
      address.replace(/[^.:]*$/, address.includes(':') ? 'ffff' : '255'),
      address.replace(/[^.:]*$/, '77'),
    ]),
    ...NEIGHBOURS.flatMap((neighbour) => neighbour.addresses),
    ...['127.0.0.1', '224.0.0.1', '255.255.255.255', '8.8.8.8', '::1', 'ff02::1', '2001:db8:99::1'],
  ]
  for (const text of addresses) {
    const address = parseAddress(text)
    assert.ok(address, text)
    const daddr = new Uint8Array(16)
    daddr.set(addressToBytes(address))
    const query = { ...FibRecord.read(new DataView(new ArrayBuffer(FibRecord.size)), 0), daddr }
    const said = routes.lookup({ ...query, family: familyOf(address) })
    assert.equal(forwards(said), forwards(resolver.nextHop(address)), text)
  }
  socket.close()
})

test('recorded frames get the same answers from the kernel object and from wasm, under many rules', {
  skip,
}, () => {
  const { twin } = theStage()
  const vectors = loadVectors([fileURLToPath(new URL('../recordings/packets', import.meta.url))])
  let played = 0
  for (const [index, vector] of vectors.entries()) {
    const random = new Random(index)
    twin.reset(random.word())
    writeRules(twin.wasm, random)
    twin.copyToKernel()
    twin.stopTimeouts()
    for (const [at, { inject }] of vector.steps.filter(isInject).entries()) {
      const frame = unhex(inject.frame)
      if (frame.length < 14) continue
      const found = twin.step(frame, frame.length, inject.wire, at % 2 === 1 ? 128 : frame.length)
      assert.equal(found, null, `${vector.name}\n${found?.join('\n')}`)
      played++
    }
    const found = twin.compareMaps()
    assert.equal(found, null, `${vector.name}\n${found?.join('\n')}`)
  }
  assert.ok(played > 3500, `${played} frames`)
})

test('random traffic under random rules gets the same answers from both', { skip }, (t) => {
  // The same each time: new seeds are for `npm run differential`, which does not stop whoever pushes.
  const seed = 20261129
  t.diagnostic(`seed ${seed}, ${packets} packets`)
  const found = hunt(theStage().twin, { packets, seed, folder })
  assert.equal(
    found,
    null,
    found === null ? '' : [`seed ${found.seed}, ${found.capture}`, ...found.lines].join('\n'),
  )
  const verdicts = theStage().twin.verdicts()
  assert.ok(verdicts.length > 20, `random traffic met only ${verdicts.length} verdicts`)
  t.diagnostic(`${theStage().twin.excused} wrong checksums of SCTP were carried`)
})

test('a difference is found, made small and written to a capture file', { skip }, () => {
  const { twin } = theStage()
  // One side forgets how to count: the first packet of a connection gives it away.
  const spoiled: Pair = {
    wasm: twin.wasm,
    kernel: twin.kernel,
    reset: (seed) => twin.reset(seed),
    copyToKernel: () => twin.copyToKernel(),
    stopTimeouts: () => twin.stopTimeouts(),
    age: (every) => twin.age(every),
    step: (...frame) => twin.step(...frame),
    compareMaps: () => (twin.wasm.map('counters').u64.some((count) => count > 0n) ? ['counted'] : null),
  }
  const found = hunt(spoiled, { packets: 4000, seed: 9, folder })
  assert.ok(found !== null)
  assert.deepEqual(found.lines, ['counted'])
  assert.equal(found.steps, 1)
  assert.equal(readCapture(found.capture).length, 1)
})

test('a frame during which the time moved is played again before a difference is believed', { skip }, () => {
  const { kernel, indices } = theStage().twin
  const real = new ProgramRun(kernel.programFd)
  const spoils: boolean[] = []
  const clock: number[] = []
  const run: Run = {
    get output() {
      return real.output
    },
    get length() {
      return real.length
    },
    // What a program leaves that has looked at the time twice, and it had moved.
    run: (...frame) => {
      const action = real.run(...frame)
      if (spoils.shift()) FragmentRecord.setUntil(kernel.map('fragments').view, 0, 1)
      return action
    },
  }
  const asked = new ProgramClock(kernel.programFd)
  const twin = new Twin(kernel, indices, run, { ticks: () => asked.ticks() + (clock.shift() ?? 0) })
  const vectors = loadVectors([fileURLToPath(new URL('../recordings/packets', import.meta.url))])
  const [inject] = vectors
    .flatMap(({ steps }) => steps.filter(isInject))
    .filter(({ inject: { frame } }) => frame.length >= 28)
  assert.ok(inject)
  const frame = unhex(inject.inject.frame)
  const play = (spoiled: boolean[], moves: number[]): string[] | null => {
    twin.reset(1)
    writeRules(twin.wasm, new Random(1))
    twin.copyToKernel()
    twin.stopTimeouts()
    spoils.splice(0, spoils.length, ...spoiled)
    clock.splice(0, clock.length, ...moves)
    return twin.step(frame, frame.length, 'c', frame.length) ?? twin.compareMaps()
  }
  assert.equal(play([true], [0, 1]), null, 'the time moved, and the next time it did not')
  const always = Array.from({ length: 100 }, () => true)
  assert.match(play(always, [])?.join('\n') ?? '', /map fragments/, 'not because of the time')
  const moves = always.map((_, i) => i % 2)
  assert.match(play(always, moves)?.join('\n') ?? '', /map fragments/, 'the time never stands still')
})

test('a program whose clock is behind until the next jiffy is believed', { skip }, () => {
  const { twin } = theStage()
  const clock = new ProgramClock(twin.kernel.programFd)
  twin.reset(1)
  const traffic = new Traffic(new Random(1), writeRules(twin.wasm, new Random(1)))
  twin.copyToKernel()
  twin.stopTimeouts()
  const ticks: number[] = []
  for (let i = 0; i < 2000; i++) {
    clock.fallBehind(1000)
    const now = clock.ticks()
    traffic.next()
    const found = twin.step(traffic.frame, traffic.length, traffic.wire, traffic.length) ?? twin.compareMaps()
    assert.equal(found, null, found?.join('\n'))
    if (clock.ticks() === now) ticks.push(now)
  }
  assert.ok(ticks.length > 100, `${ticks.length} frames at a time that was behind`)
})

test('only a wrong checksum of SCTP may be carried by one and made anew by the other', () => {
  const frameOf = (dport: number, crc?: number): Uint8Array =>
    request(4, sctp({ dport, ...(crc === undefined ? {} : { crc }) }, [{ type: 0, value: 'four' }]))
  const crcAt = 14 + 20 + 8
  const crc = (frame: Uint8Array): number => Buffer.from(frame).readUInt32LE(crcAt)
  const right = frameOf(80)
  const renewed = frameOf(8080)
  const error = 0x01020304
  const wrong = frameOf(80, (crc(right) ^ error) >>> 0)
  const carried = frameOf(8080, (crc(renewed) ^ error) >>> 0)
  assert.ok(carriesError(wrong, carried, renewed))
  assert.ok(!carriesError(wrong, frameOf(8080, 7), renewed), 'another error than it came with')
  assert.ok(!carriesError(wrong, carried, carried), 'the other one has not made it anew')
  assert.ok(!carriesError(right, carried, renewed), 'it came with a right one')
  const other = carried.slice()
  other[20] = 1
  assert.ok(!carriesError(wrong, other, renewed), 'something else differs')
})

test('shrinking keeps what makes a sequence fail, and nothing else', () => {
  const sequence = Array.from({ length: 500 }, (_, i) => i)
  const needed = [17, 18, 402]
  const small = shrink(sequence, (candidate) => needed.every((number) => candidate.includes(number)))
  assert.deepEqual(small, needed)
})

test('shrinking finds the step that fails alone, though what had been given up first needs others', () => {
  const sequence = Array.from({ length: 200 }, (_, i) => i)
  // The last does it alone, and is given up early: 17 and 18 do it together.
  const fails = (steps: readonly number[]) =>
    (steps.includes(17) && steps.includes(18)) || (steps.length === 1 && steps[0] === 199)
  assert.deepEqual(shrink(sequence, fails), [199])
})

test('a capture file gives back the frames written to it', () => {
  const path = join(folder, 'frames.pcap')
  const frames = [Uint8Array.of(1, 2, 3), new Uint8Array(1514).fill(7)]
  writeCapture(path, frames)
  assert.deepEqual(readCapture(path), frames)
})
