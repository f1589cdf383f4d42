/** `pointsman top`: what goes on, once a second, until somebody has seen enough. */
import { SORTS } from '../../counting/measures.ts'
import { ClientError, get } from '../../front/api/client.ts'
import { overviewAnswer } from '../../front/api/schema/overview.ts'
import { page, rowsOnPage, screen } from './screen.ts'
import { Terminal } from './terminal.ts'
import { questionOf, START, type View, withKey, withOverview } from './view.ts'

export interface TopOptions {
  readonly once: boolean
  readonly json: boolean
  readonly sort?: string
  readonly filter?: string
  readonly service?: string
}

const EVERY_MS = 1000
/** More than any screen has. */
const LIMIT = 500
const PIPE_WIDTH = 100

export async function top(socket: string, options: TopOptions): Promise<void> {
  const start: View = {
    ...START,
    sort: sortOf(options.sort ?? 'new'),
    filter: options.filter ?? '',
    open: options.service ?? null,
  }
  const { stdin, stdout } = process
  if (options.once || options.json || !stdin.isTTY || !stdout.isTTY) await once(socket, start, options.json)
  else await live(socket, start)
}

function sortOf(text: string): string {
  if (!SORTS.includes(text)) throw new ClientError(`Cannot sort by "${text}": expected ${SORTS.join(', ')}`)
  return text
}

async function once(socket: string, view: View, json: boolean): Promise<void> {
  const { value, raw } = await get(socket, questionOf(view, LIMIT), overviewAnswer)
  if (view.open !== null && value.servers === null)
    throw new ClientError(`No service "${view.open}"; see: pointsman services`)
  const seen = withOverview(view, value, Date.now())
  const width = process.stdout.columns ?? PIPE_WIDTH
  const text = json
    ? `${JSON.stringify(raw, null, 2)}\n`
    : page({ ...seen, row: -1 }, width, Date.now())
        .map((row) => `${row.text}\n`)
        .join('')
  process.stdout.write(text)
}

function live(socket: string, start: View): Promise<void> {
  const terminal = new Terminal(process.stdin, process.stdout, !process.env.NO_COLOR)
  let view = start
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined
    let asking = false
    let again = false
    const draw = (): void => terminal.draw(screen(view, terminal.width, terminal.height, Date.now()))
    const end = (): void => {
      clearTimeout(timer)
      view = { ...view, over: true }
      terminal.close()
      resolve()
    }
    const ask = async (): Promise<void> => {
      clearTimeout(timer)
      if (asking) {
        again = true
        return
      }
      asking = true
      const asked = view
      try {
        const { value } = await get(socket, questionOf(asked, LIMIT), overviewAnswer)
        // What was asked for meanwhile is another thing, and comes next.
        if (!view.paused && asked.open === view.open) view = withOverview(view, value, Date.now())
      } catch (error) {
        view = { ...view, trouble: firstLine(error) }
      }
      asking = false
      if (view.over) return
      draw()
      timer = setTimeout(() => void ask(), again ? 0 : EVERY_MS)
      again = false
    }
    terminal.open({
      key(name) {
        const before = view
        view = withKey(view, name, rowsOnPage(terminal.height))
        if (view.over) {
          end()
          return
        }
        draw()
        const isOther =
          view.open !== before.open || view.sort !== before.sort || view.filter !== before.filter
        if (isOther || (before.paused && !view.paused)) void ask()
      },
      resized: draw,
    })
    for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) process.on(signal, end)
    draw()
    void ask()
  })
}

function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  return message.split('\n')[0] ?? message
}
