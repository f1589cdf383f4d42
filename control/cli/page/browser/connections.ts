/** The connections there are: looked for, in an order, a page at a time. Asked for when somebody wants to see them. */
import type { ConnectionPageShown } from '../../../front/api/schema/connection.ts'
import { CONNECTION_ORDERS } from '../../../model/connection.ts'
import { connections as connectionTable } from '../content.ts'
import { ask } from './ask.ts'
import { part, setText, showTable } from './dom.ts'

const ROWS = 50
/** Who types has not said all yet. */
const TYPING_MS = 400

const ORDERS: Readonly<Record<string, string>> = {
  ends: 'ends first',
  '-ends': 'ends last',
  client: 'client',
  '-client': 'client, backwards',
  service: 'service',
  '-service': 'service, backwards',
  server: 'real server',
  '-server': 'real server, backwards',
  state: 'state',
  '-state': 'state, backwards',
}

/** Where the pages that were looked at began; the last one is shown. */
let trail: readonly (string | null)[] = [null]
let next: string | null = null
/** Answers of earlier questions are not shown any more. */
let asked = 0

async function look(to: readonly (string | null)[]): Promise<void> {
  const mine = ++asked
  const after = to.at(-1) ?? null
  const query = new URLSearchParams({
    search: part('connection-search', HTMLInputElement).value,
    order: part('connection-order', HTMLSelectElement).value,
    limit: String(ROWS),
    ...(after === null ? {} : { after }),
  })
  const words = part('connections-words', HTMLElement)
  part('connections', HTMLElement).setAttribute('aria-busy', 'true')
  try {
    const page = await ask<ConnectionPageShown>(`/v1/connections/page?${query}`)
    if (mine !== asked || page === null) return
    trail = to
    next = page.next
    showTable('connections', connectionTable(page, (to.length - 1) * ROWS))
  } catch (error) {
    if (mine === asked) setText(words, error instanceof Error ? error.message : String(error))
  } finally {
    if (mine === asked) {
      part('connections', HTMLElement).removeAttribute('aria-busy')
      part('connections-before', HTMLButtonElement).disabled = trail.length === 1
      part('connections-next', HTMLButtonElement).disabled = next === null
    }
  }
}

export function lookAtConnections(): void {
  void look(trail)
}

export function listenToConnections(): void {
  const order = part('connection-order', HTMLSelectElement)
  for (const name of CONNECTION_ORDERS) order.append(new Option(ORDERS[name] ?? name, name))
  order.onchange = () => void look([null])
  let typing: ReturnType<typeof setTimeout> | undefined
  part('connection-search', HTMLInputElement).oninput = () => {
    clearTimeout(typing)
    typing = setTimeout(() => void look([null]), TYPING_MS)
  }
  part('connection-find', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault()
    clearTimeout(typing)
    void look([null])
  }
  part('connections-before', HTMLButtonElement).onclick = () => void look(trail.slice(0, -1))
  part('connections-next', HTMLButtonElement).onclick = () => {
    if (next !== null) void look([...trail, next])
  }
}
