/**
 * Datagrams that come in fragments, until they are whole: IPVS decides about whole ones, and so does the program
 * here. Of lone fragments there are as many as somebody likes to send, so all of this is bounded by bytes and by
 * time. Where there is no room, of the two hosts between which there is the most the eldest datagram gives way:
 * whoever fills it all makes room out of their own.
 */
import { type Fragment, fragmentAt } from './fragment.ts'

/** As much as the kernel has for a whole network namespace (net.ipv4.ipfrag_high_thresh), for each worker. */
const POOL_BYTES = 4 << 20
/** A frame of an MTU of 1500; larger ones have several. */
const BLOCK_BYTES = 2048
const BLOCKS = POOL_BYTES / BLOCK_BYTES
const END = -1
/** Linux: net.ipv4.ipfrag_time. */
const LIFE_MS = 30_000
/** An IPv4 packet, and the payload of an IPv6 packet. */
const LENGTH_MAX = 65_535
const ETHERNET = 14
const IPV6 = 40
const DF = 0x40
/** RFC 3168 §5: "not ECN-capable", "congestion experienced". */
const NOT_CAPABLE = 0
const EXPERIENCED = 3

export interface Piece {
  /** First of the blocks that the frame is in. */
  readonly block: number
  readonly length: number
  /** Number of the tap it came from. */
  readonly tap: number
  readonly toHost: boolean
  readonly fragment: Fragment
}

export interface Datagram {
  readonly key: string
  readonly ends: string
  /** By their place in the datagram; none overlap. */
  readonly pieces: Piece[]
  /** IP bytes of the largest fragment. */
  largest: number
  readonly untilMs: number
  /** Bytes of payload that are there. */
  got: number
  /** Bytes of all of the payload, as the last fragment says; null: it has not come. */
  total: number | null
  blocks: number
}

/** Of a datagram that is whole, as a frame. */
export function frameBytes({ pieces, total }: Datagram): number {
  return pieces[0]!.fragment.headers + total!
}

/** What has become of a fragment. The memory of a datagram that is whole or spoiled stays its own until `forget`. */
export type Kept =
  | { readonly kind: 'kept' }
  /** All of it was there already. */
  | { readonly kind: 'again' }
  | { readonly kind: 'whole'; readonly datagram: Datagram }
  /** Contradicts others of its datagram, of which nothing can be taken then (RFC 5722, and Linux with IPv4 too). */
  | { readonly kind: 'spoiled'; readonly datagram: Datagram }
  /** It is none that can be read, or larger than all there is. */
  | { readonly kind: 'unfit' }

export class Datagrams {
  /** By age. */
  readonly #datagrams = new Map<string, Datagram>()
  /** Those between two hosts, by age, and how much they have. */
  readonly #ends = new Map<string, { readonly datagrams: Set<Datagram>; blocks: number }>()
  /** Pairs of hosts by how much theirs have; and the most that any has. */
  readonly #byBlocks = new Map<number, Set<string>>()
  #most = 0
  /** Made when the first fragment comes. */
  #pool: Uint8Array | null = null
  readonly #following = new Int32Array(BLOCKS)
  #free = END
  #freeCount = 0

  get size(): number {
    return this.#datagrams.size
  }

  /** Keeps a frame without tags; `gaveWay` is told which datagrams had to. */
  keep(
    bytes: Uint8Array,
    start: number,
    length: number,
    tap: number,
    toHost: boolean,
    nowMs: number,
    gaveWay: (datagram: Datagram) => void,
  ): Kept {
    const fragment = fragmentAt(bytes, start, length)
    const blocks = Math.ceil(length / BLOCK_BYTES)
    if (fragment === null || blocks > BLOCKS) return { kind: 'unfit' }
    const known = this.#datagrams.get(fragment.datagram)
    const place = known === undefined ? 0 : placeIn(known, fragment)
    if (place === 'again') return { kind: 'again' }
    if (known !== undefined && place === 'contradicts') {
      this.#remove(known)
      return { kind: 'spoiled', datagram: known }
    }
    if (this.#pool === null) this.#makePool()
    while (this.#freeCount < blocks) {
      const eldest = this.#eldestOfTheMost()
      if (eldest === null) return { kind: 'unfit' }
      this.#remove(eldest)
      this.forget(eldest)
      gaveWay(eldest)
    }
    // It may have been its own datagram that gave way: this piece is the first of it again.
    const datagram = this.#datagrams.get(fragment.datagram) ?? this.#start(fragment, nowMs)
    const piece = { block: this.#store(bytes, start, length), length, tap, toHost, fragment }
    datagram.pieces.splice(datagram === known ? Number(place) : 0, 0, piece)
    datagram.got += fragment.bytes
    datagram.largest = Math.max(datagram.largest, fragment.ipBytes)
    if (!fragment.more) datagram.total = fragment.offset + fragment.bytes
    this.#charge(datagram, blocks)
    if (datagram.got !== datagram.total) return { kind: 'kept' }
    this.#remove(datagram)
    return { kind: 'whole', datagram }
  }

  /** Takes out those whose time is over, or that `which` says; `forget` them. */
  take(nowMs: number, which: (datagram: Datagram) => boolean = () => false): readonly Datagram[] {
    const taken = [...this.#datagrams.values()].filter((one) => one.untilMs <= nowMs || which(one))
    for (const datagram of taken) this.#remove(datagram)
    return taken
  }

  /** Gives the memory of its fragments to others. */
  forget({ pieces }: Datagram): void {
    for (const { block } of pieces) {
      for (let at = block; at !== END; ) {
        const next = this.#following[at]!
        this.#following[at] = this.#free
        this.#free = at
        this.#freeCount += 1
        at = next
      }
    }
  }

  /** Puts a fragment's frame there as it came. */
  copyPiece({ block, length }: Piece, to: Uint8Array, at: number): void {
    this.#copy(block, 0, length, to, at)
  }

  /**
   * Puts a whole datagram there as one frame, with the headers of the first of its fragments; returns its bytes,
   * 0 if it cannot be one.
   */
  putTogether(datagram: Datagram, to: Uint8Array, at: number): number {
    const { pieces } = datagram
    const first = pieces[0]!
    const { headers, next } = first.fragment
    const bytes = frameBytes(datagram)
    const ip = at + ETHERNET
    const congestion = congestionOf(pieces)
    if (bytes - ETHERNET - (next === null ? 0 : IPV6) > LENGTH_MAX || congestion === null) return 0
    this.#copy(first.block, 0, headers, to, at)
    for (const { block, fragment } of pieces)
      this.#copy(block, fragment.payload, fragment.bytes, to, at + headers + fragment.offset)
    if (next === null) {
      to[ip + 1] = (to[ip + 1]! & ~3) | congestion
      put16(to, ip + 2, bytes - ETHERNET)
      to[ip + 6] = mustStayAsItIs(pieces) ? DF : 0
      to[ip + 7] = 0
      put16(to, ip + 10, 0)
      put16(to, ip + 10, ~onesSum(to, ip, headers - ETHERNET))
    } else {
      to[ip + 1] = (to[ip + 1]! & ~0x30) | (congestion << 4)
      put16(to, ip + 4, bytes - ETHERNET - IPV6)
      to[at + next.at] = next.header
    }
    return bytes
  }

  #start(fragment: Fragment, nowMs: number): Datagram {
    const { datagram: key, ends } = fragment
    const datagram = {
      ...{ key, ends, pieces: [], largest: 0, untilMs: nowMs + LIFE_MS, got: 0, total: null, blocks: 0 },
    }
    this.#datagrams.set(key, datagram)
    const theirs = this.#ends.get(ends) ?? { datagrams: new Set(), blocks: 0 }
    this.#ends.set(ends, theirs)
    theirs.datagrams.add(datagram)
    return datagram
  }

  #remove(datagram: Datagram): void {
    this.#datagrams.delete(datagram.key)
    const theirs = this.#ends.get(datagram.ends)
    theirs?.datagrams.delete(datagram)
    this.#charge(datagram, -datagram.blocks)
    if (theirs?.datagrams.size === 0) this.#ends.delete(datagram.ends)
  }

  #charge(datagram: Datagram, blocks: number): void {
    const { ends } = datagram
    const theirs = this.#ends.get(ends)
    if (theirs === undefined) return
    const before = this.#byBlocks.get(theirs.blocks)
    before?.delete(ends)
    if (before?.size === 0) this.#byBlocks.delete(theirs.blocks)
    datagram.blocks += blocks
    theirs.blocks += blocks
    if (theirs.blocks > 0) {
      const same = this.#byBlocks.get(theirs.blocks) ?? new Set()
      this.#byBlocks.set(theirs.blocks, same)
      same.add(ends)
      this.#most = Math.max(this.#most, theirs.blocks)
    }
    while (this.#most > 0 && !this.#byBlocks.has(this.#most)) this.#most -= 1
  }

  #eldestOfTheMost(): Datagram | null {
    const [ends] = this.#byBlocks.get(this.#most) ?? []
    const [eldest] = this.#ends.get(ends ?? '')?.datagrams ?? []
    return eldest ?? null
  }

  #makePool(): void {
    this.#pool = new Uint8Array(POOL_BYTES)
    for (let i = 0; i < BLOCKS; i++) this.#following[i] = i + 1 < BLOCKS ? i + 1 : END
    this.#free = 0
    this.#freeCount = BLOCKS
  }

  /** There are enough blocks. */
  #store(bytes: Uint8Array, start: number, length: number): number {
    const first = this.#free
    let last = first
    for (let done = 0; done < length; done += BLOCK_BYTES) {
      last = this.#free
      const end = Math.min(done + BLOCK_BYTES, length)
      this.#pool!.set(bytes.subarray(start + done, start + end), last * BLOCK_BYTES)
      this.#free = this.#following[last]!
      this.#freeCount -= 1
    }
    this.#following[last] = END
    return first
  }

  /** `count` bytes of a stored frame, from `from` on. */
  #copy(block: number, from: number, count: number, to: Uint8Array, at: number): void {
    let done = 0
    for (let where = block, base = 0; where !== END && done < count; base += BLOCK_BYTES) {
      const skip = Math.max(0, from - base)
      if (skip < BLOCK_BYTES) {
        const bytes = Math.min(BLOCK_BYTES - skip, count - done)
        const place = where * BLOCK_BYTES + skip
        to.set(this.#pool!.subarray(place, place + bytes), at + done)
        done += bytes
      }
      where = this.#following[where]!
    }
  }
}

/** Where a fragment belongs among those that are there, which it may repeat, but not overlap or reach beyond. */
function placeIn(datagram: Datagram, { offset, bytes, more }: Fragment): number | 'again' | 'contradicts' {
  const { pieces, total } = datagram
  const end = offset + bytes
  const known = pieces.length > 0 ? endOf(pieces.at(-1)!) : 0
  if (more ? total !== null && end > total : end < known || (total ?? end) !== end) return 'contradicts'
  // Nearly always the next one.
  let place = pieces.length
  while (place > 0 && pieces[place - 1]!.fragment.offset > offset) place -= 1
  let there = offset
  for (let i = Math.max(0, place - 1); i < pieces.length && pieces[i]!.fragment.offset <= there; i++)
    there = Math.max(there, endOf(pieces[i]!))
  if (there >= end) return 'again'
  return there > offset || (pieces[place]?.fragment.offset ?? end) < end ? 'contradicts' : place
}

function endOf({ fragment }: Piece): number {
  return fragment.offset + fragment.bytes
}

/** RFC 3168 §5.3: null if they cannot be of one datagram. */
function congestionOf(pieces: readonly Piece[]): number | null {
  const first = pieces[0]!.fragment.congestion
  let found = first
  for (const { fragment } of pieces) {
    if ((fragment.congestion === NOT_CAPABLE) !== (first === NOT_CAPABLE)) return null
    if (fragment.congestion === EXPERIENCED) found = EXPERIENCED
  }
  return found
}

/** RFC 1191 §3, as Linux has it: if the largest of them was not to be fragmented, nor is the datagram. */
function mustStayAsItIs(pieces: readonly Piece[]): boolean {
  let largest = 0
  let stays = 0
  for (const { fragment } of pieces) {
    largest = Math.max(largest, fragment.ipBytes)
    if (fragment.dontFragment) stays = Math.max(stays, fragment.ipBytes)
  }
  return stays === largest
}

function onesSum(bytes: Uint8Array, at: number, count: number): number {
  let sum = 0
  for (let i = at; i < at + count; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8
  bytes[at + 1] = value
}
