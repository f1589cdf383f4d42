/**
 * Looks for a difference between the two objects: random rules, random traffic, state carried over a
 * sequence of frames; then the next rules. What is found is made small and written to a capture file.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { writeCapture } from '../packets/capture.ts'
import type { Wire } from '../packets/vectors.ts'
import { Random } from './random.ts'
import { disturbRules, writeRules } from './rules.ts'
import { shrink } from './shrink.ts'
import { type Target, Traffic } from './traffic.ts'
import type { Twin } from './twin.ts'

/** Frames under one set of rules. */
const SEQUENCE = 2000
/**
 * Bytes of a frame that the wasm side shows at first, when not all of it is in reach. Every host shows Ethernet with
 * its tags, and IP without options and extensions.
 */
const SHOWN = [128, 128, 62, 70, 96, 256, 1000]
/** Frames between two looks at the whole maps. */
const LOOK = 250

/** What the hunt needs of a twin. */
export type Pair = Pick<
  Twin,
  'wasm' | 'kernel' | 'reset' | 'copyToKernel' | 'stopTimeouts' | 'age' | 'step' | 'compareMaps'
>

type Step =
  | { readonly kind: 'frame'; readonly bytes: Uint8Array; readonly wire: Wire; readonly shown: number }
  | { readonly kind: 'age'; readonly every: number }
  | { readonly kind: 'disturb'; readonly seed: number }

export interface Finding {
  readonly seed: number
  /** The difference, decoded. */
  readonly lines: readonly string[]
  /** Steps that are left after shrinking. */
  readonly steps: number
  readonly capture: string
}

export interface Hunt {
  readonly packets: number
  readonly seed: number
  /** Where capture files go. */
  readonly folder: string
  readonly progress?: (packets: number) => void
  /** Hears of a difference before it is made small, which takes a while. */
  readonly told?: (seed: number, lines: readonly string[]) => void
}

/** A difference, and after how many frames of its seed it was seen. */
interface Sight {
  readonly lines: readonly string[]
  readonly frames: number
}

/** Null when so many packets went through both without a difference. */
export function hunt(twin: Pair, options: Hunt): Finding | null {
  const seeds = new Random(options.seed)
  let packets = 0
  while (packets < options.packets) {
    const seed = seeds.word()
    const length = Math.min(SEQUENCE, options.packets - packets)
    const found = playSeed(twin, seed, length)
    if (found !== null) {
      options.told?.(seed, found.lines)
      return report(twin, seed, length, options.folder, found)
    }
    packets += length
    options.progress?.(packets)
  }
  return null
}

function begin(twin: Pair, seed: number): readonly Target[] {
  const random = new Random(seed)
  twin.reset(random.word())
  const targets = writeRules(twin.wasm, random)
  twin.copyToKernel()
  twin.stopTimeouts()
  return targets
}

/** The steps of a seed, one after the other; frames are in the traffic's buffer until the next call. */
function* stepsOf(seed: number, length: number, targets: readonly Target[]): Generator<Step> {
  const random = new Random(seed ^ 0x5bd1e995)
  const traffic = new Traffic(random, targets)
  const frame = { kind: 'frame' as const, bytes: traffic.frame, wire: 'c' as Wire, shown: 0 }
  for (let i = 0; i < length; i++) {
    if (random.once(150)) yield { kind: 'age', every: 1 + random.below(3) }
    if (random.once(100)) yield { kind: 'disturb', seed: random.word() }
    traffic.next()
    frame.bytes = traffic.frame.subarray(0, traffic.length)
    frame.wire = traffic.wire
    frame.shown = random.once(3) ? random.pick(SHOWN) : traffic.length
    yield frame
  }
}

function apply(twin: Pair, step: Step): string[] | null {
  switch (step.kind) {
    case 'frame':
      return twin.step(step.bytes, step.bytes.length, step.wire, step.shown)
    case 'age':
      twin.age(step.every)
      return null
    case 'disturb':
      // The same change on both sides: each starts from equal maps.
      disturbRules(twin.wasm, new Random(step.seed))
      disturbRules(twin.kernel, new Random(step.seed))
      return null
  }
}

function playSeed(twin: Pair, seed: number, length: number): Sight | null {
  const targets = begin(twin, seed)
  let frames = 0
  for (const step of stepsOf(seed, length, targets)) {
    if (step.kind === 'frame') frames++
    const lines = apply(twin, step) ?? (frames % LOOK === 0 ? twin.compareMaps() : null)
    if (lines !== null) return { lines, frames }
  }
  const lines = twin.compareMaps()
  return lines === null ? null : { lines, frames }
}

/** Plays steps; looks at the whole maps after each, or at the end only. */
function playSteps(twin: Pair, seed: number, steps: readonly Step[], look: 'each' | 'end'): string[] | null {
  begin(twin, seed)
  for (const step of steps) {
    const found = apply(twin, step) ?? (look === 'each' ? twin.compareMaps() : null)
    if (found !== null) return found
  }
  return twin.compareMaps()
}

/** All steps until so many frames have been played. */
function stepsUntil(twin: Pair, seed: number, length: number, frames: number): Step[] {
  const steps: Step[] = []
  let left = frames
  for (const step of stepsOf(seed, length, begin(twin, seed))) {
    steps.push(step.kind === 'frame' ? { ...step, bytes: step.bytes.slice() } : step)
    if (step.kind === 'frame' && --left === 0) break
  }
  return steps
}

function report(twin: Pair, seed: number, length: number, folder: string, first: Sight): Finding {
  const all = stepsUntil(twin, seed, length, first.frames)
  const small = shrink(all, (candidate) => playSteps(twin, seed, candidate, 'end') !== null)
  const lines = playSteps(twin, seed, small, 'each') ?? [
    ...first.lines,
    'It did not come again with the same frames: it depends on the time.',
  ]
  mkdirSync(folder, { recursive: true })
  const capture = join(folder, `difference-${seed}.pcap`)
  writeCapture(
    capture,
    small.flatMap((step) => (step.kind === 'frame' ? [step.bytes] : [])),
  )
  return { seed, lines, steps: small.length, capture }
}
