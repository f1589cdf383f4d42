/** What the page draws, as plain values: where packets go, the last hour, how healthy somebody was. */
import type { History } from '../../front/api/schema/history.ts'
import { bits, short } from '../top/figures.ts'
import type { View } from '../top/view.ts'
import type { Tone } from './content.ts'

/** An arrow with what goes along it, to whom. */
export interface Way {
  readonly key: string
  readonly to: string
  readonly rate: string
  /** Of the arrow, 1 to 8. */
  readonly width: number
  readonly about: string
  readonly tone: Tone
  /** Opens the service of this name. */
  readonly opens: string | null
}

export interface Ways {
  readonly title: string
  /** From clients to the director. */
  readonly all: Pick<Way, 'rate' | 'width'>
  readonly to: readonly Way[]
  readonly more: string
}

/** As many arrows as somebody follows. */
const WAYS_MAX = 12

type Rates = NonNullable<View['overview']>['rates']
const packets = ({ inPps, outPps }: Rates): number => inPps + outPps
const rateOf = (rates: Rates): string =>
  `${short(packets(rates))} packets/s, ${bits(rates.inBps + rates.outBps)}bit/s`

/** To the services; of an open one to its real servers. */
export function ways({ overview, open }: View): Ways | null {
  if (overview === null) return null
  const ends = open === null ? servicesOf(overview) : (overview.servers ?? []).map(serverOf)
  const own = overview.services.find(({ name }) => name === open)
  const all = open === null ? overview.rates : (own?.rates ?? sum(ends.map(({ rates }) => rates)))
  const most = Math.max(packets(all), ...ends.map(({ rates }) => packets(rates)))
  const width = (rates: Rates): number => (most === 0 ? 1 : 1 + Math.round((7 * packets(rates)) / most))
  const shown = [...ends].sort((a, b) => packets(b.rates) - packets(a.rates)).slice(0, WAYS_MAX)
  const more = ends.length - shown.length
  return {
    title: open === null ? 'services' : `real servers of ${open}`,
    all: { rate: rateOf(all), width: width(all) },
    to: shown.map(({ rates, ...end }) => ({ ...end, rate: rateOf(rates), width: width(rates) })),
    more: more > 0 ? `and ${more} with less` : '',
  }
}

type End = Omit<Way, 'rate' | 'width'> & { readonly rates: Rates }

function servicesOf({ services }: NonNullable<View['overview']>): End[] {
  return services.map(({ name, rates, health, servers, down }) => ({
    ...{ key: name, to: name, opens: name, rates },
    about: `${servers - down} of ${servers} real servers`,
    tone: health === 'down' ? 'bad' : null,
  }))
}

type ServerShown = NonNullable<NonNullable<View['overview']>['servers']>[number]

function serverOf({ name, method, rates, weight, numbers, health }: ServerShown): End {
  const state = health === 'down' ? 'down' : weight === 0 ? 'drained' : `weight ${weight}`
  return {
    ...{ key: name, to: name, opens: null, rates },
    about: `${method}, ${state}, ${short(numbers.active ?? 0)} active`,
    tone: health === 'down' ? 'bad' : null,
  }
}

function sum(all: readonly Rates[]): Rates {
  const total = { cps: 0, inPps: 0, outPps: 0, inBps: 0, outBps: 0 }
  for (const rates of all)
    for (const name of Object.keys(total) as (keyof Rates)[]) total[name] += rates[name]
  return total
}

export interface Drawing {
  readonly title: string
  readonly lines: readonly { readonly name: string; readonly points: string }[]
  /** The value at the upper edge. */
  readonly top: string
  /** The same in words. */
  readonly words: string
}

/** Plots are this wide and high, from an hour ago to now. */
export const WIDE = 360
export const HIGH = 80

export function plots({ plots: all, samples }: History): readonly Drawing[] {
  return all.map(({ title, lines }) => {
    const most = Math.max(0, ...lines.flatMap(({ values }) => values))
    const words = lines.map(({ name, values }) => {
      const now = values.at(-1) ?? 0
      return `${name} ${short(now)} now, ${short(Math.max(0, ...values))} at most`
    })
    return {
      title,
      lines: lines.map(({ name, values }) => ({ name, points: pointsOf(values, most, samples) })),
      top: short(most),
      words: words.join('; '),
    }
  })
}

/** The last value stands at the right edge, however few there are. */
function pointsOf(values: readonly number[], most: number, samples: number): string {
  const step = WIDE / Math.max(1, samples - 1)
  return values
    .map((value, i) => {
      const x = WIDE - (values.length - 1 - i) * step
      const y = HIGH - (most === 0 ? 0 : (value / most) * HIGH)
      return `${x.toFixed(1)},${y.toFixed(1)}`
    })
    .join(' ')
}

export interface Strip {
  readonly key: string
  readonly name: string
  readonly parts: readonly { readonly from: number; readonly to: number; readonly state: 'up' | 'down' }[]
  readonly words: string
}

/** The service and those of its real servers whose health has changed within the hour, from 0 to `WIDE`. */
export function strips({ changes, everyMs, samples }: History, nowMs: number): readonly Strip[] {
  const hourMs = everyMs * samples
  const place = (at: string): number => {
    const ago = Math.min(hourMs, Math.max(0, nowMs - Date.parse(at)))
    return Math.round(WIDE * (1 - ago / hourMs))
  }
  const byName = new Map<string, History['changes'][number][]>()
  for (const change of changes) {
    const name = change.server ?? 'the service'
    byName.set(name, [...(byName.get(name) ?? []), change])
  }
  return Array.from(byName, ([name, own]) => {
    const [first] = own
    const last = own.at(-1)
    const before = { from: 0, state: first?.state === 'up' ? ('down' as const) : ('up' as const) }
    const begun = [before, ...own.map(({ at, state }) => ({ from: place(at), state }))]
    const parts = begun.map((part, i) => ({ ...part, to: begun[i + 1]?.from ?? WIDE }))
    const times = own.length === 1 ? 'once' : `${own.length} times`
    const words = `changed ${times}; ${last?.state}: ${last?.words}`
    return { key: name, name, parts: parts.filter(({ from, to }) => to > from), words }
  })
}
