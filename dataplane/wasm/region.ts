/** A piece of linear memory. */
export interface Region {
  readonly base: number
  readonly bytes: number
}
