/** One ipvsadm command, from its words to its output and exit status. */
import { Turns } from '../../apply/turns.ts'
import type { Director } from '../../model/director.ts'
import { serviceKey } from '../../model/identity.ts'
import type { ServiceId } from '../../model/service.ts'
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

const bytes = (value: string | Uint8Array): string => Buffer.from(value as Uint8Array).toString('latin1')

/** State of one run: output so far, and what the packet path has to catch up with. */
interface Run {
  readonly director: Director
  readonly names: Names
  readonly stdout: Buffer[]
  readonly stderr: string[]
  changed: boolean
  /** The services it is about, by identity: whether others are in force is not this command's affair. */
  readonly own: Map<string, ServiceId>
}

export async function runIpvsadm(command: IpvsadmCommand): Promise<IpvsadmResult | typeof STDIN_WANTED> {
  const words = command.argv.map(bytes)
  const run: Run = {
    director: command.director,
    names: command.names(),
    stdout: [],
    stderr: [],
    changed: false,
    own: new Map(),
  }
  const request = await read(words, run)
  let status: number
  if (request.kind === 'restore') {
    if (command.stdin === null) return STDIN_WANTED
    status = await restore(bytes(command.stdin), words[0] ?? 'ipvsadm', run)
  } else {
    status = (await carryOut(asBuilt(request), words, run)).status
  }
  if (run.changed) {
    try {
      await command.director.settle(run.own.values())
    } catch (error) {
      run.stderr.push(
        `Cannot bring the change into force: ${error instanceof Error ? error.message : error}\n`,
      )
      status = 255
    }
  }
  return {
    status,
    stdout: Buffer.concat(run.stdout),
    stderr: Buffer.from(run.stderr.join(''), 'latin1'),
  }
}

/**
 * Debian's kernel is built without `twos`, and scripts that try it get the same answer here. It is for files, the
 * API, and to restore what was saved.
 */
function asBuilt<T extends Request | Refusal>(request: T): T {
  if (request.kind !== 'add-service' && request.kind !== 'edit-service') return request
  if (request.service.scheduler !== 'twos') return request
  return { ...request, service: { ...request.service, scheduler: 'twos, which is not built' } }
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
      run.stdout.push(Buffer.from(usage(words[0] ?? 'ipvsadm'), 'latin1'))
      return { status: 0, ends: true }
    case 'version':
      run.stdout.push(Buffer.from(VERSION, 'latin1'))
      return { status: 0, ends: true }
    default:
      return await direct(request, run)
  }
}

/** Lines become bytes while they are young: a hundred thousand strings cost more to keep than to make. */
const PIECE = 64 * 1024

function inPieces(lines: Iterable<string>): Buffer[] {
  const pieces: Buffer[] = []
  let text = ''
  for (const line of lines) {
    text += line
    if (text.length < PIECE) continue
    pieces.push(Buffer.from(text, 'latin1'))
    text = ''
  }
  if (text !== '') pieces.push(Buffer.from(text, 'latin1'))
  return pieces
}

async function direct(request: DirectorRequest, run: Run): Promise<Ended> {
  let done = execute(request, run.director, run.names)
  let stdout = inPieces(done.stdout)
  // Only listings ask for names, so doing it again changes nothing.
  while (run.names.pending > 0) {
    await run.names.resolve()
    done = execute(request, run.director, run.names)
    stdout = inPieces(done.stdout)
  }
  run.stdout.push(...stdout)
  if (done.stderr !== '') run.stderr.push(done.stderr)
  if (done.changed) {
    run.changed = true
    const id = serviceOf(request)
    if (id !== null) run.own.set(serviceKey(id), id)
  }
  return done
}

/** The service that a change is about; null where it is about none, or about all. */
function serviceOf(request: DirectorRequest): ServiceId | null {
  switch (request.kind) {
    case 'add-service':
    case 'edit-service':
      return request.service.id
    case 'delete-service':
    case 'add-server':
    case 'edit-server':
    case 'delete-server':
      return request.id
    default:
      return null
  }
}

/** Thrown where the time of somebody else is needed: nothing has happened yet. */
const NAMES_WANTED = new Error('Names of hosts are not known yet')

/**
 * Runs the lines one after the other, as one change: everybody else sees the old rules until the last line
 * is through, and then the new ones. Changes the director refuses and words popt does not understand are
 * reported and passed over; any other wrong line ends the restore, as does a refused listing, and what came
 * before it stands. The status is that of the last line carried out.
 */
async function restore(input: string, program: string, run: Run): Promise<number> {
  for (;;) {
    try {
      return await run.director.transact(async (director) => {
        const inside: Run = { ...run, director }
        const status = await carryOutLines(input, program, inside)
        run.changed = inside.changed
        return status
      })
    } catch (error) {
      if (error !== NAMES_WANTED) throw error
    }
    run.stdout.length = 0
    run.stderr.length = 0
    run.own.clear()
    // Nothing is being changed meanwhile: only here somebody else decides how long it takes.
    await run.names.resolve()
  }
}

/** A line is gone when the next one is read: a hundred thousand cost more to keep than to read. */
async function carryOutLines(input: string, program: string, run: Run): Promise<number> {
  const turns = new Turns()
  let status = 0
  for (const words of restoreLines(input, program)) {
    if (turns.over) await turns.pass()
    const request = parse(words, run.names)
    // While names are unknown, a line may look wrong that is not: the others are only asked for theirs.
    if (run.names.pending > 0) continue
    if (request.kind === 'restore') {
      // A restore within a restore would read its own input.
      run.stderr.push(`${helpHint(program)}\n`)
      return 255
    }
    const ended = await carryOut(request, words, run)
    status = ended.status
    if (ended.ends) break
  }
  if (run.names.pending > 0) throw NAMES_WANTED
  return status
}
