/** Judges what came out of a director against a recorded step, with the rules for volatile bytes. */
import { be16, concat, onesSum, pseudoSum, unhex } from './bytes.ts'
import { decode, diff } from './decode.ts'
import type { RunStep, Volatile, Wire, WireFrame } from './vectors.ts'

export interface Captured {
  readonly wire: Wire
  readonly frame: Uint8Array
}

/** Range that kernel IPVS takes GUE source ports from: the default `ip_local_port_range`. */
const PORT_FIRST = 32768
const PORT_LAST = 60999

/**
 * Remembers which generated value stood where a recorded one was: fragments of one packet share their id,
 * packets of one flow their GUE port. One per vector.
 */
export class Generated {
  readonly #ports = new Map<number, number>()
  #ids = new Map<string, number>()

  /** Ids are compared within one step only: the next packet has another one. */
  nextStep(): void {
    this.#ids = new Map()
  }

  port(recorded: number, got: number): string | null {
    if (got < PORT_FIRST || got > PORT_LAST)
      return `GUE source port ${got} is outside ${PORT_FIRST} to ${PORT_LAST}`
    const known = this.#ports.get(recorded)
    if (known !== undefined && known !== got)
      return `GUE source port is ${got}, earlier packets of this flow had ${known}`
    this.#ports.set(recorded, got)
    return null
  }

  id(kind: string, recorded: number, got: number): string | null {
    const key = `${kind} ${recorded}`
    const known = this.#ids.get(key)
    if (known !== undefined && known !== got) return `fragments of one packet have ids ${known} and ${got}`
    this.#ids.set(key, got)
    return null
  }
}

/**
 * Lines that tell the differences of one inject step, empty when all is well. The order of frames counts on
 * each wire, not between wires.
 *
 * @param volatile entries of this step; `frame` is an index in `expected`
 */
export function compareFrames(
  expected: readonly WireFrame[],
  got: readonly Captured[],
  volatile: readonly Volatile[],
  generated: Generated,
): string[] {
  generated.nextStep()
  const problems: string[] = []
  for (const wire of ['c', 'r'] as const) {
    const wanted = expected
      .map((frame, index) => ({ ...frame, index }))
      .filter((frame) => frame.wire === wire)
    const came = got.filter((frame) => frame.wire === wire)
    for (let i = 0; i < Math.max(wanted.length, came.length); i++) {
      const want = wanted[i]
      const have = came[i]
      if (want === undefined) {
        if (have !== undefined)
          problems.push(`on wire ${wire}: not expected`, ...decode(have.frame).map((line) => `  + ${line}`))
      } else if (have === undefined) {
        problems.push(`on wire ${wire}: missing`, ...decode(unhex(want.frame)).map((line) => `  - ${line}`))
      } else {
        const masks = volatile.filter((entry) => entry.frame === want.index)
        problems.push(...compareFrame(wire, unhex(want.frame), have.frame, masks, generated))
      }
    }
  }
  return problems
}

/** Shortest frame on an Ethernet, without its check sequence. */
const ETHERNET_MIN = 60

function compareFrame(
  wire: Wire,
  want: Uint8Array,
  frame: Uint8Array,
  masks: readonly Volatile[],
  generated: Generated,
): string[] {
  // Recorded before any NIC has padded it: on a wire both are as long.
  const padded = want.length < frame.length && frame.length <= ETHERNET_MIN
  const got = padded ? frame.subarray(0, want.length) : frame
  const left = Uint8Array.from(want)
  const right = Uint8Array.from(got)
  for (const {
    bytes: [from, to],
  } of masks) {
    left.fill(0, from, to)
    right.fill(0, from, to)
  }
  if (!sameBytes(left, right)) return [`on wire ${wire}: different`, ...diff(want, got)]
  const complaints = masks
    .map((mask) => judgeVolatile(mask, want, got, generated))
    .filter((text) => text !== null)
  return complaints.length === 0 ? [] : [`on wire ${wire}: ${complaints.join('; ')}`, ...diff(want, got)]
}

function judgeVolatile(
  mask: Volatile,
  want: Uint8Array,
  got: Uint8Array,
  generated: Generated,
): string | null {
  const [from] = mask.bytes
  const why = mask.why
  if (why.startsWith('IPv4 id')) return generated.id(why, be16(want, from), be16(got, from))
  if (why.startsWith('IPv6 fragment id')) {
    const number = (bytes: Uint8Array) => be16(bytes, from) * 0x10000 + be16(bytes, from + 2)
    return generated.id(why, number(want), number(got))
  }
  if (why.startsWith('IPv4 header checksum')) {
    const start = from - 10
    const header = got.subarray(start, start + ((got[start] ?? 0) & 15) * 4)
    return onesSum(header) === 0xffff ? null : 'IPv4 header checksum is wrong for the id sent'
  }
  if (why.startsWith('GUE source port')) return generated.port(be16(want, from), be16(got, from))
  if (why.startsWith('outer UDP checksum'))
    return outerUdpIsRight(got, from - 6) ? null : 'outer UDP checksum is wrong for the port sent'
  return `bytes ${mask.bytes.join(' to ')} are volatile for a reason this program does not know: ${why}`
}

/** Of a fragment only the whole datagram could be judged: it passes. */
function outerUdpIsRight(frame: Uint8Array, udpAt: number): boolean {
  const version = (frame[14] ?? 0) >> 4
  if (version === 4 && (be16(frame, 20) & 0x3fff) !== 0) return true
  const length = be16(frame, udpAt + 4)
  const addresses = version === 4 ? [26, 30, 4] : [22, 38, 16]
  const [source = 0, destination = 0, size = 0] = addresses
  const body = frame.subarray(udpAt, udpAt + length)
  const start = pseudoSum(
    frame.subarray(source, source + size),
    frame.subarray(destination, destination + size),
    17,
    length,
  )
  return onesSum(concat(body), start) === 0xffff
}

function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, i) => byte === right[i])
}

export interface CommandResult {
  readonly stdout: string
  readonly stderr: string
  readonly rc: number
}

/** Lines that tell the differences of one run step, empty when all is well. */
export function compareRun(step: RunStep, got: CommandResult): string[] {
  const problems: string[] = []
  const wantRc = step.rc ?? 0
  const wantStderr = step.stderr ?? ''
  if (got.rc !== wantRc) problems.push(`exit status ${got.rc}, expected ${wantRc}`)
  if (got.stderr !== wantStderr)
    problems.push(`stderr ${JSON.stringify(got.stderr)}, expected ${JSON.stringify(wantStderr)}`)
  if (step.stdout_lines === undefined) {
    if (got.stdout !== step.expect_stdout)
      problems.push(...textDiff(step.expect_stdout.split('\n'), got.stdout.split('\n')))
    return problems
  }
  const lines = got.stdout.replace(/\n$/, '').split('\n')
  const patterns = step.stdout_lines.map((text) => new RegExp(`^(?:${text})$`))
  const good =
    step.unordered === true
      ? matchUnordered(patterns, lines)
      : patterns.length === lines.length && patterns.every((pattern, i) => pattern.test(lines[i] ?? ''))
  if (!good) problems.push(...textDiff(step.expect_stdout.replace(/\n$/, '').split('\n'), lines))
  return problems
}

/** Every pattern takes one line that no other pattern took; found by augmenting paths. */
function matchUnordered(patterns: readonly RegExp[], lines: readonly string[]): boolean {
  if (patterns.length !== lines.length) return false
  const owner = new Map<number, number>()
  const assign = (pattern: number, tried: Set<number>): boolean =>
    lines.some((line, at) => {
      if (tried.has(at) || !patterns[pattern]?.test(line)) return false
      tried.add(at)
      const previous = owner.get(at)
      if (previous !== undefined && !assign(previous, tried)) return false
      owner.set(at, pattern)
      return true
    })
  return patterns.every((_, pattern) => assign(pattern, new Set()))
}

function textDiff(want: readonly string[], got: readonly string[]): string[] {
  return Array.from({ length: Math.max(want.length, got.length) }, (_, i) => {
    const left = want[i]
    const right = got[i]
    if (left === right) return [`    ${left}`]
    return [...(left === undefined ? [] : [`  - ${left}`]), ...(right === undefined ? [] : [`  + ${right}`])]
  }).flat()
}
