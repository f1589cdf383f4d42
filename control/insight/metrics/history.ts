/** The last hour of what is looked at most, for those who come when it has happened: bounded, and gone with the daemon. */
import type { History, Plot as PlotShown } from '../../front/api/schema/history.ts'
import type { Journal, JournalEvent } from '../../model/journal.ts'
import type { MetricFacts } from './facts.ts'

export const SAMPLE_MS = 5000
/** An hour of them. */
const SAMPLES = 720
const HOUR_MS = SAMPLES * SAMPLE_MS
/** Changes of health: a hundred real servers that flap for an hour fill it, and no more than this. */
const CHANGES_MAX = 4096

interface PlotLine {
  readonly name: string
  /** What has been counted so far is told as a rate. */
  readonly counted?: true
  readonly of: (facts: MetricFacts) => number
}

interface Plot {
  readonly title: string
  readonly lines: readonly PlotLine[]
}

/** What is plotted: one row is one line. */
const PLOTS: readonly Plot[] = [
  {
    title: 'new connections a second',
    lines: [{ name: 'new', of: ({ totalRates }) => totalRates.cps }],
  },
  {
    title: 'packets a second',
    lines: [
      { name: 'in', of: ({ totalRates }) => totalRates.inPps },
      { name: 'out', of: ({ totalRates }) => totalRates.outPps },
    ],
  },
  {
    title: 'bits a second',
    lines: [
      { name: 'in', of: ({ totalRates }) => 8 * totalRates.inBps },
      { name: 'out', of: ({ totalRates }) => 8 * totalRates.outBps },
    ],
  },
  {
    title: 'connections',
    lines: [{ name: 'open', of: ({ applier }) => open(applier?.lastSweep ?? null) }],
  },
  {
    title: 'packets dropped a second',
    lines: [{ name: 'dropped', counted: true, of: ({ verdicts }) => dropped(verdicts) }],
  },
]
const LINES = PLOTS.flatMap(({ lines }) => lines)

function open(sweep: { readonly connections4: number; readonly connections6: number } | null): number {
  return sweep === null ? 0 : sweep.connections4 + sweep.connections6
}

function dropped(verdicts: ReadonlyMap<string, bigint>): number {
  let sum = 0n
  for (const [name, count] of verdicts) if (name.startsWith('drop_')) sum += count
  return Number(sum)
}

type Change = Pick<JournalEvent, 'atMs' | 'service' | 'server' | 'state' | 'words'>

export class HourHistory {
  readonly #wallMs: () => number
  readonly #values = LINES.map(() => new Float64Array(SAMPLES))
  readonly #counted = new Float64Array(LINES.length)
  readonly #changes: Change[] = []
  #taken = 0
  #lastMs = 0

  constructor(wallMs: () => number, journal: Pick<Journal, 'since' | 'follow'>) {
    this.#wallMs = wallMs
    for (const event of journal.since(0)) this.#hear(event)
    journal.follow((event) => this.#hear(event))
  }

  #hear({ kind, about, ...event }: JournalEvent): void {
    if (kind !== 'health' || (about !== 'server' && about !== 'service')) return
    const { atMs, service, server, state, words } = event
    this.#changes.push({ atMs, service, server, state, words })
    if (this.#changes.length > CHANGES_MAX) this.#changes.shift()
  }

  /** Called every `SAMPLE_MS`. */
  take(facts: MetricFacts): void {
    const nowMs = this.#wallMs()
    const seconds = Math.max(0.001, (nowMs - this.#lastMs) / 1000)
    for (const [i, { of, counted }] of LINES.entries()) {
      const value = of(facts)
      const before = this.#counted[i]!
      this.#counted[i] = value
      // What begins again at zero has not counted backwards; of the first nobody knows how long it took.
      const rate = this.#taken === 0 ? 0 : Math.max(0, value - before) / seconds
      this.#values[i]![this.#taken % SAMPLES] = counted === undefined ? value : rate
    }
    this.#taken++
    this.#lastMs = nowMs
  }

  /** @param service by its name, whose changes of health are told, too */
  read(service: string | null): History {
    const since = this.#wallMs() - HOUR_MS
    const changes = this.#changes.filter(
      (one) => service !== null && one.atMs >= since && one.service?.replace(' ', '/') === service,
    )
    let line = 0
    const plots = PLOTS.map(({ title, lines }): PlotShown => {
      const shown = lines.map(({ name }) => ({ name, values: this.#line(line++) }))
      return { title, lines: shown }
    })
    return {
      at: new Date(this.#lastMs).toISOString(),
      everyMs: SAMPLE_MS,
      samples: SAMPLES,
      plots,
      changes: changes.map(({ atMs, server, state, words }) => {
        return { at: new Date(atMs).toISOString(), server, state: state ?? 'down', words }
      }),
    }
  }

  /** Oldest first. */
  #line(i: number): number[] {
    const values = this.#values[i]!
    const count = Math.min(this.#taken, SAMPLES)
    return Array.from({ length: count }, (_, k) => rounded(values[(this.#taken - count + k) % SAMPLES]!))
  }
}

/** As far as a screen shows it. */
const rounded = (value: number): number => Number(value.toPrecision(4))
