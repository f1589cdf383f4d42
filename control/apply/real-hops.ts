/**
 * Next hops of real servers as this host knows them, written to the map `hops`: what the packet program uses
 * where the kernel's FIB refuses to answer because forwarding is off (bpf/next-hop.h).
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { HopRecord, RealRecord } from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import type { LedgerView } from '../plan/ledger.ts'
import type { HopSource, HostHop } from '../rules/host.ts'
import type { Rules } from '../rules/rules.ts'

const WORDS = HopRecord.size / 4
const VERSION = HopRecord.offsets.version / 4
const REAL_ADDRESS = RealRecord.offsets.addr

export class RealHops {
  readonly #dataplane: Dataplane
  readonly #rules: Rules
  readonly #ledger: Pick<LedgerView, 'serviceOfKey'>
  readonly #source: HopSource
  #seen = Number.NaN
  #rulesChanged = true

  constructor(
    dataplane: Dataplane,
    rules: Rules,
    ledger: Pick<LedgerView, 'serviceOfKey'>,
    source: HopSource,
  ) {
    this.#dataplane = dataplane
    this.#rules = rules
    this.#ledger = ledger
    this.#source = source
  }

  /** Real servers have come, gone, or taken another address. */
  rulesChanged(): void {
    this.#rulesChanged = true
  }

  /**
   * Writes what is not what it was; costs nothing while nothing has changed. True: packets may have kept
   * something that is no longer so.
   */
  renew(): boolean {
    const generation = this.#source.generation()
    if (generation === this.#seen && !this.#rulesChanged) return false
    this.#seen = generation
    this.#rulesChanged = false
    const hops = new Map<IpAddress, HostHop | null>()
    let moved = false
    for (const service of this.#rules.entries()) {
      const holding = this.#ledger.serviceOfKey(service.key)
      if (holding === undefined) continue
      for (const { key, value } of service.servers) {
        const real = holding.reals.get(key)
        if (real === undefined) continue
        const { address } = value.id
        let hop = hops.get(address)
        if (hop === undefined) {
          hop = this.#source.to(address)
          hops.set(address, hop)
        }
        if (this.#write(real, hop)) moved = true
      }
    }
    return moved
  }

  /** A reader that comes in between sees that by the version, and does without. True: it was another hop. */
  #write(real: number, hop: HostHop | null): boolean {
    const image = new Uint32Array(WORDS)
    const none = new Uint8Array(6)
    const { bytes } = this.#dataplane.map('reals')
    const at = real * RealRecord.size + REAL_ADDRESS
    HopRecord.write(new DataView(image.buffer), 0, {
      version: 0,
      ifindex: hop?.ifindex ?? 0,
      dmac: hop?.dmac ?? none,
      smac: hop?.smac ?? none,
      mtu: hop?.mtu ?? 0,
      addr: bytes.slice(at, at + 16),
    })
    const { u32 } = this.#dataplane.map('hops')
    const base = real * WORDS
    const version = u32[base + VERSION]!
    const isSame = image.every((word, i) => i === VERSION || u32[base + i] === word)
    if (isSame && (version & 1) === 0) return false
    const hadOne = u32[base + HopRecord.offsets.ifindex / 4] !== 0
    Atomics.store(u32, base + VERSION, version | 1)
    for (const [i, word] of image.entries()) if (i !== VERSION) Atomics.store(u32, base + i, word)
    Atomics.store(u32, base + VERSION, ((version | 1) + 1) >>> 0)
    return hadOne
  }
}
