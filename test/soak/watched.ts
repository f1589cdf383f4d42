/**
 * A day of being looked at: samples of 24 hours, a browser that is left open, a scraper every second, all of it as fast
 * as it goes. Neither the director's memory nor the page's may grow.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { CDPSession } from 'playwright-core'
import { openBrowser } from '../control/page/stage.ts'
import { mib } from './process-size.ts'
import type { Asked, Told } from './watched-process.ts'

/** Of five seconds each. */
const DAY = 17_280
/** Parts of it, after each of which memory is looked at. */
const PARTS = 12
/** The first of them fill what has a bound. */
const WARM = 4
const GROWTH_MAX_BYTES = 3 << 20
/** Rows that have just been exchanged are there until they are collected, at the latest with the next. */
const NODES_MORE_MAX = 2500
/** A second of the page's. */
const SECOND_MS = 10

export interface WatchedOptions {
  readonly samples?: number
  /** Looks of the page, and scrapes. */
  readonly looks: number
  readonly tell: (line: string) => void
}

interface Memory {
  readonly director: number
  readonly page: number
  readonly nodes: number
}

/** Seconds of the page go by faster; what it asks for, and does with it, is the same. */
const HURRY = `{
  const real = window.setTimeout.bind(window)
  const now = performance.now.bind(performance)
  window.setTimeout = (call, ms = 0) => real(call, ms * ${SECOND_MS / 1000})
  performance.now = () => now() / ${SECOND_MS / 1000}
}`

async function pageMemory(session: CDPSession): Promise<Omit<Memory, 'director'>> {
  await session.send('HeapProfiler.collectGarbage')
  const { usedSize } = await session.send('Runtime.getHeapUsage')
  const { nodes } = await session.send('Memory.getDOMCounters')
  return { page: usedSize, nodes }
}

/** What is wrong, in words. */
export async function runWatched({ samples = DAY, looks, tell }: WatchedOptions): Promise<string[]> {
  const child = fork(fileURLToPath(new URL('watched-process.ts', import.meta.url)), {
    execArgv: ['--import', 'tsx', '--expose-gc'],
  })
  const heard = async (): Promise<Told> => {
    const [told] = (await once(child, 'message', { signal: AbortSignal.timeout(600_000) })) as [Told]
    return told
  }
  const goOn = async (more: number): Promise<Told> => {
    const told = heard()
    child.send({ samples: more } satisfies Asked)
    return await told
  }
  const problems: string[] = []
  try {
    const { url, metrics } = await heard()
    const browser = await openBrowser()
    try {
      const page = await browser.newPage()
      await page.addInitScript(HURRY)
      let asked = 0
      page.on('request', (request) => {
        if (request.url().includes('/v1/overview')) asked++
      })
      page.on('pageerror', (error) => problems.push(`the page: ${error}`))
      await page.goto(url)
      const service = page.getByRole('button', { name: 'tcp/192.0.2.10:80' }).first()
      await service.click()
      const session = await page.context().newCDPSession(page)
      const seen: Memory[] = []
      for (let part = 1; part <= PARTS; part++) {
        for (let scrapes = 0; scrapes * PARTS < looks || asked * PARTS < looks * part; scrapes++) {
          const answer = await fetch(metrics)
          if (!answer.ok) throw new Error(`A scrape was answered with ${answer.status}`)
          await answer.arrayBuffer()
        }
        const { heap, failures } = await goOn(Math.ceil(samples / PARTS))
        if (failures > 0) problems.push(`${failures} requests failed`)
        seen.push({ director: heap, ...(await pageMemory(session)) })
        const { director, page: own, nodes } = seen.at(-1)!
        tell(`part ${part}: ${asked} looks; director ${mib(director)}, page ${mib(own)}, ${nodes} nodes`)
      }
      problems.push(...growth(seen))
    } finally {
      await browser.close()
    }
  } finally {
    child.disconnect()
    if (child.exitCode === null) await once(child, 'exit')
  }
  return problems
}

/** The last parts against the first ones after everything was full. */
export function growth(seen: readonly Memory[]): string[] {
  const least = (all: readonly Memory[], of: (one: Memory) => number): number => Math.min(...all.map(of))
  const half = WARM + Math.floor((seen.length - WARM) / 2)
  const [early, late] = [seen.slice(WARM, half), seen.slice(half)]
  const more = (of: (one: Memory) => number): number => least(late, of) - least(early, of)
  const problems: string[] = []
  for (const [name, of] of [
    ['director', ({ director }: Memory) => director],
    ['page', ({ page }: Memory) => page],
  ] as const) {
    if (more(of) > GROWTH_MAX_BYTES)
      problems.push(`the ${name} grew by ${mib(more(of))}, allowed are ${mib(GROWTH_MAX_BYTES)}`)
  }
  const nodes = more((one) => one.nodes)
  if (nodes > NODES_MORE_MAX) problems.push(`the page has ${nodes} nodes more, allowed are ${NODES_MORE_MAX}`)
  return problems
}
