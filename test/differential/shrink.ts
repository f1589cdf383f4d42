/**
 * Makes a failing sequence small: drops ever smaller pieces as long as the rest still fails (delta
 * debugging, Zeller and Hildebrandt 2002, without its complement step).
 *
 * @param fails whether a sequence shows the failure; must answer the same each time
 * @param tries upper bound of calls of `fails`, and once more of those with one step
 */
export function shrink<T>(
  sequence: readonly T[],
  fails: (candidate: readonly T[]) => boolean,
  tries = 400,
): readonly T[] {
  let best = sequence
  let piece = Math.ceil(best.length / 2)
  let left = tries
  while (left > 0) {
    let dropped = false
    for (let at = 0; at < best.length && left > 0; left--) {
      const candidate = [...best.slice(0, at), ...best.slice(at + piece)]
      if (candidate.length < best.length && fails(candidate)) {
        best = candidate
        dropped = true
      } else at += piece
    }
    if (piece > 1) piece = Math.ceil(piece / 2)
    else if (!dropped) break
  }
  // What is left may need all of itself, though a step that was given up did it alone: from the last, where it was seen.
  if (best.length > 1) {
    const one = sequence.slice(-tries).findLast((step) => fails([step]))
    if (one !== undefined) return [one]
  }
  return best
}
