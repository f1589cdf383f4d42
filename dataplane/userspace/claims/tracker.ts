/**
 * What this plane takes out of the kernel's hands: packets to virtual services, packets from NAT and full NAT real
 * servers, packets that marking rules lead to a service, fragments of all these, ICMP errors that quote a packet of any,
 * and answers to health checks. The same list becomes the
 * nftables sets (the kernel drops what matches) and the filter of the workers (what matches and is passed has
 * to be handed to the kernel again), so both always agree.
 *
 * A list may say more than the rules: whatever the program passes reaches the stack all the same.
 */

import type { Family, IpAddress } from '../../../net/address.ts'
import { readAddress } from '../../../net/address.ts'
import { type Protocol, protocolOfNumber } from '../../../net/protocol.ts'
import type { Dataplane, MapMemory } from '../../dataplane.ts'
import { LiveRecord, Method, RealRecord, ServiceRecord, Slot } from '../../layout/layout.gen.ts'
import { MarkedReader } from './marked.ts'
import { claimsOf, type SpanBox, type SpanClaim, spanKey } from './spans.ts'

/**
 * Packets of a protocol with ports. `to`: by their destination; `from`: by their source. With them go ICMP errors,
 * whoever they are from and for: routers on the way send them too, and only the packet they quote tells
 * what they are about. It went the other way: its source is the virtual service, or its destination the
 * real server. All other errors stay the kernel's, whatever becomes of us.
 */
export interface EndClaim {
  readonly side: 'to' | 'from'
  readonly family: Family
  readonly protocol: Protocol
  readonly address: IpAddress
  /** 0: all of them. */
  readonly port: number
  /**
   * Fragments but for the first have no ports, and all of a datagram must go the same way: those of an address
   * are claimed as a whole, with port 0.
   */
  readonly of: 'packets' | 'fragments'
}

export type Claim = EndClaim | SpanClaim

/** Errors that quote a packet: RFC 792 and RFC 4443 §2.1. */
export const ERROR_TYPES = { 4: [3, 4, 11, 12], 6: [1, 2, 3, 4] } as const

export interface ClaimChange {
  readonly added: readonly Claim[]
  readonly removed: readonly Claim[]
}

/** Methods whose answers come by us. */
const ANSWERED_HERE: ReadonlySet<number> = new Set([Method.Nat, Method.FullNat])
/** A service by firewall mark may be for all of them. */
const ANY_PROTOCOL: readonly Protocol[] = ['tcp', 'udp', 'sctp']
/** Passive FTP connections go to ports that no rule names. */
const FTP_PORT = 21

/** Boxes that no rule has any more, while connections may go on by them. */
const LINGERING_BOXES_MAX = 4096

export function claimKey(claim: Claim): string {
  if (claim.of === 'spans') return `to ${spanKey(claim)}`
  return `${claim.side} ${claim.protocol} ${claim.address} ${claim.of === 'fragments' ? claim.of : claim.port}`
}

/** Follows `services`, `reals` and marking rules; looks only at what differs from the last time. */
export class ClaimTracker {
  readonly #services: MapMemory
  readonly #reals: MapMemory
  readonly #seenServices: Uint32Array
  readonly #seenReals: Uint32Array
  readonly #live: MapMemory
  readonly #marking: MarkedReader
  /** Marks of services, by slot. */
  readonly #marks = { 4: new Map<number, number>(), 6: new Map<number, number>() }
  /** Real servers of services with a mark, until they are forgotten. */
  readonly #markedReals = new Set<number>()
  #boxes: readonly SpanBox[] = []
  #lingeringBoxes: readonly SpanBox[] = []
  #answers: readonly SpanBox[] = []
  /** `#answers` are others than when claims were made of them. */
  #answersAreNew = false
  #spans: readonly SpanClaim[] = []
  /** The claims a slot stands for. */
  readonly #ofService = new Map<number, readonly Claim[]>()
  readonly #ofReal = new Map<number, readonly Claim[]>()
  /** Removed services whose connections may still be alive, with their claims. */
  readonly #lingering = new Set<{ readonly service: number; readonly claims: readonly Claim[] }>()
  /** Real servers that are gone but not forgotten, by service. */
  readonly #gone = new Map<number, number>()
  /** The service of every real server that is gone. */
  readonly #goneOf = new Map<number, number>()
  readonly #counts = new Map<string, { readonly claim: Claim; count: number }>()
  readonly #touched = new Map<string, { readonly claim: Claim; readonly before: boolean }>()

  constructor(dataplane: Pick<Dataplane, 'map'>) {
    this.#services = dataplane.map('services')
    this.#reals = dataplane.map('reals')
    this.#seenServices = new Uint32Array(this.#services.u32.length)
    this.#seenReals = new Uint32Array(this.#reals.u32.length)
    this.#live = dataplane.map('live')
    this.#marking = new MarkedReader(dataplane)
  }

  /** Whether claims wait for the last connections of a removed service or marking rule. */
  get lingers(): boolean {
    return this.#lingering.size + this.#lingeringBoxes.length > 0
  }

  all(): readonly Claim[] {
    return [...this.#counts.values()].map((entry) => entry.claim)
  }

  /** Where answers to health checks arrive, which no service tells of. */
  expectAnswers(boxes: readonly SpanBox[]): void {
    if (boxes.map(spanKey).join() === this.#answers.map(spanKey).join()) return
    this.#answers = boxes
    this.#answersAreNew = true
  }

  /** Reads the maps again; what must be claimed in addition, and what no longer. */
  update(): ClaimChange {
    this.#touched.clear()
    this.#eachChange(this.#services, this.#seenServices, (slot) => this.#service(slot))
    this.#eachChange(this.#reals, this.#seenReals, (slot) => this.#real(slot))
    for (const entry of this.#lingering) {
      if ((this.#gone.get(entry.service) ?? 0) > 0) continue
      this.#lingering.delete(entry)
      this.#release(entry.claims)
    }
    this.#followSpans()
    const added: Claim[] = []
    const removed: Claim[] = []
    for (const [key, { claim, before }] of this.#touched) {
      const now = this.#counts.has(key)
      if (now && !before) added.push(claim)
      if (!now && before) removed.push(claim)
    }
    return { added, removed }
  }

  /** By which rule a connection came nobody knows: it may be any that was there while one of a mark lives. */
  #followSpans(): void {
    const boxes = this.#marking.read({
      4: new Set(this.#marks[4].values()),
      6: new Set(this.#marks[6].values()),
    })
    const lingeringBefore = this.#lingeringBoxes
    const before = [...this.#boxes, ...lingeringBefore]
    if (boxes === this.#boxes && lingeringBefore.length === 0 && !this.#answersAreNew) return
    if (boxes !== this.#boxes) {
      const present = new Set(boxes.map(spanKey))
      const gone = new Map(before.map((box) => [spanKey(box), box]))
      for (const key of present) gone.delete(key)
      this.#lingeringBoxes = [...gone.values()].slice(0, LINGERING_BOXES_MAX)
    }
    if (this.#lingeringBoxes.length > 0 && !this.#marksAreBusy()) this.#lingeringBoxes = []
    if (boxes === this.#boxes && this.#lingeringBoxes === lingeringBefore && !this.#answersAreNew) return
    this.#boxes = boxes
    this.#answersAreNew = false
    const claims = claimsOf([...boxes, ...this.#lingeringBoxes, ...this.#answers])
    this.#hold(claims)
    this.#release(this.#spans)
    this.#spans = claims
  }

  #marksAreBusy(): boolean {
    const { active, inactive } = LiveRecord.offsets
    return [...this.#markedReals].some((slot) => {
      const at = (slot * this.#live.entrySize) / 4
      return this.#live.u32[at + active / 4]! + this.#live.u32[at + inactive / 4]! > 0
    })
  }

  #eachChange(map: MapMemory, seen: Uint32Array, action: (slot: number) => void): void {
    const words = map.entrySize / 4
    const { u32 } = map
    for (let slot = 0; slot < map.entries; slot++) {
      const base = slot * words
      let differs = false
      for (let i = base; i < base + words; i++) {
        if (seen[i] !== u32[i]) {
          seen[i] = u32[i]!
          differs = true
        }
      }
      if (differs) action(slot)
    }
  }

  #service(slot: number): void {
    const had = this.#ofService.get(slot)
    const record = ServiceRecord.read(this.#services.view, slot * this.#services.entrySize)
    const protocol = protocolOfNumber(record.protocol)
    const live = record.slot === Slot.Live && record.fwmark === 0 && protocol !== null
    const family = record.family === 4 ? 4 : 6
    const address = readAddress(record.addr, 0, family)
    const port = record.port === FTP_PORT ? 0 : record.port
    for (const other of [4, 6] as const) this.#marks[other].delete(slot)
    if (record.slot === Slot.Live && record.fwmark !== 0) this.#marks[family].set(slot, record.fwmark)
    const claims = live ? inAnyPieces({ side: 'to', family, protocol, address, port }) : []
    if (had !== undefined && sameClaims(had, claims)) return
    this.#hold(claims)
    this.#ofService.set(slot, claims)
    // Packets of its connections still have to be dropped rather than answered by the kernel.
    if (had !== undefined && had.length > 0) {
      this.#lingering.add({ service: slot, claims: had })
    }
  }

  #real(slot: number): void {
    const record = RealRecord.read(this.#reals.view, slot * this.#reals.entrySize)
    const had = this.#ofReal.get(slot) ?? []
    this.#countGone(slot, record.slot === Slot.Gone ? record.service : null)
    // One that is gone is still what it was.
    if (record.slot !== Slot.Gone) this.#noteMark(slot, record.slot === Slot.Live ? record.service : null)
    // Until its last connection is gone, a removed real server's packets are not the kernel's.
    if (record.slot === Slot.Gone) return
    const claims = record.slot === Slot.Live && ANSWERED_HERE.has(record.method) ? this.#replies(record) : []
    if (sameClaims(had, claims)) return
    this.#hold(claims)
    this.#release(had)
    this.#ofReal.set(slot, claims)
  }

  #noteMark(slot: number, service: number | null): void {
    const isMarked = service !== null && (this.#marks[4].has(service) || this.#marks[6].has(service))
    if (isMarked) this.#markedReals.add(slot)
    else this.#markedReals.delete(slot)
  }

  #replies(record: RealRecord): readonly Claim[] {
    if (record.service >= this.#services.entries) return []
    const service = ServiceRecord.read(this.#services.view, record.service * this.#services.entrySize)
    const family = record.family === 4 ? 4 : 6
    const address = readAddress(record.addr, 0, family)
    const protocol = protocolOfNumber(service.protocol)
    const protocols = protocol === null ? ANY_PROTOCOL : [protocol]
    const anyPort = service.port === 0 || service.port === FTP_PORT || service.fwmark !== 0
    const port = anyPort ? 0 : record.port
    return protocols.flatMap((name) => inAnyPieces({ side: 'from', family, protocol: name, address, port }))
  }

  #countGone(slot: number, service: number | null): void {
    const before = this.#goneOf.get(slot)
    if (before !== undefined) this.#gone.set(before, (this.#gone.get(before) ?? 1) - 1)
    if (service === null) this.#goneOf.delete(slot)
    else {
      this.#goneOf.set(slot, service)
      this.#gone.set(service, (this.#gone.get(service) ?? 0) + 1)
    }
  }

  #hold(claims: readonly Claim[]): void {
    for (const claim of claims) {
      const entry = this.#touch(claim)
      if (entry === undefined) this.#counts.set(claimKey(claim), { claim, count: 1 })
      else entry.count += 1
    }
  }

  #release(claims: readonly Claim[]): void {
    for (const claim of claims) {
      const entry = this.#touch(claim)
      if (entry === undefined) continue
      entry.count -= 1
      if (entry.count === 0) this.#counts.delete(claimKey(claim))
    }
  }

  #touch(claim: Claim): { count: number } | undefined {
    const key = claimKey(claim)
    const entry = this.#counts.get(key)
    if (!this.#touched.has(key)) this.#touched.set(key, { claim, before: entry !== undefined })
    return entry
  }
}

function inAnyPieces(of: Omit<EndClaim, 'of'>): readonly EndClaim[] {
  return [
    { ...of, of: 'packets' },
    { ...of, port: 0, of: 'fragments' },
  ]
}

function sameClaims(a: readonly Claim[], b: readonly Claim[]): boolean {
  return a.length === b.length && a.every((claim, i) => claimKey(claim) === claimKey(b[i]!))
}
