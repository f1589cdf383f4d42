/** A screen that is drawn on and given back as it was, however the program ends. */
import type { ReadStream, WriteStream } from 'node:tty'
import type { Row } from './screen.ts'

const ESC = '\u001b['
/** The other screen, without a cursor and without line wrap. */
const ENTER = `${ESC}?1049h${ESC}?25l${ESC}?7l${ESC}2J`
const LEAVE = `${ESC}?7h${ESC}?25h${ESC}?1049l`
/** Whoever knows it shows what is between at once. */
const TOGETHER = [`${ESC}?2026h`, `${ESC}?2026l`] as const

const STYLES: Readonly<Record<NonNullable<Row['style']>, string>> = {
  bold: '1',
  inverse: '7',
  red: '31;1',
  dim: '2',
}

const KEYS: Readonly<Record<string, string>> = {
  '\u001b[A': 'up',
  '\u001bOA': 'up',
  '\u001b[B': 'down',
  '\u001bOB': 'down',
  '\u001b[C': 'right',
  '\u001bOC': 'right',
  '\u001b[D': 'left',
  '\u001bOD': 'left',
  '\u001b[5~': 'pageup',
  '\u001b[6~': 'pagedown',
  '\r': 'enter',
  '\n': 'enter',
  '\u007f': 'backspace',
  '\b': 'backspace',
  '\u001b': 'escape',
}

export interface Listener {
  key(name: string): void
  resized(): void
}

export class Terminal {
  readonly #input: ReadStream
  readonly #output: WriteStream
  readonly #colours: boolean
  #shown: string[] = []
  #isOpen = false

  constructor(input: ReadStream, output: WriteStream, colours: boolean) {
    this.#input = input
    this.#output = output
    this.#colours = colours
  }

  get width(): number {
    return Math.max(40, this.#output.columns ?? 80)
  }

  get height(): number {
    return Math.max(12, this.#output.rows ?? 24)
  }

  open({ key, resized }: Listener): void {
    this.#take()
    // Also where nobody has caught what went wrong.
    process.on('exit', () => this.close())
    this.#input.on('data', (data: Buffer) => {
      for (const name of keysOf(data.toString())) {
        if (name === '\u001a') this.#stop()
        else key(name)
      }
    })
    this.#output.on('resize', () => {
      this.#forget()
      resized()
    })
    process.on('SIGCONT', () => {
      if (!this.#isOpen) this.#take()
      this.#forget()
      resized()
    })
  }

  #take(): void {
    this.#isOpen = true
    this.#input.setRawMode(true)
    this.#input.resume()
    this.#output.write(ENTER)
  }

  #forget(): void {
    this.#shown = []
    this.#output.write(`${ESC}2J`)
  }

  /** Ctrl-Z: the shell gets its screen, until it lets us go on. */
  #stop(): void {
    this.close()
    process.kill(process.pid, 'SIGSTOP')
  }

  /** Only the lines that are others than before. */
  draw(rows: readonly Row[]): void {
    let text = ''
    for (const [i, row] of rows.entries()) {
      const line = this.#line(row)
      if (this.#shown[i] === line) continue
      this.#shown[i] = line
      text += `${ESC}${i + 1};1H${line}${ESC}K`
    }
    if (text !== '') this.#output.write(TOGETHER[0] + text + TOGETHER[1])
  }

  #line({ text, style }: Row): string {
    if (style === undefined || (!this.#colours && style === 'red')) return text
    return `${ESC}${STYLES[style]}m${text}${ESC}0m`
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#output.write(LEAVE)
    this.#input.setRawMode(false)
    this.#input.pause()
  }
}

/** Keys that came in one piece; a sequence nobody knows is none. */
export function* keysOf(data: string): Generator<string> {
  for (let at = 0; at < data.length; ) {
    const sequence = data[at] === ESCAPE ? escapeAt(data, at) : data[at]!
    at += sequence.length
    const name = KEYS[sequence]
    if (name !== undefined) yield name
    else if (sequence.length === 1) yield sequence
  }
}

const ESCAPE = ESC[0]!

/** ESC alone, or with what belongs to it: `[` up to a letter or `~`, `O` and a letter. */
function escapeAt(data: string, at: number): string {
  const rest = data.slice(at + 1)
  return ESCAPE + (/^(?:\[[0-9;]*[A-Za-z~]|O[A-Z])/.exec(rest)?.[0] ?? '')
}
