/** The calls that persistence templates of the engine `sip` are for, as the packet program writes them down (bpf/sip.h). */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import {
  CallIdRecord,
  PM_CALL_ID_IPV6,
  PM_CONN_GENERATIONS,
  PM_WAYS,
} from '../../dataplane/layout/layout.gen.ts'
import type { Family } from '../../net/address.ts'

const { offsets } = CallIdRecord
const VERSION = offsets.version / 4
const LINE = offsets.line / 4
const WORD = offsets.word / 4

export class CallIds {
  readonly #u32: Uint32Array
  readonly #bytes: Uint8Array
  readonly #stride: number
  readonly #sets: number
  readonly #family: number

  constructor(dataplane: Dataplane, family: Family) {
    const map = dataplane.map('call_ids')
    this.#u32 = map.u32
    this.#bytes = map.bytes
    this.#stride = map.entrySize
    this.#sets = map.entries / PM_WAYS
    this.#family = family === 6 ? PM_CALL_ID_IPV6 : 0
  }

  /** The Call-ID of the template that stands in this line with this word; null: its record was needed for another. */
  of(line: number, word: number): string | null {
    const named = (line | this.#family) >>> 0
    for (let way = 0; way < PM_WAYS; way++) {
      const base = ((line % this.#sets) * PM_WAYS + way) * this.#stride
      const at = base / 4
      const version = Atomics.load(this.#u32, at + VERSION)
      const isOf =
        this.#u32[at + LINE] === named && ((this.#u32[at + WORD]! ^ word) & PM_CONN_GENERATIONS) === 0
      if (!isOf || version === 0 || version % 2 === 1) continue
      const from = base + offsets.id
      const length = this.#u32[at + offsets.length / 4]!
      const text = String.fromCharCode(...this.#bytes.subarray(from, from + length))
      if (Atomics.load(this.#u32, at + VERSION) === version) return text
    }
    return null
  }
}
