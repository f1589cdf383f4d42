/**
 * The state machines of connections as the specification has them (docs/spec/dataplane.md §2.1, §9): its tables are
 * read, not copied. A model of one connection for tests; time is in ticks.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ticksOfSeconds } from '../../control/compile/settings.ts'

export type Protocol = 'tcp' | 'udp' | 'sctp'

interface Machine {
  /** Short names of states in the order of their numbers, as the tables' columns have them. */
  readonly states: readonly string[]
  readonly seconds: readonly number[]
  readonly active: readonly string[]
}

const TCP: Machine = {
  states: ['NO', 'ES', 'SS', 'SR', 'FW', 'TW', 'CL', 'CW', 'LA', 'LI', 'SA'],
  seconds: [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120],
  active: ['ES', 'SS', 'SR', 'SA'],
}
const SCTP: Machine = {
  states: ['NO', 'I1', 'IN', 'CS', 'CR', 'CW', 'CO', 'CE', 'ES', 'SS', 'SR', 'SA', 'RJ', 'CL'],
  seconds: [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61],
  active: ['ES'],
}
const UDP: Machine = { states: ['UDP'], seconds: [300], active: [] }
const MACHINES: Readonly<Record<Protocol, Machine>> = { tcp: TCP, udp: UDP, sctp: SCTP }

type Cells = ReadonlyMap<string, string>

/** Cells of the tables in a piece of the specification, by direction, event and state. */
function cellsOf(text: string, states: readonly string[]): Cells {
  const cells = new Map<string, string>()
  let direction = ''
  for (const line of text.split('\n')) {
    const columns = line.replace(/^\| | \|$/g, '').split(' | ')
    const [first = '', ...rest] = columns.map((column) => column.replaceAll('*', ''))
    if (rest[0] === 'NO') direction = first === 'dir/event' ? '' : `${first} `
    else if (rest.length === states.length && rest.every((cell) => states.includes(cell)))
      rest.forEach((cell, at) => void cells.set(`${direction}${first} ${states[at]}`, cell))
  }
  return cells
}

function readTables(): { readonly tcp: Cells; readonly secure: Cells; readonly sctp: Cells } {
  const spec = readFileSync(fileURLToPath(new URL('../../docs/spec/dataplane.md', import.meta.url)), 'utf8')
  const between = (from: string, to: string) => spec.slice(spec.indexOf(from), spec.indexOf(to))
  const tcp = cellsOf(between('Normal table:', 'Secure table'), TCP.states)
  const secure = new Map([...tcp, ...cellsOf(between('Secure table', '### 9.2'), TCP.states)])
  const sctp = cellsOf(between('### 9.3', '## 10.'), SCTP.states)
  assert.equal(tcp.size, 12 * TCP.states.length)
  assert.equal(sctp.size, 30 * SCTP.states.length)
  return { tcp, secure, sctp }
}

const TABLES = readTables()

export interface ModelSettings {
  readonly secure: boolean
  readonly reuseMode: number
}

/** What a packet is for the tables. */
export interface ModelEvent {
  readonly name: string
  /** It is for a new connection, where an old one may be reused (§2.1). */
  readonly renews: boolean
  /** It would begin a connection where there is none (§3.1). */
  readonly begins: boolean
}

export function tcpEvent(flags: string): ModelEvent {
  const first = ['R', 'S', 'F', 'A'].find((flag) => flags.includes(flag))
  const names: Readonly<Record<string, string>> = { R: 'rst', S: 'syn', F: 'fin', A: 'ack' }
  return {
    name: first === undefined ? '' : names[first]!,
    renews: flags.includes('S'),
    begins: first === 'S',
  }
}

const CHUNKS: Readonly<Record<number, string>> = {
  1: 'init',
  2: 'init_ack',
  6: 'abort',
  7: 'shutdown',
  8: 'shutdown_ack',
  9: 'error',
  10: 'cookie_echo',
  11: 'cookie_ack',
  14: 'shutdown_complete',
}

export function sctpEvent(first: number, second: number | null): ModelEvent {
  const bundled = (first === 10 || first === 11) && second === 6
  return { name: bundled ? 'abort' : (CHUNKS[first] ?? 'data'), renews: first === 1, begins: first === 1 }
}

export const UDP_EVENT: ModelEvent = { name: '', renews: false, begins: true }

/** One connection, or that there is none. */
export class ConnectionModel {
  readonly #protocol: Protocol
  readonly #machine: Machine
  readonly #settings: ModelSettings
  readonly #seesAnswers: boolean
  #state: string | null = null
  /** No answer has been seen yet: the input-only tables count. */
  #inputOnly = false
  #until = 0

  /** `seesAnswers`: from the beginning, as with NAT. */
  constructor(protocol: Protocol, settings: ModelSettings, seesAnswers: boolean) {
    this.#protocol = protocol
    this.#machine = MACHINES[protocol]
    this.#settings = settings
    this.#seesAnswers = seesAnswers
  }

  /** The state's number, null without a connection. */
  state(now: number): number | null {
    if (this.#state !== null && now > this.#until) this.#state = null
    return this.#state === null ? null : this.#machine.states.indexOf(this.#state)
  }

  /** Ticks that are left. */
  left(now: number): number {
    return this.#until - now
  }

  get timeout(): number {
    return ticksOfSeconds(this.#machine.seconds[this.#machine.states.indexOf(this.#state ?? '')] ?? 0)
  }

  get isActive(): boolean {
    return this.#state !== null && this.#machine.active.includes(this.#state)
  }

  /** The tables' cell that was met last. */
  met = ''

  packet(side: 'client' | 'server', event: ModelEvent, now: number): void {
    if (side === 'client' && event.renews && this.#isReused()) this.#state = null
    if (this.state(now) === null) {
      if (side === 'server' || !event.begins) return
      this.#state = this.#machine.states[0]!
      this.#inputOnly = !this.#seesAnswers
    }
    if (side === 'server') this.#inputOnly = false
    const way = side === 'server' ? 'out' : this.#inputOnly ? 'in-only' : 'in'
    this.#state = this.#next(way, event.name)
    this.#until = now + this.timeout
  }

  #isReused(): boolean {
    const { reuseMode } = this.#settings
    if (reuseMode === 0) return false
    if (this.#protocol === 'sctp') return this.#state === 'CL'
    if (this.#protocol !== 'tcp') return false
    return (
      this.#state === 'TW' ||
      this.#state === 'CL' ||
      ((reuseMode & 2) !== 0 && this.#state === 'FW' && this.#inputOnly)
    )
  }

  #next(way: string, event: string): string {
    const state = this.#state!
    if (this.#protocol === 'udp') return state
    if (this.#protocol === 'tcp' && event === '') return 'CL'
    this.met = `${way} ${event} ${state}`
    const tables =
      this.#protocol === 'sctp' ? TABLES.sctp : this.#settings.secure ? TABLES.secure : TABLES.tcp
    const next = tables.get(this.met)
    assert.ok(next, this.met)
    return next
  }
}
