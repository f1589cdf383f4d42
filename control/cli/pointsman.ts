#!/usr/bin/env node
/** The operator's command: nouns read, verbs change. */
import { Command, CommanderError } from 'commander'
import { DEFAULT_SOCKET } from '../front/api/socket.ts'
import { VERSION } from '../model/version.ts'
import { NOUNS, type Noun } from './nouns.ts'
import { dataplane, detach, set } from './verbs.ts'

const socket = process.env.POINTSMAN_SOCKET || DEFAULT_SOCKET

interface Output {
  readonly json: boolean
}

const say = (notice: string): void => void process.stderr.write(`pointsman: ${notice}\n`)

function print(json: unknown, options: Output, text: () => string): void {
  process.stdout.write(options.json ? `${JSON.stringify(json, null, 2)}\n` : text())
}

async function show({ show: ask }: Noun, options: Output & Record<string, unknown>): Promise<void> {
  const { json, text, good } = await ask(socket, options)
  print(json, options, text)
  if (!good) process.exitCode = 1
}

const program = new Command('pointsman')
  .description('Shows and steers the load balancer. Rules are made with ipvsadm or the API.')
  .version(VERSION)
  .option('--json', 'print JSON', false)
  .exitOverride()
  .allowExcessArguments(true)
  .action(async (options: Output) => {
    const [word] = program.args
    if (word !== undefined) program.error(`error: unknown command "${word}", see pointsman --help`)
    await show(NOUNS[0]!, { ...options })
  })
  .addHelpText(
    'after',
    `
Exit status: 0 done; 1 failed, not forwarding, or the doctor found something; 2 wrong usage.
POINTSMAN_SOCKET names the daemon's socket (default ${DEFAULT_SOCKET}).`,
  )

/** `--json` may stand before or after the word. */
const output = (command: Command): Output & Record<string, unknown> => ({
  ...command.opts(),
  json: command.optsWithGlobals<Output>().json || program.opts<Output>().json,
})

for (const noun of NOUNS) {
  const command = program
    .command(noun.name)
    .description(noun.description)
    .option('--json', 'print JSON', false)
    .action(async () => await show(noun, output(command)))
  if (noun.option !== undefined) command.option(...noun.option)
}
program
  .command('set')
  .description('change settings')
  .argument('<name=value...>')
  .action(async (assignments: readonly string[]) => await set(socket, assignments, say))
const plane = program
  .command('dataplane')
  .description('the data plane in use; with a word: change to it, connections go along')
  .argument('[xdp|userspace]')
  .option('--json', 'print JSON', false)
  .action(async (kind: string | undefined) => {
    const value = await dataplane(socket, kind)
    print(value, output(plane), () => `${value.kind} (${value.reason})\n`)
  })
program
  .command('detach')
  .description('stop forwarding and forget connections; the daemon ends (works without one too)')
  .action(async () => await detach(socket, say))

// A reader that has seen enough (`pointsman connections | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2
  } else {
    say(error instanceof Error ? error.message : String(error))
    process.exitCode = 1
  }
}
