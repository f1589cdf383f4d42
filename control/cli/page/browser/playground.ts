/** The playground in a browser: lines on one side, the way of a packet on the other, all of it in the address. */
import { TCP_FLAGS } from '../../../../net/packet/build.ts'
import { verdictWords } from '../../../insight/explain/verdict-words.ts'
import { EXAMPLES } from '../playground/examples.ts'
import { Playground, type Told } from '../playground/playground.ts'
import { part, setText } from './dom.ts'
import { showSteps } from './steps.ts'

/** The packet program, packed with gzip, in base64; put in by the build. */
declare const PACKET_PROGRAM: string
/** docs/verdicts.md */
declare const VERDICTS: string

/** A link longer than this no mail takes, and nobody has typed. */
const LINK_MAX = 16_000
/** Of packets that were sent, those that are listed. */
const SENT_MAX = 50

const lines = part('lines', HTMLTextAreaElement)
let module: WebAssembly.Module
let playground: Playground
/** One thing after the other. */
let turn: Promise<void> = Promise.resolve()

async function unpacked(bytes: Uint8Array<ArrayBuffer>, format: CompressionFormat): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format))
  return new Uint8Array(await new Response(stream).arrayBuffer())
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))
}

// A state is a link

async function linkOf(text: string): Promise<string> {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream('deflate-raw'))
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer())
  const base64 = btoa(String.fromCharCode(...bytes))
  return `#${base64.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')}`
}

async function textOf(link: string): Promise<string | null> {
  if (link.length < 2 || link.length > LINK_MAX) return null
  try {
    const base64 = link.slice(1).replaceAll('-', '+').replaceAll('_', '/')
    return new TextDecoder().decode(await unpacked(bytesOf(base64), 'deflate-raw'))
  } catch {
    return null
  }
}

async function keep(): Promise<void> {
  const link = await linkOf(lines.value)
  if (link.length <= LINK_MAX) history.replaceState(null, '', link)
}

// Doing

function fresh(): void {
  playground = new Playground({ module, words: verdictWords(VERDICTS) })
  for (const id of ['said', 'sent', 'steps']) part(id, HTMLElement).replaceChildren()
  setText(part('words', HTMLElement), '')
}

function inTurn(what: () => Promise<void>): void {
  turn = turn.then(what).catch((error: unknown) => {
    setText(part('words', HTMLElement), error instanceof Error ? error.message : String(error))
  })
}

async function doAll(): Promise<void> {
  fresh()
  for (const line of lines.value.split('\n')) await doLine(line)
  await show()
}

async function doLine(line: string): Promise<Told | null> {
  const told = await playground.run(line)
  if (told === null) return null
  if (told.kind === 'packet') showPacket(line.trim(), told)
  else if (told.text !== '') say(line.trim(), told.text, told.failed)
  return told
}

async function show(): Promise<void> {
  setText(part('listing', HTMLElement), await playground.listing('-Ln'))
  setText(part('connections', HTMLElement), await playground.listing('-Lnc'))
  await keep()
}

function say(line: string, text: string, failed: boolean): void {
  const item = document.createElement('li')
  const heading = document.createElement('h3')
  heading.textContent = line
  const output = document.createElement('pre')
  output.textContent = text
  if (failed) output.className = 'bad'
  item.append(heading, output)
  part('said', HTMLElement).append(item)
}

function showPacket(line: string, { explanation }: Extract<Told, { readonly kind: 'packet' }>): void {
  const { verdict, realServer, steps, action } = explanation
  const list = part('sent', HTMLElement)
  const item = document.createElement('li')
  const button = document.createElement('button')
  button.type = 'button'
  button.textContent = line
  button.onclick = () => showSteps(part('steps', HTMLElement), steps)
  const fate = document.createElement('span')
  fate.textContent = realServer === null ? ` ${verdict}` : ` ${verdict} → ${realServer}`
  fate.className = action === 'send' ? 'good' : action === 'drop' ? 'bad' : 'quiet'
  item.append(button, fate)
  list.append(item)
  while (list.children.length > SENT_MAX) list.firstElementChild!.remove()
  setText(part('words', HTMLElement), verdict)
  showSteps(part('steps', HTMLElement), steps)
}

/** The packet of the form, as a line. */
function packetLine(): string {
  const hex = part('hex', HTMLTextAreaElement).value.trim()
  if (hex !== '') return `send hex ${hex.replace(/\s*\n\s*/g, ' ')}`
  const value = (id: string): string => part(id, HTMLInputElement).value.trim()
  const protocol = part('protocol', HTMLSelectElement).value
  return `send ${protocol} ${value('from')} ${value('to')} ${protocol === 'tcp' ? value('flags') : ''}`.trim()
}

async function sendOne(): Promise<void> {
  const line = packetLine()
  const told = await doLine(line)
  // What makes no sense has not happened.
  if (told?.kind === 'packet') lines.value = `${lines.value.trimEnd()}\n${line}\n`.trimStart()
  await show()
}

function nextPort(): void {
  const from = part('from', HTMLInputElement)
  from.value = from.value.replace(/:(\d+)$/, (_, port: string) => `:${(Number(port) % 65_535) + 1}`)
}

async function begin(): Promise<void> {
  const example = part('example', HTMLSelectElement)
  for (const { name } of EXAMPLES) example.append(new Option(name, name))
  const flags = part('flags', HTMLInputElement)
  flags.title = Object.keys(TCP_FLAGS).join(', ')
  module = await WebAssembly.compile((await unpacked(bytesOf(PACKET_PROGRAM), 'gzip')) as BufferSource)
  const linked = await textOf(location.hash)
  lines.value = linked ?? EXAMPLES[0]!.lines
  example.onchange = () => {
    lines.value = EXAMPLES.find(({ name }) => name === example.value)?.lines ?? ''
    inTurn(doAll)
  }
  part('run', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault()
    inTurn(doAll)
  }
  lines.onkeydown = (event) => {
    if (event.ctrlKey && event.key === 'Enter') inTurn(doAll)
  }
  part('send', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault()
    inTurn(sendOne)
  }
  part('again', HTMLButtonElement).onclick = () => {
    nextPort()
    inTurn(sendOne)
  }
  addEventListener('hashchange', () => {
    inTurn(async () => {
      const text = await textOf(location.hash)
      if (text === null || text === lines.value) return
      lines.value = text
      await doAll()
    })
  })
  inTurn(doAll)
}

void begin()
