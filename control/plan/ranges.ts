/**
 * Who owns which range of `members`: a buddy allocator. Blocks are powers of two, aligned to their size,
 * so a range read back from the maps tells by itself which block it came from.
 */

/** Smallest block: most services have a few real servers. */
const ORDER_MIN = 2

/** Order of the block that holds `count` entries. */
export function blockOrder(count: number): number {
  return Math.max(ORDER_MIN, 32 - Math.clz32(Math.max(count, 1) - 1))
}

/** Entries a range of `count` really takes. */
export function blockSize(count: number): number {
  return 2 ** blockOrder(count)
}

export class RangeAllocator {
  /** Free blocks by order. */
  readonly #free: Set<number>[] = []
  readonly #total: number

  constructor(total: number) {
    this.#total = total
    for (let order = 0; order <= 32; order++) this.#free.push(new Set())
    let first = 0
    for (let order = 31; order >= ORDER_MIN; order--) {
      while (total - first >= 2 ** order) {
        this.#free[order]!.add(first)
        first += 2 ** order
      }
    }
  }

  /** First entry of a free range of `count`, or null when no block is left. It stays free. */
  find(count: number): number | null {
    for (let at = blockOrder(count); at < this.#free.length; at++) {
      const [first] = this.#free[at]!
      if (first !== undefined) return first
    }
    return null
  }

  /** Takes the block of a range; false if some of it is taken already. */
  reserve(first: number, count: number): boolean {
    const order = blockOrder(count)
    const size = 2 ** order
    if (first % size !== 0 || first + size > this.#total) return false
    for (let at = order; at < this.#free.length; at++) {
      const base = first - (first % 2 ** at)
      if (!this.#free[at]!.has(base)) continue
      this.#split(base, at, first, order)
      return true
    }
    return false
  }

  /** Takes the block at `first` out of the free block `base`, leaving the rest free. */
  #split(base: number, from: number, first: number, order: number): void {
    this.#free[from]!.delete(base)
    let start = base
    for (let at = from - 1; at >= order; at--) {
      const upper = start + 2 ** at
      if (first >= upper) {
        this.#free[at]!.add(start)
        start = upper
      } else {
        this.#free[at]!.add(upper)
      }
    }
  }

  /** Gives a range back, joining it with its neighbours. */
  release(first: number, count: number): void {
    let order = blockOrder(count)
    let start = first
    for (; order < 31; order++) {
      const size = 2 ** order
      const buddy = start % (2 * size) === 0 ? start + size : start - size
      if (!this.#free[order]!.delete(buddy)) break
      start = Math.min(start, buddy)
    }
    this.#free[order]!.add(start)
  }
}
