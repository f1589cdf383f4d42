/** The packet program in wasm, from its file, with this machine's clock and memory. */
import { readFileSync } from 'node:fs'
import { libc } from '../../linux/libc.ts'
import { monotonicTicks } from '../clock.ts'
import { DataplaneError } from '../dataplane.ts'
import { WasmDataplane, type WasmOptions } from '../wasm/program.ts'

/** Of wasm memory. */
const PAGE = 65_536
const MADV_HUGEPAGE = 14

export interface WasmFileOptions extends Omit<WasmOptions, 'module' | 'now' | 'placed'> {
  /** File of the compiled program. */
  readonly wasmPath: string
  /** Clock in ticks; CLOCK_MONOTONIC if left out. */
  readonly now?: () => number
}

/** Compiles the program; the module may be posted to worker threads. */
export function loadModule(path: string): WebAssembly.Module {
  try {
    return new WebAssembly.Module(new Uint8Array(readFileSync(path)))
  } catch (cause) {
    throw new DataplaneError(`Cannot load the packet program ${path}: build it with npm run build`, { cause })
  }
}

export function openWasm({ wasmPath, ...options }: WasmFileOptions): WasmDataplane {
  const module = loadModule(wasmPath)
  return new WasmDataplane({ now: monotonicTicks, placed: useHugePages, ...options, module })
}

/**
 * Asks for huge pages from `from` to the end: random flows miss the TLB at every line of a large table
 * otherwise. Advice only; without them everything works the same.
 */
function useHugePages(memory: WebAssembly.Memory, from: number): void {
  const bytes = new Uint8Array(memory.buffer)
  const start = Math.ceil(from / PAGE) * PAGE
  if (bytes.length > start) libc.madvise(bytes.subarray(start), bytes.length - start, MADV_HUGEPAGE)
}
