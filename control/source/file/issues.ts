/** What zod finds, in sentences for whoever wrote the file. */
import type { z } from 'zod'
import { nearest } from './nearest.ts'

/** Told what is wrong with the value at a path. */
export type Complain = (path: readonly PropertyKey[], message: string) => void

export interface Found {
  readonly path: readonly PropertyKey[]
  readonly message: string
  /** It is about the key at the path, not about its value. */
  readonly key: boolean
}

type Issue = z.core.$ZodIssue

const TYPES: Readonly<Record<string, string>> = {
  string: 'a text',
  // There are no others in a file, but for times, which have words of their own.
  number: 'a whole number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping (key: value)',
  record: 'a mapping (key: value)',
}

export function findings(error: z.ZodError, schema: z.ZodType, input: unknown): Found[] {
  return error.issues.flatMap((issue) => told(issue, [], schema, input))
}

function told(issue: Issue, above: readonly PropertyKey[], schema: z.ZodType, input: unknown): Found[] {
  const path = [...above, ...issue.path]
  const value = valueAt(input, path)
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(schema, path, input)
    return issue.keys.map((name) => {
      const near = nearest(name, known)
      const wanted = near === null ? `expected one of ${[...known].join(', ')}` : `did you mean "${near}"?`
      return { path: [...path, name], key: true, message: `Unknown key "${name}": ${wanted}` }
    })
  }
  if (issue.code === 'invalid_union') {
    if (issue.errors.length === 0) return [kindless(issue, path, schema, input)]
    const branch = likeliest(issue.errors)
    if (branch !== null) return branch.flatMap((inner) => told(inner, path, schema, input))
    if (issue.message === 'Invalid input') {
      const wanted = issue.errors.flatMap((branch) => branch.map(expectation))
      return [said(path, [...new Set(wanted)].join(', or '), value)]
    }
  }
  if (issue.code === 'invalid_key') {
    return issue.issues.map((inner) => ({
      path,
      key: true,
      message: `${nameOf(path)}: ${expectation(inner)}`,
    }))
  }
  const near =
    issue.code === 'invalid_value' && typeof value === 'string'
      ? nearest(value, issue.values.map(String))
      : null
  const guess = near === null ? '' : `; did you mean "${near}"?`
  return [said(path, expectation(issue), value, guess)]
}

function said(path: readonly PropertyKey[], wanted: string, value: unknown, guess = ''): Found {
  const got = value === undefined || isSecret(path.at(-1)) ? '' : `, got ${quoted(value)}`
  return { path, key: false, message: `${nameOf(path)}: ${wanted}${got}${guess}` }
}

/** No variant is chosen: the word that chooses is missing or unknown. */
function kindless(
  issue: Issue & { code: 'invalid_union' },
  path: readonly PropertyKey[],
  schema: z.ZodType,
  input: unknown,
): Found {
  const word = issue.discriminator ?? String(path.at(-1))
  const at = path.at(-1) === word ? path : [...path, word]
  const known = choices(schema, at.slice(0, -1), input, word)
  const value = valueAt(input, at)
  const near = typeof value === 'string' ? nearest(value, known) : null
  return said(
    value === undefined ? path : at,
    `expected ${word}: one of ${known.join(', ')}`,
    value === undefined ? valueAt(input, path) : value,
    near === null ? '' : `; did you mean "${near}"?`,
  )
}

/** Of several variants the one that got furthest; null when none got beyond the first look. */
function likeliest(branches: readonly (readonly Issue[])[]): readonly Issue[] | null {
  const inside = branches.filter((branch) =>
    branch.every(
      (issue) =>
        issue.path.length > 0 || issue.code === 'unrecognized_keys' || issue.code === 'invalid_union',
    ),
  )
  inside.sort((a, b) => a.length - b.length)
  return inside[0] ?? null
}

function expectation(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.message.startsWith('Invalid input')
        ? `expected ${TYPES[issue.expected] ?? issue.expected}`
        : issue.message
    case 'invalid_value':
      return `expected ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`
    case 'too_small':
      return `expected at least ${issue.minimum}${issue.origin === 'array' ? ' of them' : ''}`
    case 'too_big':
      return `expected at most ${issue.maximum}${issue.origin === 'array' ? ' of them' : ''}`
    default:
      return issue.message
  }
}

function nameOf(path: readonly PropertyKey[]): string {
  return path.length === 0 ? 'the file' : path.map(String).join('.')
}

const QUOTED_MAX = 60
/** What is said of a file is read by more than may read the file: it is logged, and told on the read-only socket. */
const isSecret = (key: PropertyKey | undefined): boolean => key === 'password' || key === 'token'

export function quoted(value: unknown): string {
  const shown: unknown = JSON.stringify(value, (key, inner: unknown) =>
    isSecret(key) ? '(not shown)' : inner,
  )
  const text = (typeof shown === 'string' ? shown : String(value)).replace(/\/\/[^/@"]*@/g, '//(not shown)@')
  return text.length > QUOTED_MAX ? `${text.slice(0, QUOTED_MAX)}...` : text
}

export function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value: unknown = input
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = Reflect.get(value, part)
  }
  return value
}

// What a schema knows at a path

interface Shape {
  readonly def: {
    readonly type: string
    readonly shape?: Readonly<Record<string, Shape>>
    readonly element?: Shape
    readonly innerType?: Shape
    readonly valueType?: Shape
    readonly options?: readonly Shape[]
    readonly values?: readonly unknown[]
    readonly in?: Shape
  }
}

/** The schemas that may stand at a path, all variants. */
function schemasAt(schema: z.ZodType, path: readonly PropertyKey[], input: unknown): Shape[] {
  let here = opened([schema as unknown as Shape])
  let value = input
  for (const part of path) {
    here = opened(
      here.flatMap(({ def }) => {
        const next = def.shape?.[String(part)] ?? def.element ?? def.valueType
        return next === undefined ? [] : [next]
      }),
    )
    value = valueAt(value, [part])
  }
  const objects = here.filter(({ def }) => def.shape !== undefined)
  // Of variants that a word chooses between, the chosen one.
  const chosen = objects.filter(({ def }) =>
    Object.entries(def.shape!).some(
      ([key, { def: field }]) => field.type === 'literal' && field.values?.includes(valueAt(value, [key])),
    ),
  )
  return chosen.length > 0 ? chosen : objects
}

function opened(schemas: readonly Shape[]): Shape[] {
  return schemas.flatMap((schema) => {
    const { innerType, options, in: input } = schema.def
    if (innerType !== undefined) return opened([innerType])
    if (options !== undefined) return opened(options)
    return input === undefined ? [schema] : opened([input])
  })
}

function keysAt(schema: z.ZodType, path: readonly PropertyKey[], input: unknown): Set<string> {
  return new Set(schemasAt(schema, path, input).flatMap(({ def }) => Object.keys(def.shape ?? {})))
}

function choices(
  schema: z.ZodType,
  path: readonly PropertyKey[],
  input: unknown,
  word: string,
): readonly string[] {
  return schemasAt(schema, path, input).flatMap(({ def }) =>
    (def.shape?.[word]?.def.values ?? []).map(String),
  )
}
