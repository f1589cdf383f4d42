/** `floors.bpf.c`: programs that no forwarder of its kind can be faster than, to be run beside ours. */
import { BpfObject, updateMap } from './bpf.ts'
import type { Family } from './traffic.ts'

export const FLOORS = ['parse', 'hash', 'stateless', 'line'] as const
export type FloorName = (typeof FLOORS)[number]

export const FLOOR_LABEL: Readonly<Record<FloorName, string>> = {
  parse: 'parse only',
  hash: 'hash only',
  stateless: 'stateless table',
  line: 'one-line floor',
}

/** Lines that the table of the one-line floor has: more flows than this share lines. */
const LINES = 1_048_576

export class Floors {
  readonly #object = new BpfObject('floors.bpf.o')
  readonly #use = this.#object.map('.bss')

  /** The one-line floor's table is made to measure for this many flows, a power of two. */
  fit(flows: number): void {
    if (flows > LINES || !Number.isInteger(Math.log2(flows))) {
      throw new RangeError(
        `The one-line floor cannot take ${flows} flows, only a power of two up to ${LINES}`,
      )
    }
    updateMap(this.#use, 0, new Uint8Array(Uint32Array.of(flows - 1).buffer))
  }

  program(name: FloorName, family: Family): number {
    return this.#object.program(`floor_${name}${family}`)
  }

  close(): void {
    this.#object.close()
  }
}
