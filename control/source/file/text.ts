/** YAML 1.2 (so JSON, too) as values that know where they stand. */
import { isMap, isScalar, LineCounter, type Node, type ParsedNode, parseDocument } from 'yaml'
import type { SiteService } from '../../model/site.ts'
import { type Items, parseQuick, type QuickDocument } from './quick.ts'

export interface Position {
  /** From 1. */
  readonly line: number
  readonly column: number
}

export interface TextError extends Position {
  readonly message: string
}

export interface TextDocument {
  /** undefined where there are errors. */
  readonly value: unknown
  readonly errors: readonly TextError[]
  /** Where the value at a path stands, or the nearest one around it that does; `key`: its key. */
  place(path: readonly PropertyKey[], key?: boolean): Position
}

/** Aliases of aliases of aliases make a short text fill any memory. */
const ALIASES_MAX = 100
/** An IPv6 address without quotes is a list to YAML, with something behind it. */
const BARE_BRACKETS = /(?:^|[\s:-])\[[0-9a-fA-F:.]*:[0-9a-fA-F:.]*\](?::\d+)?/

/** What readings of the same files leave to the next ones. */
export class Memory {
  /** By file. */
  readonly items = new Map<string, Items>()
  /** Of files that nobody reads any more there is nothing to remember. */
  keepOnly(files: ReadonlySet<string>): void {
    for (const file of this.items.keys()) if (!files.has(file)) this.items.delete(file)
  }

  /** What became of an item, and what else that came from. */
  readonly services = new WeakMap<
    object,
    { readonly from: readonly string[]; readonly service: SiteService }
  >()
}

/** Plain texts are read quickly, and looked at closely only when somebody wants to know a place. */
export function readText(text: string, memory: Memory = new Memory(), file = ''): TextDocument {
  const quick = parseQuick(text, memory.items.get(file)) ?? quickJson(text)
  if (quick === null) return parseText(text)
  memory.items.set(file, quick.items)
  let whole: TextDocument | null = null
  return {
    value: quick.value,
    errors: [],
    place: (path, key = false) => {
      const [name, index] = path
      if (path.length === 2 && typeof name === 'string' && typeof index === 'number' && !key) {
        const place = quick.place(name, index)
        if (place !== null) return place
      }
      whole ??= parseText(text)
      return whole.place(path, key)
    },
  }
}

/** JSON.parse takes keys that are there twice, so it is asked only about texts that are too large to wait for. */
const LARGE_BYTES = 256 * 1024

function quickJson(text: string): QuickDocument | null {
  if (text.length < LARGE_BYTES || !/^\s*[{[]/.test(text)) return null
  try {
    // Places are not known without reading it again; nobody waits for those of what is right.
    return { value: JSON.parse(text), items: new Map(), place: () => FIRST }
  } catch {
    return null
  }
}

const FIRST: Position = { line: 1, column: 1 }

export function parseText(text: string): TextDocument {
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: true,
    prettyErrors: false,
    version: '1.2',
  })
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const errors = [...document.errors, ...document.warnings].map(({ pos, message }) => {
    const position = at(pos[0])
    const line = text.slice(lines.lineStarts[position.line - 1] ?? 0).split('\n', 1)[0] ?? ''
    const hint = BARE_BRACKETS.test(line)
      ? '; an IPv6 address in brackets needs quotes: "[2001:db8::1]:80"'
      : ''
    return { ...position, message: `${message.replace(/\.$/, '')}${hint}` }
  })
  let value: unknown
  if (errors.length === 0) {
    try {
      value = document.toJS({ maxAliasCount: ALIASES_MAX })
    } catch (error) {
      errors.push({ line: 1, column: 1, message: error instanceof Error ? error.message : String(error) })
    }
  }
  return { value, errors, place: (path, key = false) => at(offsetOf(document.contents, path, key)) }
}

/** The offset of the node at a path; where it ends early, of the last node on the way. */
function offsetOf(root: ParsedNode | null, path: readonly PropertyKey[], key: boolean): number {
  let node: Node | null = root
  let offset = root?.range?.[0] ?? 0
  for (const [depth, part] of path.entries()) {
    const last = depth === path.length - 1
    let next: unknown
    if (isMap(node)) {
      const pair: { readonly key: unknown; readonly value: unknown } | undefined = node.items.find(
        (item) => isScalar(item.key) && String(item.key.value) === String(part),
      )
      if (pair === undefined) return offset
      if (isScalar(pair.key) && ((last && key) || pair.value === null)) return pair.key.range?.[0] ?? offset
      next = pair.value
    } else if (node !== null && 'items' in node && Array.isArray(node.items)) {
      next = node.items[Number(part)]
    }
    if (typeof next !== 'object' || next === null || !('range' in next)) return offset
    node = next as Node
    offset = node.range?.[0] ?? offset
  }
  return offset
}
