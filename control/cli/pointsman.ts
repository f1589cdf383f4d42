#!/usr/bin/env node
/** The operator's command: nouns read, verbs change. */
import { Command, CommanderError } from 'commander'
import { detachWithoutDaemon } from '../apply/detach.ts'
import { ClientError, call, NoDaemonError } from '../front/api/client.ts'
import { DEFAULT_SOCKET } from '../front/api/socket.ts'
import { diagnose } from '../insight/doctor/checks.ts'
import { gatherFacts } from '../insight/doctor/facts.ts'
import type { Status } from '../insight/status.ts'
import { VERSION } from '../model/version.ts'
import type { ServiceShown } from './text.ts'
import { connectionsText, diagnosisText, servicesText, statusText, verdictsText } from './text.ts'

const socket = process.env.POINTSMAN_SOCKET || DEFAULT_SOCKET

interface Output {
  readonly json: boolean
}

function print(value: unknown, options: Output, text: () => string): void {
  process.stdout.write(options.json ? `${JSON.stringify(value, null, 2)}\n` : text())
}

async function status(options: Output): Promise<void> {
  const value = (await call(socket, 'GET', '/v1/status')) as Status
  print(value, options, () => statusText(value))
  if (!value.forwarding) process.exitCode = 1
}

async function services(options: Output): Promise<void> {
  const value = (await call(socket, 'GET', '/v1/services')) as ServiceShown[]
  print(value, options, () => servicesText(value))
}

async function verdicts(options: Output): Promise<void> {
  const value = (await call(socket, 'GET', '/v1/verdicts')) as Record<string, number>
  print(value, options, () => verdictsText(value))
}

async function connections(options: Output & { readonly limit?: string }): Promise<void> {
  const query = options.limit === undefined ? '' : `?limit=${encodeURIComponent(options.limit)}`
  const value = (await call(socket, 'GET', `/v1/connections${query}`)) as Parameters<
    typeof connectionsText
  >[0]
  print(value, options, () => connectionsText(value))
}

async function settings(options: Output): Promise<void> {
  const value = (await call(socket, 'GET', '/v1/sysctls')) as Record<string, number>
  print(value, options, () =>
    Object.entries(value)
      .map(([name, number]) => `${name}=${number}\n`)
      .join(''),
  )
}

async function set(assignments: readonly string[]): Promise<void> {
  const parsed = assignments.map((text) => {
    const match = /^([a-z_]+)=(-?\d{1,10})$/.exec(text)
    if (match === null) throw new ClientError(`Cannot set "${text}": expected NAME=VALUE with a whole number`)
    return { name: match[1]!, value: Number(match[2]) }
  })
  for (const { name, value } of parsed) {
    await call(socket, 'PUT', `/v1/sysctls/${encodeURIComponent(name)}`, { value })
  }
}

async function detach(): Promise<void> {
  try {
    await call(socket, 'POST', '/v1/detach', {})
  } catch (error) {
    if (!(error instanceof NoDaemonError)) throw error
    const found = await detachWithoutDaemon()
    if (!found) process.stderr.write('pointsman: nothing was attached in this network namespace\n')
  }
}

async function dataplane(kind: string | undefined, options: Output): Promise<void> {
  if (kind !== undefined) await call(socket, 'PUT', '/v1/dataplane', { kind })
  const { dataplane: value } = (await call(socket, 'GET', '/v1/status')) as Status
  print(value, options, () => `${value.kind} (${value.reason})\n`)
}

async function doctor(options: Output): Promise<void> {
  const diagnosis = diagnose(await gatherFacts(socket))
  print(diagnosis, options, () => diagnosisText(diagnosis))
  if (!diagnosis.healthy) process.exitCode = 1
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
    await services(options)
  })
  .addHelpText(
    'after',
    `
Exit status: 0 done; 1 failed, not forwarding, or the doctor found something; 2 wrong usage.
POINTSMAN_SOCKET names the daemon's socket (default ${DEFAULT_SOCKET}).`,
  )

/** `--json` may stand before or after the noun. */
function noun(name: string, description: string, action: (options: Output) => Promise<void>): Command {
  const command = program
    .command(name)
    .description(description)
    .option('--json', 'print JSON', false)
    .action(
      async () =>
        await action({
          ...command.opts(),
          json: command.optsWithGlobals<Output>().json || program.opts<Output>().json,
        }),
    )
  return command
}

noun('services', 'virtual services, their real servers and connections (also without any word)', services)
noun('status', 'data plane, interfaces and numbers; exit status 0 only when forwarding', status)
noun('verdicts', 'what became of packets', verdicts)
noun('connections', 'live connections', connections).option('--limit <count>', 'at most so many')
noun('settings', 'settings, by the names of net.ipv4.vs', settings)
noun('doctor', 'look for known traps: cause, consequence and what mends it', doctor)
program
  .command('set')
  .description('change settings')
  .argument('<name=value...>')
  .action(async (assignments: readonly string[]) => await set(assignments))
const plane = program
  .command('dataplane')
  .description('the data plane in use; with a word: change to it, connections go along')
  .argument('[xdp|userspace]')
  .option('--json', 'print JSON', false)
  .action(async (kind: string | undefined) => await dataplane(kind, plane.optsWithGlobals<Output>()))
program
  .command('detach')
  .description('stop forwarding and forget connections; the daemon ends (works without one too)')
  .action(detach)

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
    process.stderr.write(`pointsman: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  }
}
