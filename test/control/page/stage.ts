/** A director that somebody looks at in a browser. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import type { ExplainAsked, Explanation } from '../../../control/front/api/schema/explanation.ts'
import type { RuleDirector } from '../../../control/rules/director.ts'
import type { WasmDataplane } from '../../../dataplane/wasm/program.ts'
import { openWatched } from './director.ts'

export const BROWSER = '/usr/bin/chromium'
const isBuilt = existsSync(fileURLToPath(new URL('../../../dist/page.js', import.meta.url)))
export const skip = !isBuilt
  ? 'the page is not built: npm run build'
  : existsSync(BROWSER)
    ? false
    : 'needs a browser: apt-get install chromium'

/** Of everything that is waited for: a browser on a machine where much else goes on. */
const PATIENCE_MS = 120_000

export interface Stage {
  readonly director: RuleDirector
  readonly dataplane: WasmDataplane
  readonly url: string
  readonly browser: Browser
  explain(asked: ExplainAsked): Promise<Explanation>
  /** A tab with the page in it; what it complains of fails the test at its end. */
  look(options?: BrowserContextOptions, path?: string): Promise<Page>
  /** The same of any place; nothing else may be asked for. */
  open(place: string, options?: BrowserContextOptions): Promise<Page>
  close(): Promise<void>
}

export function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: BROWSER,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  })
}

/** @param clients so many connections from 198.51.x.x to two services */
export async function openStage(clients: number): Promise<Stage> {
  const { director, dataplane, asker, api, failures, url } = await openWatched(clients)
  const browser = await openBrowser()
  const complaints: string[] = []
  const open = async (place: string, options: BrowserContextOptions): Promise<Page> => {
    const near = place.startsWith(url) ? url : new URL('.', place).href
    const page = await (await browser.newContext(options)).newPage()
    page.setDefaultTimeout(PATIENCE_MS)
    page.on('console', (message) => {
      // What the director refuses the browser tells, too; the page says why.
      if (!/status of 400/.test(message.text())) complaints.push(`${message.type()}: ${message.text()}`)
    })
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('request', (request) => {
      if (!request.url().startsWith(near) && !request.url().startsWith('data:'))
        complaints.push(request.url())
    })
    await page.goto(place)
    return page
  }
  return {
    ...{ director, dataplane, url, browser },
    async explain(asked) {
      const answer = await asker.explain(asked, new AbortController().signal)
      assert.ok(answer !== null && 'explanation' in answer, JSON.stringify(answer))
      return answer.explanation
    },
    look: (options = {}, path = '') => open(`${url}${path}`, options),
    open: (place, options = {}) => open(place, options),
    async close() {
      await browser.close()
      await api.close(0)
      assert.deepEqual([...complaints, ...failures], [], 'nothing is complained of')
    },
  }
}
