#!/usr/bin/env node
/** The operator's command: nouns read, verbs change. */
import { Command, CommanderError } from 'commander'
import { DEFAULT_SOCKET } from '../front/api/socket.ts'
import { FILTER_ACTIONS } from '../model/filter.ts'
import { VERSION } from '../model/version.ts'
import { DEFAULT_CONFIG } from '../source/file/default-path.ts'
import type { LimitOptions } from './limits.ts'
import { NOUNS, type Noun, type Shown } from './nouns.ts'
import type { RecordWords } from './record.ts'
import type { RegisterWords } from './register.ts'
import { systemWords } from './text.ts'
import { dataplane, detach, getSettings, set } from './verbs.ts'

const socket = process.env.POINTSMAN_SOCKET || DEFAULT_SOCKET

interface Output {
  readonly json: boolean
}

const say = (notice: string): void => void process.stderr.write(`pointsman: ${notice}\n`)

function print(json: unknown, options: Output, text: () => string): void {
  process.stdout.write(options.json ? `${JSON.stringify(json, null, 2)}\n` : text())
}

async function show({ show: ask }: Noun, options: Output & Record<string, unknown>, argument?: string) {
  shown(await ask(socket, options, argument), options)
}

function shown({ json, text, good }: Shown, options: Output): void {
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
  if (noun.option !== undefined) command.option(...noun.option)
  if (noun.argument === undefined) command.action(async () => await show(noun, output(command)))
  else {
    const [name, description] = noun.argument
    command
      .argument(`<${name}>`, description)
      .action(async (argument: string) => await show(noun, output(command), argument))
  }
}

/** They bring along what reads and writes files, which no other word needs at its start. */
const site = () => import('./site.ts')

const check = program
  .command('check')
  .description('read a configuration file and say all that is wrong with it; needs no daemon')
  .argument('[file]', 'configuration file', DEFAULT_CONFIG)
  .option('--keepalived', 'it is a keepalived.conf; the exit status is that of keepalived -t')
  .option('--config-id <id>', "keepalived's -i: whose lines beginning with @ count (default: this host's)")
  .option('--json', 'print JSON', false)
  .action(async (file: string) => {
    const options = output(check)
    if (options.keepalived !== true) return shown((await site()).checkFile(file), options)
    const { checkKeepalived } = await import('./import.ts')
    const checked = checkKeepalived(file, options.configId)
    print(checked.json, options, checked.text)
    process.exitCode = checked.status
  })
program
  .command('import')
  .description(
    'print a keepalived.conf, or what ipvsadm -S has saved, as a configuration file; needs no daemon',
  )
  .argument('<file>', 'keepalived.conf, or rules as ipvsadm saves them')
  .action(async (file: string) => {
    const { importFile } = await import('./import.ts')
    process.stdout.write(await importFile(file, say))
  })
const diff = program
  .command('diff')
  .description('what applying a configuration file would change, and how many connections that touches')
  .argument('[file]', "the daemon's own unless given")
  .option('--take-over', 'as apply does')
  .option('--json', 'print JSON', false)
  .action(async (file: string | undefined) => {
    const options = output(diff)
    shown(await (await site()).diffFile(socket, file, options.takeOver === true), options)
  })
const apply = program
  .command('apply')
  .description('bring a configuration file in force: all of it, or nothing')
  .argument('[file]', "the daemon's own unless given")
  .option('--take-over', 'take over services that commands state otherwise, instead of refusing')
  .option('--to <place>', 'publish it for a fleet: etcd://HOST:2379/PREFIX')
  .option('--json', 'print JSON', false)
  .action(async (file: string | undefined) => {
    const options = output(apply)
    if (typeof options.to === 'string') {
      if (file === undefined) throw new Error('Which file? pointsman apply --to PLACE FILE')
      const { publish } = await import('./fleet.ts')
      shown(await publish(options.to, file, say), options)
      return
    }
    shown(await (await site()).applyFile(socket, file, options.takeOver === true, say), options)
  })
const exporting = program
  .command('export')
  .description('print the rules in force as a configuration file')
  .option('--json', 'print JSON', false)
  .action(async () => shown(await (await site()).exportSite(socket), output(exporting)))
program
  .command('schema')
  .description('print the JSON Schema of configuration files, for editors')
  .action(async () => void process.stdout.write((await site()).schemaText()))
program
  .command('drain')
  .description('give a real server no new connections, whoever states it; its connections go on')
  .argument('<service>', 'tcp/192.0.2.10:80, 192.0.2.10:80, fwmark/7')
  .argument('<real>', "10.0.0.1:80; without a port: the service's")
  .option('--for <time>', 'end it by itself after 90s, 10m, 2h')
  .action(async (service: string, real: string, options: { readonly for?: string }) => {
    process.stdout.write(await (await site()).drain(socket, service, real, options.for))
  })
program
  .command('undrain')
  .description('end a hold by hand: drain, or ipvsadm -e -w on the real server of a source')
  .argument('<service>', 'as drain')
  .argument('<real>', 'as drain')
  .action(async (service: string, real: string) => await (await site()).undrain(socket, service, real))
/** Only these two words need what it brings along. */
const filters = () => import('./filters.ts')

const lists = FILTER_ACTIONS.map((action) => {
  const list = program
    .command(action)
    .description(
      action === 'deny'
        ? 'sources that may not reach virtual services: prefixes, of which the longest counts'
        : 'exceptions from what is denied',
    )
  for (const what of ['add', 'delete'] as const) {
    const command = list
      .command(what)
      .description(what === 'add' ? 'add prefixes, or change them' : 'delete prefixes')
      .argument('[prefix...]', '198.51.100.0/24, 2001:db8::/32, or an address')
      .option('--file <file>', 'prefixes, one in each line; - is standard input')
      .option('--service <service>', 'for this one alone: tcp/192.0.2.10:80, fwmark/7')
    if (what === 'add') command.option('--for <time>', 'end it by itself after 90s, 10m, 2h')
    command.action(
      async (prefixes: string[], options: Record<string, string>) =>
        await (await filters()).changeFilters(socket, action, what, prefixes, options),
    )
  }
  const show = list
    .command('list')
    .description('what is in the list')
    .option('--json', 'print JSON', false)
    .action(async () => shown(await (await filters()).listFilters(socket, action), output(show)))
  list
    .command('flush')
    .description('delete all that commands have added')
    .option('--service <service>', 'those for this one alone; else those for all services')
    .action(
      async (options: Record<string, string>) =>
        await (await filters()).flushFilters(socket, action, options),
    )
  return list
})

/** Only `pointsman limit` needs what it brings along. */
const limits = () => import('./limits.ts')

const limit = program
  .command('limit')
  .description('how many connections each source may start to a service in a second, and have at a time')
limit
  .command('add')
  .description('limit each source, or change the limit')
  .argument('<service>', 'tcp/192.0.2.10:80, fwmark/7')
  .option('--rate <connections>', 'new ones in a second; after a pause as many at once')
  .option('--connections <connections>', 'so many at a time')
  .option(
    '--prefix <bits>',
    'addresses with so many bits in common are one source; 32 unless given, of IPv6 64',
  )
  .action(
    async (service: string, options: LimitOptions) =>
      await (await limits()).addLimit(socket, service, options),
  )
limit
  .command('delete')
  .description('limit them no more')
  .argument('<service>', 'as add')
  .action(async (service: string) => await (await limits()).deleteLimit(socket, service))
const limitList = limit
  .command('list')
  .description('which services have a limit')
  .option('--json', 'print JSON', false)
  .action(async () => shown(await (await limits()).listLimits(socket), output(limitList)))

/** Only `pointsman full-nat` needs what it brings along. */
const fullNats = () => import('./full-nat.ts')

const fullNat = program
  .command('full-nat')
  .description('which addresses real servers by full NAT see as their clients (ipvsadm -a --full-nat)')
fullNat
  .command('add')
  .description('addresses of this host; one that is there gets other ports')
  .argument('<address...>', '10.0.0.5, 2001:db8::5')
  .option('--ports <range>', '1024-32767; else the larger range of those that the host gives to no socket')
  .action(
    async (addresses: readonly string[], options: { ports?: string }) =>
      await (await fullNats()).addFullNat(socket, addresses, options),
  )
fullNat
  .command('delete')
  .description('for new connections; those that are there keep what they have')
  .argument('<address...>')
  .action(async (addresses: readonly string[]) => await (await fullNats()).deleteFullNat(socket, addresses))
const fullNatList = fullNat
  .command('list')
  .description('the addresses and their ports')
  .option('--json', 'print JSON', false)
  .action(async () => shown(await (await fullNats()).listFullNat(socket), output(fullNatList)))

/** Only `pointsman mark` needs what it brings along. */
const marks = () => import('./marks.ts')

const mark = program.command('mark').description('which packets have which firewall mark (ipvsadm -f)')
for (const [name, description] of [
  ['add', 'give packets a mark; where several rules match, the most specific counts'],
  ['delete', 'delete a rule, typed as it was added'],
] as const) {
  mark
    .command(name)
    .description(description)
    .argument('<mark>', '1 to 4294967295')
    .option('--to <prefix>', 'destination: 192.0.2.0/24, 2001:db8::1')
    .option('--from <prefix>', 'source')
    .option('--protocol <name>', 'tcp, udp or sctp')
    .option('--port <ports>', 'of the destination: 80, 1000-1999, or several with commas between')
    .option('--interface <name>', 'that packets come in by')
    .option('--family <4|6>', 'where no prefix says it; both unless given')
    .action(
      async (value: string, options: Record<string, string>) =>
        await (await marks()).changeMark(socket, name, value, options),
    )
}
const markList = mark
  .command('list')
  .description('the rules, the most specific first')
  .option('--json', 'print JSON', false)
  .action(async () => shown(await (await marks()).listMarks(socket), output(markList)))
mark
  .command('flush')
  .description('delete all rules that commands state, or those of one mark')
  .argument('[mark]')
  .action(async (value: string | undefined) => await (await marks()).flushMarks(socket, value))
const markImport = mark
  .command('import')
  .description('take the rules that give marks out of what iptables-save or nft list ruleset prints')
  .argument('<file>', 'or - for standard input')
  .option('--dry-run', 'only say what would be taken; needs no daemon')
  .option('--json', 'print JSON', false)
  .action(async (file: string) => {
    const options = output(markImport)
    shown(await (await marks()).importRules(socket, file, options.dryRun === true), options)
  })
const looking = program
  .command('top')
  .description('what goes on, once a second: services, their real servers, what is not forwarded')
  .option('--once', 'print it once and end; so it does where there is no terminal')
  .option('--sort <column>', 'new, packets, bytes, connections or name')
  .option('--filter <text>', 'services with this in their name')
  .option('--service <name>', 'the real servers of this one: tcp/192.0.2.10:80')
  .option('--json', 'print JSON, once', false)
  .action(async () => {
    const { top } = await import('./top/top.ts')
    const options = output(looking)
    await top(socket, { ...options, once: options.once === true })
    // A terminal that is listened to would keep it here.
    process.exit()
  })
const happening = program
  .command('events')
  .description('what has happened: health, rules and who changed them, sources, data plane, daemon')
  .option('-f, --follow', 'go on with each as it happens; a daemon that is started again is found again')
  .option('--kind <kind>', 'health, rules, source, dataplane or daemon alone')
  .option('--json', 'print JSON, a line for each', false)
  .action(async () => {
    const { events } = await import('./events.ts')
    const options = output(happening)
    const write = (text: string): void => void process.stdout.write(text)
    await events(socket, { ...options, follow: options.follow === true }, write, say)
  })
const explaining = program
  .command('explain')
  .description('what becomes of a packet, and why; nothing is changed by asking')
  .argument('[packet...]', 'tcp CLIENT:PORT ADDRESS:PORT')
  .option('--flags <flags>', 'of TCP: syn (unless said otherwise), ack, fin, rst, psh, urg, with commas')
  .option('--interface <name>', 'where it comes in; else where the sender is')
  .option('--count <packets>', 'so many, each from the next port: whom they reach')
  .option('--capture <file>', 'the frames of a pcap or pcapng file, one after the other')
  .option('--frame <number>', 'of the capture, this one alone and in full')
  .option('--snapshot <file>', 'by what pointsman snapshot has written, instead of a running daemon')
  .option('--json', 'print JSON', false)
  .action(async (packet: readonly string[]) => {
    const { explain } = await import('./explain.ts')
    await explain(socket, packet, output(explaining), (text) => void process.stdout.write(text))
  })
program
  .command('snapshot')
  .description(
    "write tables, rules and next hops into a file, for explain --snapshot; clients' addresses are in it",
  )
  .argument('<file>')
  .action(async (file: string) => {
    const { snapshot } = await import('./explain.ts')
    process.stdout.write(await snapshot(socket, file))
  })
program
  .command('record')
  .description(
    "packets as they come and as they leave, with verdicts, into a pcapng file; clients' data is in it",
  )
  .requiredOption('-w, --write <file>', 'or - for standard output')
  .option('--service <service>', 'of this one alone: tcp/192.0.2.10:80, fwmark/7')
  .option('--client <prefix>', 'from and to these clients alone')
  .option('--verdict <name...>', 'with these verdicts alone: see pointsman verdicts')
  .option('--snap <bytes>', 'of each frame (64 to 8192; 256 unless given)')
  .option(
    '--limit <limit...>',
    'ends it: packets (1000), bytes (10MB), a time (30s); 10m and 1GB unless given',
  )
  .option('--sample <1/N>', 'one packet of N')
  .action(async (options: RecordWords) => {
    const { record } = await import('./record.ts')
    await record(socket, options, say)
  })
const getting = program
  .command('get')
  .description('values of settings; of all of them, if none is named')
  .argument('[name...]')
  .option('--json', 'print JSON', false)
  .action(async (names: readonly string[]) => {
    const values = await getSettings(socket, names)
    const lines = Object.entries(values).map(([name, value]) => `${name}=${value}\n`)
    print(values, output(getting), () => lines.join(''))
  })
program
  .command('set')
  .description('change settings')
  .argument('<name=value...>')
  .action(async (assignments: readonly string[]) => await set(socket, assignments, say))
const plane = program
  .command('dataplane')
  .description('the data plane in use; with a word: change to it, connections go along')
  .argument('[xdp|tc|userspace]')
  .option('--json', 'print JSON', false)
  .action(async (kind: string | undefined) => {
    const value = await dataplane(socket, kind, say)
    print(value, output(plane), () => `${value.kind} (${value.reason})\n`)
  })
program
  .command('detach')
  .description('stop forwarding and forget connections; the daemon ends (works without one too)')
  .action(async () => await detach(socket, say))

const fleet = program
  .command('fleet')
  .description('which directors of a fleet have which revision of its configuration')
  .argument('[place]', "etcd://HOST:2379/PREFIX; the daemon's own unless given")
  .option('--rollback [revision]', 'publish an earlier revision again; the one before unless given')
  .option('--json', 'print JSON', false)
  .action(async (place: string | undefined) => {
    const words = await import('./fleet.ts')
    const options = output(fleet)
    const { rollback } = options
    if (rollback === undefined) shown(await words.showFleet(socket, place ?? null), options)
    else {
      if (typeof rollback === 'string' && !/^[1-9]\d{0,9}$/.test(rollback))
        throw new Error(`Cannot go back to "${rollback}": expected the number of a revision`)
      const at = place ?? (await words.ownFleet(socket))
      shown(await words.rollback(at, typeof rollback === 'string' ? Number(rollback) : null, say), options)
    }
  })

const several = (text: string, before: readonly string[] = []): readonly string[] => [...before, text]
program
  .command('register')
  .description('keep this real server in a registry while it serves; needs no daemon')
  .argument('<registry>', 'etcd, zookeeper or consul')
  .argument('[command...]', 'behind --: it is registered as long as this runs')
  .requiredOption('--service <name>', 'as the pool has it under name: /services/web/, /services/web, web')
  .requiredOption('--address <address>', 'where it serves: 10.0.0.1:80, "[2001:db8::1]:80"')
  .option('--weight <weight>', "the pool's own unless given")
  .option('--ttl <time>', 'how long it stays there after it has died', '10s')
  .option('--check <check>', 'tcp, http:/path, https:/path, grpc, exec:PROGRAM: registered while it is good')
  .option(
    '--endpoint <endpoint>',
    'of the registry (may be given several times); on this host unless given',
    several,
  )
  .option('--user <name>', 'to log in as')
  .option('--password-file <file>', 'with the password, or the token')
  .option('--ca <file>', 'with the authorities to trust')
  .option('--cert <file>', 'with our own certificate')
  .option('--key <file>', 'with its key')
  .action(async (registry: string, words: readonly string[], options: RegisterWords) => {
    const { register } = await import('./register.ts')
    process.exitCode = await register(registry, words, options, say)
  })

// `drain SERVICE REAL 10m` would hold for ever and look as if for ten minutes.
for (const command of [...program.commands, ...[mark, ...lists].flatMap((word) => word.commands)])
  command.allowExcessArguments(false)

// A reader that has seen enough (`pointsman connections | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit()
  say(`Cannot write to standard output: ${systemWords(error)}`)
  process.exit(1)
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
