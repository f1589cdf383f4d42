/** First inputs for the fuzzer: the frames of recorded vectors under a few sets of rules (format: fuzz.c). */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { concat, unhex } from '../packets/bytes.ts'
import { isInject, loadVectors, type Vector } from '../packets/vectors.ts'

const RECORDINGS = fileURLToPath(new URL('../recordings/packets', import.meta.url))

const LENGTH_MAX = 0x07ff
const STEP_WIRE_R = 0x0800
const STEP_CUT = 0x1000

/** Settings, modes, schedulers, four real servers, limits: see `struct rules`. */
const METHOD = { nat: 0x04, tunnel: 0x06, directRouting: 0x07 } as const

function rulesFor(vector: Vector): Uint8Array {
  const words = vector.setup.flatMap((step) => ('sysctl' in step ? [step.sysctl] : step))
  const method = words.includes('-m')
    ? METHOD.nat
    : words.includes('-i')
      ? METHOD.tunnel
      : METHOD.directRouting
  const scheduler =
    { rr: 1, wrr: 2, lc: 3, wlc: 4, dh: 7, sh: 8, sed: 9, nq: 10, fo: 11, ovf: 12 }[
      words[words.indexOf('-s') + 1] ?? 'rr'
    ] ?? 1
  return Uint8Array.of(
    0x02,
    0x01,
    scheduler | (scheduler << 4),
    method,
    method | 0x08,
    method | 0x20,
    method,
    0,
  )
}

/** Most frames of a vector that go into one input: long sequences teach nothing that short ones do not. */
const FRAMES_MAX = 12
const AREAS = [
  'forward',
  'udp',
  'ttl-tos',
  'malformed',
  'new-connection',
  'icmp',
  'icmpv6',
  'fragment',
  'mtu',
  'reuse',
  'tcp-state',
  'local',
  'offload',
  'lifecycle',
]
/** Vectors of one area that become inputs. */
const PER_AREA = 12

/** Writes the inputs; returns how many. */
export function writeCorpus(folder: string): number {
  mkdirSync(folder, { recursive: true })
  const vectors = loadVectors([RECORDINGS])
  const chosen = AREAS.flatMap((area) => vectors.filter((vector) => vector.area === area).slice(0, PER_AREA))
  for (const vector of chosen) {
    const steps = vector.steps.filter(isInject).slice(0, FRAMES_MAX)
    const frames = steps.map(({ inject }, index) => {
      const frame = unhex(inject.frame).subarray(0, LENGTH_MAX)
      const head = frame.length | (inject.wire === 'r' ? STEP_WIRE_R : 0) | (index % 5 === 4 ? STEP_CUT : 0)
      return concat(Uint8Array.of(head & 255, head >> 8), frame)
    })
    const input = concat(rulesFor(vector), ...frames)
    const name = createHash('sha1').update(input).digest('hex').slice(0, 12)
    writeFileSync(join(folder, `${vector.area}-${name}`), input)
  }
  return chosen.length
}
