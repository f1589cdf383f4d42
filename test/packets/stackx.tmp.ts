/**
 * How much stack the deepest chain of calls in a BPF object takes, as the verifier counts it: it refuses
 * more than 512 bytes. Linux 6.1 rounds the frame of every function up to 32 bytes, later ones to 16, so
 * what loads on the newest kernel may not load on the oldest.
 */
import { type Elf, parseElf } from '../../dataplane/layout/elf.ts'

const INSTRUCTION = 8
/** One more stands behind it with the upper half of the number. */
const LOAD_IMMEDIATE_64 = 0x18
const CALL = 0x85
const PSEUDO_CALL = 1
const MOVE_REGISTER = 0xbf
const ADD_IMMEDIATE = 0x07
const FRAME_POINTER = 10
const CLASS = 7
const LDX = 1
const ST = 2
const STX = 3
const RELOCATION = 16
/** <linux/bpf_verifier.h> */
export const STACK_MAX = 512
const ROUND_TO = 32

interface Code {
  readonly name: string
  /** Bytes below the frame pointer that it touches. */
  frame: number
  readonly calls: Set<string>
}

/** Largest sum of frames over all chains of calls, and the functions of that chain, outermost first. */
export function deepestChain(object: Uint8Array): {
  readonly bytes: number
  readonly chain: readonly string[]
} {
  const functions = readFunctions(parseElf(object))
  let deepest: { bytes: number; chain: readonly string[] } = { bytes: 0, chain: [] }
  const walk = (code: Code, before: number, path: readonly string[]): void => {
    const bytes = before + Math.ceil(Math.max(code.frame, 1) / ROUND_TO) * ROUND_TO
    const chain = [...path, code.name]
    if (bytes > deepest.bytes) deepest = { bytes, chain }
    for (const name of code.calls) {
      const called = functions.get(name)
      if (called !== undefined && !chain.includes(name)) walk(called, bytes, chain)
    }
  }
  for (const code of functions.values()) walk(code, 0, [])
  return deepest
}

export function readFunctions(elf: Elf): Map<string, Code> {
  const functions = new Map<string, Code>()
  for (const section of elf.sections) {
    const inside = elf.symbols
      .filter((symbol) => symbol.section === section.name && symbol.size > 0 && symbol.name !== '')
      .sort((a, b) => a.offset - b.offset)
    const relocations = elf.sections.find(({ name }) => name === `.rel${section.name}`)
    if (inside.length === 0 || relocations === undefined || section.name.startsWith('.BTF')) continue
    const targets = readRelocations(relocations.bytes)
    const at = (where: string, offset: number): string | undefined =>
      elf.symbols.find((symbol) => symbol.section === where && symbol.offset === offset && symbol.size > 0)
        ?.name
    for (const symbol of inside) {
      const code: Code = { name: symbol.name, frame: 0, calls: new Set() }
      functions.set(symbol.name, code)
      readFunction(section.bytes, symbol.offset, symbol.size, code, (offset, immediate, relative) => {
        const target = targets.get(offset)
        if (target === undefined) return relative === null ? undefined : at(section.name, relative)
        const to = elf.symbols[target]
        if (to === undefined) return undefined
        const extra = relative === null ? immediate : (immediate + 1) * INSTRUCTION
        return at(to.section, to.offset + extra)
      })
    }
  }
  return functions
}

/** Index of the symbol by the offset of the instruction that refers to it. */
function readRelocations(bytes: Uint8Array): Map<number, number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const targets = new Map<number, number>()
  for (let at = 0; at + RELOCATION <= bytes.length; at += RELOCATION)
    targets.set(Number(view.getBigUint64(at, true)), view.getUint32(at + 12, true))
  return targets
}

/** `called` gives the function that an instruction refers to; `relative` is null for a function's address. */
function readFunction(
  bytes: Uint8Array,
  start: number,
  size: number,
  code: Code,
  called: (offset: number, immediate: number, relative: number | null) => string | undefined,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  /** Registers that hold the frame pointer, until something is added to them. */
  const copies = new Set<number>()
  const touch = (offset: number): void => {
    if (offset < 0) code.frame = Math.max(code.frame, -offset)
  }
  for (let at = start; at < start + size; at += INSTRUCTION) {
    const opcode = view.getUint8(at)
    const registers = view.getUint8(at + 1)
    const [to, from] = [registers & 15, registers >> 4]
    const offset = view.getInt16(at + 2, true)
    const immediate = view.getInt32(at + 4, true)
    const kind = opcode & CLASS
    if (opcode === LOAD_IMMEDIATE_64) {
      const name = called(at, immediate, null)
      if (name !== undefined) code.calls.add(name)
      at += INSTRUCTION
    } else if (kind === LDX && from === FRAME_POINTER) touch(offset)
    else if ((kind === ST || kind === STX) && to === FRAME_POINTER) touch(offset)
    else if (opcode === MOVE_REGISTER && from === FRAME_POINTER) copies.add(to)
    else if (opcode === ADD_IMMEDIATE && copies.delete(to)) touch(immediate)
    else if (opcode === CALL && from === PSEUDO_CALL) {
      const name = called(at, immediate, at + (1 + immediate) * INSTRUCTION)
      if (name !== undefined) code.calls.add(name)
    }
  }
}
