/** `pointsman explain --capture` of files that anybody may have written: long ones, damaged ones, ones that lie. */
import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { explain } from '../../../control/cli/explain.ts'
import { ConnectionTable } from '../../../control/connections/table.ts'
import { ClientError } from '../../../control/front/api/client.ts'
import { CaptureError, readCapture } from '../../../control/insight/explain/capture.ts'
import { takeSnapshot } from '../../../control/insight/explain/snapshot.ts'
import { putInterface } from '../../../dataplane/interface-table.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import type { NextHop } from '../../../linux/netlink/next-hop.ts'
import { interfaceBlock, packetBlock, sectionBlock } from '../../../net/packet/pcapng.ts'
import { Random } from '../../differential/random.ts'
import { macBytes } from '../../packets/bytes.ts'
import { ethernet, ipv4, tcp } from '../../packets/frame.ts'
import { SEED } from '../../property.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'

/** A million before a release: POINTSMAN_CAPTURE_FRAMES. */
const FRAMES = Number(process.env.POINTSMAN_CAPTURE_FRAMES ?? 8000)
const DIRECTOR = '02:00:00:00:00:02'
const FRAME_MAX = 1 << 18

const hop: NextHop = {
  ...{ result: 'ok', ifindex: 2, mtu: 1500 },
  ...{ smac: macBytes(DIRECTOR), dmac: macBytes('02:00:00:00:00:99') },
}

async function writeSnapshot(path: string, lines: number): Promise<void> {
  const dataplane = new MemoryDataplane({ ...SMALL_SIZES, connections4: lines, services: 16_384 })
  const { director } = openDirector({ dataplane, host: testHost() })
  const web = service('tcp 192.0.2.10:80', { scheduler: 'rr' })
  director.addService(web)
  director.addServer(web.id, server('192.168.77.11:8080'))
  await director.settle()
  assert.ok(new ConnectionTable(dataplane, 4).levels.inUse >= lines / 2)
  putInterface(dataplane, { name: 'eth0', ifindex: 2, mac: macBytes(DIRECTOR), mtu: 1500 })
  const facts = { version: '1', wallMs: 0, interfaces: [{ ifindex: 2, name: 'eth0' }] }
  const pieces: Uint8Array[] = []
  for await (const piece of takeSnapshot(dataplane, { ...facts, hops: [['192.168.77.11', hop]] }))
    pieces.push(piece)
  writeFileSync(path, Buffer.concat(pieces))
}

function syn(i: number): Uint8Array {
  const src = `198.51.${100 + ((i >> 16) & 63)}.${(i >> 8) & 255}`
  return ethernet(
    { dst: DIRECTOR },
    ipv4({ src, dst: '192.0.2.10' }, tcp({ sport: 1024 + (i & 255), dport: 80 })),
  )
}

const words = (...numbers: readonly number[]): Uint8Array => new Uint8Array(new Uint32Array(numbers).buffer)

function pcapHead(magic = 0xa1b2c3d4): Uint8Array {
  return words(magic, 0x0004_0002, 0, 0, 65_535, 1)
}

function pcapFrame(frame: Uint8Array): Uint8Array {
  return Buffer.concat([words(0, 0, frame.length, frame.length), frame])
}

function pcapngFrame(frame: Uint8Array, at = 0): Uint8Array {
  const [timeNs, packet, comment] = [1n, 1n, 'one of them']
  return packetBlock({
    ...{ at, timeNs, direction: 'in', packet },
    bytes: frame,
    length: frame.length,
    comment,
  })
}

/** Enhanced packet blocks behind two interfaces, a simple one, and a block that nobody knows. */
const PCAPNG = Buffer.concat([
  ...[sectionBlock('test', 'all'), interfaceBlock('eth0', 256), interfaceBlock('eth1', 256)],
  ...[pcapngFrame(syn(1)), pcapngFrame(syn(2), 1), words(0xbad, 16, 1, 16)],
  ...[
    words(3, 76, 60),
    Buffer.from(syn(3)),
    new Uint8Array(60 - syn(3).length),
    words(76),
    pcapngFrame(syn(4)),
  ],
])
const PCAP = Buffer.concat([pcapHead(), ...[1, 2, 3, 4].map((i) => pcapFrame(syn(i)))])

const INTERESTING = [0, 1, 4, 11, 12, 28, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000, FRAME_MAX, FRAME_MAX + 1]

function damaged(whole: Uint8Array, random: Random): Uint8Array {
  const bytes = Uint8Array.from(whole)
  const view = new DataView(bytes.buffer)
  for (let i = 1 + random.below(4); i > 0; i--) {
    if (random.once(2)) bytes[random.below(bytes.length)] = random.below(256)
    else
      view.setUint32(
        4 * random.below(bytes.length >> 2),
        INTERESTING[random.below(INTERESTING.length)]!,
        true,
      )
  }
  return random.once(3) ? bytes.subarray(0, random.below(bytes.length)) : bytes
}

describe('a capture', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-captures-'))
  const path = join(folder, 'capture')
  const [large, small] = [join(folder, 'large.snapshot'), join(folder, 'small.snapshot')]
  before(async () => {
    await writeSnapshot(large, 1 << 20)
    await writeSnapshot(small, 1024)
  })
  after(() => rmSync(folder, { recursive: true }))

  function writeFrames(frames: number): void {
    const file = openSync(path, 'w')
    writeSync(file, pcapHead())
    for (let i = 0; i < frames; i += 500)
      writeSync(
        file,
        Buffer.concat(Array.from({ length: Math.min(500, frames - i) }, (_, k) => pcapFrame(syn(i + k)))),
      )
    closeSync(file)
  }

  async function told(snapshot: string, look: (row: number) => void = () => {}): Promise<string[]> {
    let rows = 0
    let last = ''
    await explain('/nonexistent', [], { json: false, snapshot, capture: path }, (text) => {
      last = text
      look(++rows)
    })
    return [String(rows), last]
  }

  test('of any length is told row by row, and none of it is kept', async () => {
    setFlagsFromString('--expose_gc')
    const collect = runInNewContext('gc') as () => void
    const heap = (): number => {
      collect()
      return process.memoryUsage().heapUsed
    }
    writeFrames(FRAMES)
    let early = 0
    const [rows] = await told(small, (row) => {
      if (row === FRAMES / 4) early = heap()
    })
    assert.equal(rows, String(FRAMES))
    const grown = heap() - early
    assert.ok(grown < 8e6, `${grown} bytes more after ${FRAMES} frames than after a quarter of them`)
  })

  test('costs a look-up a frame, not a walk over a table of a million lines', async () => {
    writeFrames(300)
    const cost = async (snapshot: string): Promise<number> => {
      let started = process.cpuUsage()
      await told(snapshot, (row) => {
        if (row === 1) started = process.cpuUsage()
      })
      return process.cpuUsage(started).user
    }
    await cost(small)
    const [few, many] = [await cost(small), await cost(large)]
    assert.ok(many < 20 * few + 500_000, `${many} µs of a million lines, ${few} µs of a thousand`)
  })

  test('that is damaged anywhere is read as far as it goes, and then says so', () => {
    const random = new Random(SEED)
    const look = (bytes: Uint8Array): string | number => {
      writeFileSync(path, bytes)
      let frames = 0
      try {
        for (const { bytes: frame, number } of readCapture(path)) {
          assert.equal(number, ++frames)
          assert.ok(frame.length <= FRAME_MAX + 14)
        }
      } catch (error) {
        if (!(error instanceof CaptureError)) throw error
        assert.ok(error.message.includes(path), error.message)
        return error.message
      }
      return frames
    }
    for (const whole of [PCAP, PCAPNG]) {
      assert.equal(look(whole), 4)
      const ends = new Set<number>()
      for (let length = 0; length < whole.length; length++) {
        const said = look(whole.subarray(0, length))
        if (typeof said === 'number') ends.add(said)
        else assert.match(said, /cut short|is empty/)
      }
      // Where a frame ends a file may.
      assert.deepEqual([...ends], [0, 1, 2, 3])
      let refused = 0
      for (let i = 0; i < 1500; i++) if (typeof look(damaged(whole, random)) === 'string') refused++
      assert.ok(refused > 100 && refused < 1500, String(refused))
    }
  })

  test('whose frames make no sense is explained all the same, or refused in words', async () => {
    const random = new Random(SEED + 1)
    let explained = 0
    for (let i = 0; i < 40; i++) {
      writeFileSync(path, damaged(i % 2 === 0 ? PCAP : PCAPNG, random))
      try {
        await told(small, () => explained++)
      } catch (error) {
        assert.ok(error instanceof ClientError, String(error))
      }
    }
    assert.ok(explained > 40, String(explained))
  })

  test('that lies about lengths is refused for what it says', () => {
    const read = (...parts: readonly Uint8Array[]): number => {
      writeFileSync(path, Buffer.concat(parts))
      return [...readCapture(path)].length
    }
    const section = sectionBlock('test', 'all')
    const end = (block: Uint8Array): Uint8Array =>
      Buffer.concat([block.subarray(0, -4), words(block.length + 4)])
    assert.throws(() => read(words(0x0a0d0d0a, 12, 0x1a2b3c4d)), /a block says that it has 12 bytes/)
    assert.throws(() => read(end(section)), /another length at its end/)
    assert.throws(() => read(section, words(1, 12, 12)), /an interface block is too short/)
    assert.throws(() => read(section, pcapngFrame(syn(1))), /came by an interface it does not name/)
    const long = new Uint8Array(FRAME_MAX + 4)
    assert.throws(
      () => read(section, interfaceBlock('a', 0), pcapngFrame(long)),
      /frame 1 says that it has 262148/,
    )
    const many = Array.from({ length: 65_537 }, () => words(1, 20, 1, 0, 20))
    assert.throws(() => read(section, ...many), /more than 65536 interfaces/)
    assert.equal(read(section, ...many.slice(1), pcapngFrame(syn(1))), 1)
    assert.throws(() => [...readCapture(folder)], /EISDIR/)
  })
})
