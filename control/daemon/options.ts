/** The daemon's command line. */
import { resolve } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { endpointText, parseEndpoint } from '../../net/endpoint.ts'
import { METRICS_DETAILS, type MetricsDetail } from '../front/api/route.ts'
import { DEFAULT_RUN_DIRECTORY } from '../front/api/socket.ts'
import { otlpEndpoint } from '../insight/metrics/otlp.ts'
import { VERSION } from '../model/version.ts'
import { FLEET_FORM, isFleetPlace, parseFleetPlace } from '../registry/fleet/place.ts'
import { DEFAULT_CONFIG } from '../source/file/default-path.ts'
import { DEFAULT_CAPACITY, PLANE_CHOICES, type PlaneChoice } from './choose-plane.ts'
import type { DaemonOptions } from './daemon.ts'
import type { Place } from './door.ts'
import type { SocketOptions } from './sockets.ts'

function count(least: number) {
  return (text: string): number => {
    const value = Number(text)
    if (!/^\d{1,9}$/.test(text) || value < least) {
      throw new InvalidArgumentError(`Expected a whole number of at least ${least}.`)
    }
    return value
  }
}

function interfaceName(text: string, previous: readonly string[]): readonly string[] {
  // The kernel's own rule (dev_valid_name).
  if (!/^[^\s/:]{1,15}$/.test(text) || text === '.' || text === '..') {
    throw new InvalidArgumentError('Expected the name of a network interface.')
  }
  return [...previous, text]
}

/** Where something listens: an address with a port. */
function place(text: string): Place {
  const endpoint = parseEndpoint(text)
  if (endpoint?.port == null || endpoint.port === 0) {
    throw new InvalidArgumentError('Expected an address with a port, such as 127.0.0.1:9417 or [::1]:9417.')
  }
  return { address: endpoint.address, port: endpoint.port }
}

function command(): Command {
  return new Command('pointsmand')
    .description('Layer-4 load balancer: owns the rules and the packet program that forwards by them.')
    .version(VERSION)
    .addOption(
      new Option('-i, --interface <name>', 'take packets from this interface (may be given several times)')
        .argParser(interfaceName)
        .default([] as readonly string[], 'those of the running program'),
    )
    .addOption(
      new Option('--dataplane <plane>', 'who forwards packets; none only keeps rules')
        .choices(PLANE_CHOICES)
        .default('auto'),
    )
    .addOption(
      new Option('--xdp-mode <mode>', 'how XDP is attached')
        .choices(['auto', 'native', 'generic'])
        .default('auto'),
    )
    .option('--own-clients', "serve the director's own sockets, too (xdp, tc)", false)
    .option('--kubernetes <file>', 'serve the LoadBalancer Services of the cluster that this file names, too')
    .option('--keepalived <file>', 'serve the virtual servers of this keepalived.conf, too')
    .option(
      '--config <file>',
      `configuration file, or etcd://HOST:PORT/PREFIX of a fleet; ${DEFAULT_CONFIG} if there is one and nothing is said`,
    )
    .option('--run-dir <directory>', 'where the socket and the state lie', DEFAULT_RUN_DIRECTORY)
    .option('--socket-group <group>', 'members of this group may use the socket, too')
    .option(
      '--read-only-socket [group]',
      'a second socket that only answers questions, for everybody or for a group',
    )
    .addOption(
      new Option('--connections <lines>', 'IPv4 connection table; a NAT connection takes two lines')
        .argParser(count(64))
        .default(DEFAULT_CAPACITY.connections4),
    )
    .addOption(
      new Option('--connections6 <lines>', 'IPv6 connection table')
        .argParser(count(64))
        .default(DEFAULT_CAPACITY.connections6),
    )
    .addOption(
      new Option('--services <count>', 'most virtual services')
        .argParser(count(1))
        .default(DEFAULT_CAPACITY.services),
    )
    .addOption(
      new Option('--real-servers <count>', 'most real servers, removed ones with connections included')
        .argParser(count(1))
        .default(DEFAULT_CAPACITY.realServers),
    )
    .addOption(
      new Option('--filters <count>', 'most prefixes that are denied or allowed')
        .argParser(count(1))
        .default(DEFAULT_CAPACITY.filters),
    )
    .addOption(
      new Option('--workers <count>', 'userspace: threads that forward').argParser(count(1)).default(1),
    )
    .addOption(
      new Option('--engine <name>', 'userspace: packet sockets, or AF_XDP where it is allowed')
        .choices(['packet', 'xdp'])
        .default('packet'),
    )
    .option('--busy-poll', 'userspace: never sleep; half the latency for a whole CPU', false)
    .addOption(
      new Option(
        '--metrics-listen <address:port>',
        'answer GET /metrics there, too, and nothing else (the socket always does)',
      ).argParser(place),
    )
    .addOption(
      new Option('--metrics-detail <detail>', 'how finely: by service, or by real server too')
        .choices(METRICS_DETAILS)
        .default('real-server'),
    )
    .addOption(
      new Option(
        '--otlp <url>',
        'push metrics there, too, once a minute: http://collector:4318 (OTLP/HTTP, JSON)',
      ).argParser((text: string): URL => {
        const url = otlpEndpoint(text)
        if (url === null)
          throw new InvalidArgumentError(
            'Expected http:// or https:// with a host, such as http://collector:4318.',
          )
        return url
      }),
    )
    .option('--otlp-headers <file>', 'fields of those requests, a line each: Authorization: Bearer TOKEN')
    .addOption(
      new Option(
        '--web <address:port>',
        'a page for a browser there: http://127.0.0.1:9418; elsewhere than on this host it takes a token',
      ).argParser(place),
    )
    .option('--web-token-file <file>', 'what whoever looks at the page has to type, in one line')
    .addOption(
      new Option('--log-level <level>', 'how much to log')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .allowExcessArguments(false)
    .exitOverride()
}

/** A file, or where a fleet has what is one for all of it. */
function configPath(text: string): string {
  if (!isFleetPlace(text)) return resolve(text)
  if (parseFleetPlace(text) === null)
    throw new InvalidArgumentError(`Cannot use --config "${text}": ${FLEET_FORM}`)
  return text
}

function readOnly(option: true | string | undefined): SocketOptions['readOnly'] {
  if (option === undefined) return null
  return option === true ? 'everybody' : { group: option }
}

/** Whoever comes from elsewhere needs a token, and one that is there is not to be empty. */
function webOptions(
  listen: Place | undefined,
  tokenFile: string | undefined,
  refuse: (message: string) => never,
): DaemonOptions['web'] {
  if (listen === undefined) {
    if (tokenFile !== undefined) refuse('error: --web-token-file says nothing without --web ADDRESS:PORT')
    return null
  }
  if (tokenFile !== undefined) return { listen, tokenFile: resolve(tokenFile) }
  if (!isLoopback(listen.address)) {
    refuse(
      `error: --web ${endpointText(listen)} can be reached from elsewhere: say what they have to know, --web-token-file FILE, or use 127.0.0.1`,
    )
  }
  return { listen, tokenFile: null }
}

function otlpOptions(
  url: URL | undefined,
  headersFile: string | undefined,
  refuse: (message: string) => never,
): DaemonOptions['metrics']['otlp'] {
  if (url !== undefined) return { url, headersFile: headersFile === undefined ? null : resolve(headersFile) }
  if (headersFile !== undefined) refuse('error: --otlp-headers says nothing without --otlp URL')
  return null
}

const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1'

/**
 * @param words without program and script
 * @param complain told what is wrong, or the help that was asked for
 * @throws CommanderError when there is nothing to run; its exitCode is 0 after `--help` and `--version`
 */
export function parseDaemonOptions(
  words: readonly string[],
  complain: { readonly out: (text: string) => void; readonly err: (text: string) => void },
): DaemonOptions & { readonly logLevel: string } {
  const program = command().configureOutput({ writeOut: complain.out, writeErr: complain.err })
  const options = program.parse(words, { from: 'user' }).opts<{
    interface: readonly string[]
    dataplane: PlaneChoice
    xdpMode: DaemonOptions['xdpMode']
    ownClients: boolean
    runDir: string
    config?: string
    kubernetes?: string
    keepalived?: string
    socketGroup?: string
    readOnlySocket?: true | string
    connections: number
    connections6: number
    services: number
    realServers: number
    filters: number
    workers: number
    busyPoll: boolean
    engine: DaemonOptions['engine']
    metricsListen?: Place
    metricsDetail: MetricsDetail
    otlp?: URL
    otlpHeaders?: string
    web?: Place
    webTokenFile?: string
    logLevel: string
  }>()
  return {
    interfaces: options.interface,
    dataplane: options.dataplane,
    xdpMode: options.xdpMode,
    ownClients: options.ownClients,
    runDirectory: options.runDir,
    keepalived: options.keepalived === undefined ? null : resolve(options.keepalived),
    kubernetes: options.kubernetes === undefined ? null : resolve(options.kubernetes),
    config: options.config === undefined ? null : configPath(options.config),
    sockets: { group: options.socketGroup ?? null, readOnly: readOnly(options.readOnlySocket) },
    capacity: {
      services: options.services,
      realServers: options.realServers,
      connections4: options.connections,
      connections6: options.connections6,
      filters: options.filters,
    },
    workers: options.workers,
    busyPoll: options.busyPoll,
    engine: options.engine,
    metrics: {
      listen: options.metricsListen ?? null,
      detail: options.metricsDetail,
      otlp: otlpOptions(options.otlp, options.otlpHeaders, (message) => program.error(message)),
    },
    web: webOptions(options.web, options.webTokenFile, (message) => program.error(message)),
    logLevel: options.logLevel,
  }
}
