/** `pointsman register`: whoever serves, in a registry, as long as it does. Needs no daemon, no root and no BPF. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { resolve } from 'node:path'
import { endpointText, parseEndpoint } from '../../net/endpoint.ts'
import { ClientError } from '../front/api/client.ts'
import { INT_MAX } from '../model/limits.ts'
import type { RegistryAddress } from '../model/pool.ts'
import { openRegistrar, stayRegistered } from '../registry/register/registrar.ts'
import { parseSelfCheck, watchSelf } from '../registry/register/self-check.ts'
import { type RegistryDocument, registry, registryAddress } from '../source/file/registries.ts'
import { parseDuration } from '../source/file/schema.ts'

export interface RegisterWords {
  readonly service: string
  readonly address: string
  readonly weight?: string
  readonly ttl: string
  readonly check?: string
  readonly endpoint?: readonly string[]
  readonly user?: string
  readonly passwordFile?: string
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

const KINDS = ['etcd', 'zookeeper', 'consul'] as const
const ENDPOINTS = {
  etcd: 'http://127.0.0.1:2379',
  zookeeper: '127.0.0.1:2181',
  consul: 'http://127.0.0.1:8500',
}
/** ZooKeeper and etcd have no shorter ones. */
const TTL_MS_MIN = 1000
const TTL_MS_MAX = 3_600_000
/** A command that was told to end, and has not. */
const KILL_MS = 10_000

type Say = (notice: string) => void

/** The registry as a file would describe it, so that the same words are refused. */
export function registryOf(
  kind: string,
  words: Omit<RegisterWords, 'service' | 'address' | 'ttl'>,
): RegistryAddress {
  const known = KINDS.find((one) => one === kind)
  if (known === undefined)
    throw new ClientError(`Unknown registry "${kind}": expected one of ${KINDS.join(', ')}`)
  const { endpoint = [ENDPOINTS[known]], user, passwordFile, ca, cert, key } = words
  const secret = known === 'consul' ? { token_file: passwordFile } : { user, password_file: passwordFile }
  const tls = { ca, cert, key }
  const secure = known === 'zookeeper' && Object.values(tls).some((one) => one !== undefined)
  const document = {
    kind: known,
    endpoints: [...endpoint],
    ...given({ ...secret, ...tls }),
    ...(secure ? { tls: true } : {}),
  }
  const parsed = registry.safeParse(document)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new ClientError(`Cannot use ${kind} at "${endpoint.join(', ')}": ${issue?.message ?? ''}`)
  }
  return registryAddress(parsed.data satisfies RegistryDocument, (file) => resolve(file))
}

function given(words: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(words).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
}

/** @returns the exit status: the command's own, if there is one */
export async function register(
  kind: string,
  command: readonly string[],
  words: RegisterWords,
  say: Say,
): Promise<number> {
  const address = registryOf(kind, words)
  const endpoint = parseEndpoint(words.address)
  if (endpoint?.port == null) {
    throw new ClientError(`Cannot register "${words.address}": expected ADDRESS:PORT, "[2001:db8::1]:80"`)
  }
  const ttlMs = parseDuration(words.ttl)
  if (ttlMs === null || ttlMs < TTL_MS_MIN || ttlMs > TTL_MS_MAX) {
    throw new ClientError(`Cannot read time "${words.ttl}": expected 1s to 1h`)
  }
  const weight = words.weight === undefined ? null : Number(words.weight)
  // A variable that is not set gives an empty word, which is no 0: that would be a drained real server.
  if (weight !== null && !(/^\d{1,10}$/.test(words.weight ?? '') && weight <= INT_MAX)) {
    throw new ClientError(
      `Cannot read weight "${words.weight}": expected 0 to ${INT_MAX}; without --weight it is the pool's own`,
    )
  }
  const check = words.check === undefined ? null : parseSelfCheck(words.check)
  if (words.check !== undefined && check === null) {
    throw new ClientError(
      `Cannot read check "${words.check}": expected tcp, http:/path, https:/path, grpc or exec:PROGRAM`,
    )
  }
  const name = endpointText({ address: endpoint.address, port: endpoint.port })
  const registration = { address, service: words.service, endpoint: name, weight, ttlMs }

  const all = new AbortController()
  const presence = new Presence(async (signal) => {
    const log = {
      registered: () => say(`${name} is in ${kind} under ${words.service}`),
      lost: (why: string) => say(`${name} is not kept in ${kind}: ${why}`),
    }
    await stayRegistered(await openRegistrar(registration), log, signal)
  })
  let signalled: NodeJS.Signals | null = null
  const stop = (signal: NodeJS.Signals): void => {
    signalled = signal
    all.abort()
  }
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, stop)

  const child = command.length === 0 ? null : run(command)
  const status = child === null ? null : statusOf(child, command)
  const ended = status?.then((code) => {
    all.abort()
    return code
  })
  if (check === null) presence.want(true)
  else {
    void watchSelf(
      check,
      name,
      ttlMs,
      (up, why) => {
        say(`${name} is ${up ? 'up' : 'down'}: ${why}`)
        presence.want(up)
      },
      all.signal,
    )
  }
  if (!all.signal.aborted) await once(all.signal, 'abort')
  // First nobody is sent here any more, then it ends.
  await presence.end()
  if (child === null || ended === undefined) return 0
  if (child.exitCode === null && child.signalCode === null) {
    child.kill(signalled ?? 'SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), KILL_MS)
    await status
    clearTimeout(late)
  }
  return await ended
}

/** In the registry or not, one after the other. */
class Presence {
  readonly #hold: (signal: AbortSignal) => Promise<void>
  #now: AbortController | null = null
  #turn: Promise<void> = Promise.resolve()

  constructor(hold: (signal: AbortSignal) => Promise<void>) {
    this.#hold = hold
  }

  want(wanted: boolean): void {
    if (!wanted) {
      this.#now?.abort()
      this.#now = null
      return
    }
    if (this.#now !== null) return
    const now = new AbortController()
    this.#now = now
    this.#turn = this.#turn.then(() => (now.signal.aborted ? undefined : this.#hold(now.signal)))
  }

  async end(): Promise<void> {
    this.want(false)
    await this.#turn
  }
}

function run([program = '', ...words]: readonly string[]): ChildProcess {
  return spawn(program, words, { stdio: 'inherit' })
}

/** As a shell has it. */
async function statusOf(child: ChildProcess, command: readonly string[]): Promise<number> {
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
    return code ?? 128 + (signal === null ? 0 : constants.signals[signal])
  } catch (error) {
    throw new ClientError(`Cannot run ${command[0]}: ${error instanceof Error ? error.message : error}`)
  }
}
