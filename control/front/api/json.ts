/** A JSON array in pieces, which is never whole in memory as text. */
export function* jsonArray<T>(
  items: Iterable<T>,
  show: (item: T) => Iterable<string>,
  limit = Number.POSITIVE_INFINITY,
): Generator<string> {
  let count = 0
  yield '['
  for (const item of items) {
    if (count === limit) break
    if (count > 0) yield ','
    yield* show(item)
    count++
  }
  yield ']'
}
