/** Which build is measured when, so that a machine that slows down or speeds up favours neither. */

/** `ours` is the tree that the bench was started in, `theirs` the commit it is compared with. */
export type Side = 'ours' | 'theirs'

/**
 * A B B A, B A A B, A B B A, ...: within four, what drifts evenly costs both sides the same; and neither is
 * always the one that comes after a pause, or after itself.
 * @param pairs how often each side is measured: an even number
 * @param first the round of four that it begins with, counted from 0
 */
export function turns(pairs: number, first = 0): Side[] {
  if (!Number.isInteger(pairs) || pairs < 2 || pairs % 2 !== 0) {
    throw new RangeError(`Cannot plan ${pairs} pairs: an even number of at least 2 makes whole rounds`)
  }
  const four = {
    even: ['ours', 'theirs', 'theirs', 'ours'],
    odd: ['theirs', 'ours', 'ours', 'theirs'],
  } as const
  return Array.from({ length: pairs / 2 }, (_, at) => four[(first + at) % 2 === 0 ? 'even' : 'odd']).flat()
}

/** One round of the packet program, in nanoseconds a packet: the wrapper alone, A, B, B, A, the wrapper alone. */
export interface Quad {
  readonly before: number
  readonly ours: readonly [number, number]
  readonly theirs: readonly [number, number]
  readonly after: number
}

/** Net of the wrapper. */
export interface NetQuad {
  readonly ours: number
  readonly theirs: number
}

export function net({ before, ours, theirs, after }: Quad): NetQuad {
  const wrapper = (before + after) / 2
  return { ours: (ours[0] + ours[1]) / 2 - wrapper, theirs: (theirs[0] + theirs[1]) / 2 - wrapper }
}

/** How far two runs of the wrapper alone are apart that should be alike: no difference below that is one. */
export function wrapperNoise(quads: readonly Quad[]): number[] {
  return quads.map(({ before, after }) => Math.abs(before - after) / 2)
}
