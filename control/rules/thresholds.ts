/** The overload flag of a real server, as IPVS sets and clears it outside of packets. */

/** The count below which an overloaded real server takes connections again: lower, or 3/4 of upper. */
export function releaseBelow(upper: number, lower: number): number {
  return lower !== 0 ? lower : upper - Math.floor(upper / 4)
}

/** After an edit (or a revival) with `total` connections present. */
export function overloadedAfterEdit(was: boolean, upper: number, lower: number, total: number): boolean {
  if (upper === 0) return false
  if (total >= upper) return true
  if (total < releaseBelow(upper, lower)) return false
  return was
}

/** After connections have gone, leaving `total`. */
export function overloadedAfterRelease(was: boolean, upper: number, lower: number, total: number): boolean {
  if (!was || upper === 0) return false
  return total >= upper || total >= releaseBelow(upper, lower)
}
