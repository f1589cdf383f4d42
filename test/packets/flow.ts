/**
 * Ways back in a BPF object that Linux 6.1 refuses ("back-edge from insn"): its verifier walks the flow of
 * control depth first, and takes a way back to where it has been only by a jump, not by going on to the next
 * instruction. Later kernels take both. Which of them a loop gets is the compiler's choice.
 */
import { parseElf } from '../../dataplane/layout/elf.ts'

const INSTRUCTION = 8
const CLASS = 7
const JMP = 5
const JMP32 = 6
const JUMP_ALWAYS = 0x05
const CALL = 0x85
const EXIT = 0x95
const LOAD_IMMEDIATE_64 = 0x18

/** `function+instruction` of each. */
export function waysBack(object: Uint8Array): string[] {
  const elf = parseElf(object)
  const found: string[] = []
  for (const section of elf.sections) {
    if (!elf.sections.some(({ name }) => name === `.rel${section.name}`)) continue
    if (section.name.startsWith('.BTF')) continue
    const view = new DataView(section.bytes.buffer, section.bytes.byteOffset, section.bytes.byteLength)
    for (const symbol of elf.symbols) {
      if (symbol.section !== section.name || symbol.size === 0) continue
      for (const at of waysBackOf(view, symbol.offset, symbol.size / INSTRUCTION))
        found.push(`${symbol.name}+${at}`)
    }
  }
  return found
}

interface Edge {
  readonly to: number
  readonly isJump: boolean
}

function edgesOf(view: DataView, start: number, at: number): Edge[] {
  const opcode = view.getUint8(start + at * INSTRUCTION)
  const target = at + 1 + view.getInt16(start + at * INSTRUCTION + 2, true)
  if (opcode === EXIT) return []
  if (opcode === LOAD_IMMEDIATE_64) return [{ to: at + 2, isJump: false }]
  const isJump = ((opcode & CLASS) === JMP || (opcode & CLASS) === JMP32) && opcode !== CALL
  if (!isJump) return [{ to: at + 1, isJump: false }]
  if (opcode === JUMP_ALWAYS) return [{ to: target, isJump: true }]
  return [
    { to: at + 1, isJump: true },
    { to: target, isJump: true },
  ]
}

/** In the order of `check_cfg` of kernel/bpf/verifier.c. */
function waysBackOf(view: DataView, start: number, length: number): number[] {
  const found: number[] = []
  const state = new Uint8Array(length + 2)
  const [under, done] = [1, 2]
  const path: { at: number; edges: Edge[] }[] = [{ at: 0, edges: edgesOf(view, start, 0) }]
  state[0] = under
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    const edge = top.edges.shift()
    if (edge === undefined) {
      state[top.at] = done
      path.pop()
    } else if (state[edge.to] === under) {
      if (!edge.isJump) found.push(top.at)
    } else if (state[edge.to] === 0 && edge.to < length) {
      state[edge.to] = under
      path.push({ at: edge.to, edges: edgesOf(view, start, edge.to) })
    }
  }
  return found
}
