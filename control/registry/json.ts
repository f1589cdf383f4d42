/** Answers of servers, of which nothing is taken for granted. */

export type Json = Readonly<Record<string, unknown>>

/** An empty one for what is none. */
export const objectOf = (value: unknown): Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {}

/** Likewise. */
export const listOf = (value: unknown): readonly Json[] => (Array.isArray(value) ? value.map(objectOf) : [])
