/**
 * The lab: client, director and three real servers on this machine, made and removed in less than a
 * second. `createLab` first removes whatever an interrupted run of the same prefix has left behind.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, rmSync } from 'node:fs'
import { labProcess } from './built.ts'
import { type Client, startClient } from './client.ts'
import { type CommandResult, must, run } from './command.ts'
import { LabDirector, removeTraces } from './director.ts'
import { inNamespace, namespacePath } from './namespace.ts'
import { createNetwork, destroyNetwork, portName } from './network.ts'
import { serverSettings } from './server-settings.ts'
import { realServers, topology } from './topology.ts'

const SERVER_START_TIMEOUT_MS = 120_000

export interface LabOptions {
  /** Begins the name of every namespace; at most 20 characters. Labs of different prefix do not meet. */
  readonly prefix?: string
  /** The lab may go on after this process (see `release`). */
  readonly outlive?: boolean
}

/** Packets one host sent with one source address and port, as counted on the bridges. */
export interface SentCount {
  /** Name of the host through whose link they came. */
  readonly host: string
  readonly wire: 'clients' | 'servers'
  readonly source: string
  readonly port: number
  readonly packets: number
}

export interface Lab {
  readonly prefix: string
  readonly director: LabDirector
  readonly client: Client
  /** Runs a command inside a host to its end. */
  exec(host: string, argv: readonly string[], input?: string): Promise<CommandResult>
  /** TCP and UDP from ports below 32768 (servers, not clients) seen on the bridges so far. */
  sent(): Promise<SentCount[]>
  /** Frames that were delivered to the director on both its links so far. */
  framesToDirector(): Promise<bigint>
  stopServer(name: string): Promise<void>
  startServer(name: string): Promise<void>
  destroy(): Promise<void>
  /** Lets go of a lab that was made to outlive this process: everything but the client stays up. */
  release(): Promise<void>
}

export const DEFAULT_PREFIX = 'pm-'

/** Run directory of the director of a lab. */
export function runDirectory(prefix: string): string {
  return prefix === DEFAULT_PREFIX ? '/run/pointsman-lab' : `/run/pointsman-lab-${prefix.replace(/-$/, '')}`
}

/** What the real servers complain about. */
function serverLog(prefix: string): string {
  return `${runDirectory(prefix)}.servers.log`
}

/** Removes a lab that nobody holds any more. */
export async function removeLab(prefix: string): Promise<void> {
  const director = new LabDirector(`${prefix}director`, runDirectory(prefix))
  // Before its namespace goes: what is pinned would stay in memory for good.
  if (existsSync(namespacePath(director.namespace)))
    await director.pointsman(['detach']).catch(() => undefined)
  await clear(prefix, director)
}

/** Namespaces and files of a lab in which nobody forwards any more. */
async function clear(prefix: string, { runDir }: LabDirector): Promise<void> {
  await destroyNetwork(prefix)
  removeTraces(runDir)
  rmSync(serverLog(prefix), { force: true })
}

export async function createLab(options: LabOptions = {}): Promise<Lab> {
  const prefix = options.prefix ?? DEFAULT_PREFIX
  await removeLab(prefix)
  try {
    return await build(prefix, options.outlive ?? false)
  } catch (error) {
    await removeLab(prefix).catch(() => undefined)
    throw error
  }
}

async function build(prefix: string, outlive: boolean): Promise<Lab> {
  await createNetwork(prefix)
  const servers = new Map<string, ChildProcess>()
  const startServer = async (name: string): Promise<void> => {
    servers.set(name, await spawnServer(prefix, name, outlive))
  }
  const [client] = await Promise.all([
    startClient(`${prefix}client`),
    ...realServers().map((server) => startServer(server.name)),
  ])
  const director = new LabDirector(`${prefix}director`, runDirectory(prefix), outlive)
  const network = `${prefix}net`

  return {
    prefix,
    director,
    client,
    exec: (host, argv, input) => run(inNamespace(prefix + host, argv), input === undefined ? {} : { input }),
    sent: () => readSentCounts(network),
    framesToDirector: () => readFramesToDirector(network),
    startServer,
    stopServer: async (name) => {
      await endServer(servers.get(name))
      servers.delete(name)
    },
    destroy: async () => {
      await director.remove()
      await client.stop()
      await Promise.all([...servers.values()].map(endServer))
      await clear(prefix, director)
    },
    release: async () => {
      await client.stop()
      director.release()
      for (const server of servers.values()) server.unref()
    },
  }
}

async function spawnServer(prefix: string, name: string, outlive: boolean): Promise<ChildProcess> {
  const [program, ...args] = inNamespace(
    prefix + name,
    labProcess('server', [JSON.stringify(serverSettings(name))]),
  )
  const log = openSync(serverLog(prefix), 'a')
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', log], detached: outlive })
  closeSync(log)
  const { stdout } = child
  if (stdout === null) throw new Error('No pipe to the real server')
  await new Promise<void>((resolve, reject) => {
    const late = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`Real server ${name} was not ready after ${SERVER_START_TIMEOUT_MS} ms`))
    }, SERVER_START_TIMEOUT_MS)
    child.on('error', reject)
    child.on('exit', (status) => {
      clearTimeout(late)
      reject(new Error(`Real server ${name} ended with status ${status}, see ${serverLog(prefix)}`))
    })
    stdout.once('data', () => {
      clearTimeout(late)
      stdout.destroy() // it says nothing more
      resolve()
    })
  })
  return child
}

async function endServer(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill('SIGKILL') // connections may be open, and nobody is left to answer
  await gone
}

interface NftSet {
  readonly nftables: readonly {
    readonly set?: {
      readonly elem?: readonly {
        readonly elem: {
          readonly val: { readonly concat: readonly [string, string, number | string] }
          readonly counter: { readonly packets: number }
        }
      }[]
    }
  }[]
}

async function readSentCounts(network: string): Promise<SentCount[]> {
  const texts = await Promise.all(
    ['sent4', 'sent6'].map((set) =>
      must(inNamespace(network, ['nft', '--json', '--numeric', 'list', 'set', 'bridge', 'lab', set])),
    ),
  )
  return texts.flatMap((text) =>
    (JSON.parse(text) as NftSet).nftables.flatMap(({ set }) =>
      (set?.elem ?? []).map(({ elem }) => {
        const [port, source, number] = elem.val.concat
        const split = port.lastIndexOf('-')
        return {
          host: port.slice(0, split),
          wire:
            port.slice(split + 1) === topology.wires.clients.interface
              ? ('clients' as const)
              : ('servers' as const),
          source,
          port: Number(number),
          packets: elem.counter.packets,
        }
      }),
    ),
  )
}

interface LinkStatistics {
  readonly stats64: { readonly tx: { readonly packets: number } }
}

async function readFramesToDirector(network: string): Promise<bigint> {
  const counts = await Promise.all(
    (['clients', 'servers'] as const).map(async (wire) => {
      const text = await must([
        'ip',
        '-n',
        network,
        '-json',
        '-stats',
        'link',
        'show',
        'dev',
        portName('director', wire),
      ])
      return BigInt((JSON.parse(text) as LinkStatistics[])[0]?.stats64.tx.packets ?? 0)
    }),
  )
  return counts.reduce((sum, count) => sum + count, 0n)
}
