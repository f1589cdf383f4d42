/** One ipvsadm command, from its words to its output and exit status. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Director } from '../../model/director.ts'
import { type DirectorRequest, execute } from './execute.ts'
import type { Names } from './names.ts'
import { helpHint, LIST_ALL, parse, type Refusal, type Request } from './parse.ts'
import { restoreLines } from './restore.ts'
import { usage, VERSION } from './usage.ts'

export interface IpvsadmCommand {
  /** The program's name, then its arguments; strings are taken as UTF-8. */
  readonly argv: readonly (string | Uint8Array)[]
  /** null: not read yet; a command that wants it says so. */
  readonly stdin: string | Uint8Array | null
  readonly director: Director
  /** Asked once per command. */
  readonly names: () => Names
}

export interface IpvsadmResult {
  readonly status: number
  readonly stdout: Buffer
  readonly stderr: Buffer
}

export const STDIN_WANTED = 'stdin wanted'

/** Lines of a restore after which others get their turn on the daemon's only thread. */
const LINES_PER_TURN = 2000

const bytes = (value: string | Uint8Array): string => Buffer.from(value as Uint8Array).toString('latin1')

/** State of one run: output so far, and whether the packet path has to catch up. */
interface Run {
  readonly director: Director
  readonly names: Names
  readonly stdout: string[]
  readonly stderr: string[]
  changed: boolean
}

export async function runIpvsadm(command: IpvsadmCommand): Promise<IpvsadmResult | typeof STDIN_WANTED> {
  const words = command.argv.map(bytes)
  const run: Run = {
    director: command.director,
    names: command.names(),
    stdout: [],
    stderr: [],
    changed: false,
  }
  const request = await read(words, run)
  let status: number
  if (request.kind === 'restore') {
    if (command.stdin === null) return STDIN_WANTED
    status = await restore(bytes(command.stdin), words[0] ?? 'ipvsadm', run)
  } else {
    status = (await carryOut(request, words, run)).status
  }
  if (run.changed) {
    try {
      await command.director.settle()
    } catch (error) {
      run.stderr.push(
        `Cannot bring the change into force: ${error instanceof Error ? error.message : error}\n`,
      )
      status = 255
    }
  }
  return {
    status,
    stdout: Buffer.from(run.stdout.join(''), 'latin1'),
    stderr: Buffer.from(run.stderr.join(''), 'latin1'),
  }
}

/** Parses; where a name needed the network, waits and parses again. */
async function read(words: readonly string[], run: Run): Promise<Request | Refusal> {
  if (words.length <= 1) return LIST_ALL
  let request = parse(words, run.names)
  while (run.names.pending > 0) {
    await run.names.resolve()
    request = parse(words, run.names)
  }
  return request
}

interface Ended {
  readonly status: number
  /** The program is over, also in the middle of a restore. */
  readonly ends: boolean
}

async function carryOut(
  request: Exclude<Request, { readonly kind: 'restore' }> | Refusal,
  words: readonly string[],
  run: Run,
): Promise<Ended> {
  switch (request.kind) {
    case 'refused':
      run.stderr.push(`${request.message}\n`)
      return request
    case 'help':
      run.stdout.push(usage(words[0] ?? 'ipvsadm'))
      return { status: 0, ends: true }
    case 'version':
      run.stdout.push(VERSION)
      return { status: 0, ends: true }
    default:
      return await direct(request, run)
  }
}

async function direct(request: DirectorRequest, run: Run): Promise<Ended> {
  let done = execute(request, run.director, run.names)
  // Only listings ask for names, so doing it again changes nothing.
  while (run.names.pending > 0) {
    await run.names.resolve()
    done = execute(request, run.director, run.names)
  }
  if (done.stdout !== '') run.stdout.push(done.stdout)
  if (done.stderr !== '') run.stderr.push(done.stderr)
  run.changed ||= done.changed
  return done
}

/**
 * Runs the lines one after the other. Changes the director refuses and words popt does not understand are
 * reported and passed over; any other wrong line ends the restore, as does a refused listing. The status
 * is that of the last line carried out.
 */
async function restore(input: string, program: string, run: Run): Promise<number> {
  let status = 0
  let lines = 0
  for (const words of restoreLines(input, program)) {
    if (++lines % LINES_PER_TURN === 0) await nextTurn()
    let request = parse(words, run.names)
    if (run.names.pending > 0) request = await read(words, run)
    if (request.kind === 'restore') {
      // A restore within a restore would read its own input.
      run.stderr.push(`${helpHint(program)}\n`)
      return 255
    }
    const ended = await carryOut(request, words, run)
    status = ended.status
    if (ended.ends) break
  }
  return status
}
