/** The traffic of the soak as seen from outside: client and servers in the lab's namespaces. */
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import type { Lab } from '../../lab/lab.ts'
import { realServers } from '../../lab/topology.ts'
import { SILENCE_MS } from './datagrams.ts'
import { Peer } from './peer.ts'
import { listenSettings } from './services.ts'
import type { TransferReport } from './transfers.ts'

const CLIENT = fileURLToPath(new URL('./client-process.ts', import.meta.url))
const SERVER = fileURLToPath(new URL('./server-process.ts', import.meta.url))

const nothing = z.unknown()
const phaseShape = z.object({
  sent: z.number(),
  answered: z.number(),
  changed: z.number(),
  sinkSent: z.number(),
})
const arrivedShape = z.object({ echo: z.number(), sink: z.number() })
const transfersShape = z.object({
  connections: z.number(),
  requests: z.number(),
  bytes: z.number(),
  bulk: z.number(),
  long: z.number(),
  failures: z.array(z.string()),
})

/** Datagrams of one phase at all ends. */
export interface DatagramCount {
  readonly sent: number
  readonly answered: number
  readonly sinkSent: number
  readonly sinkArrived: number
  /** Answered with other bytes than were sent. */
  readonly changed: number
  /** Requests that came to no real server, answers that did not come back, and sinks' datagrams. */
  readonly lost: number
}

export class Traffic {
  readonly #client: Peer
  readonly #servers: readonly Peer[]
  #phase = 0

  private constructor(client: Peer, servers: readonly Peer[]) {
    this.#client = client
    this.#servers = servers
  }

  /** Starts the processes; no traffic yet. */
  static async open(lab: Lab): Promise<Traffic> {
    const started = await Promise.allSettled([
      Peer.start(`${lab.prefix}client`, CLIENT),
      ...realServers().map(({ name }) =>
        Peer.start(lab.prefix + name, SERVER, [JSON.stringify(listenSettings(name))]),
      ),
    ])
    const peers = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    const failed = started.find((one) => one.status === 'rejected')
    const [client, ...servers] = peers
    if (failed !== undefined || client === undefined) {
      await Promise.all(peers.map((peer) => peer.stop()))
      throw new Error('The traffic cannot be started', { cause: failed?.reason })
    }
    return new Traffic(client, servers)
  }

  /** Connections that are to last until the end. */
  async openLong(perService: number): Promise<void> {
    await this.#client.ask('openLong', nothing, perService)
  }

  async start(): Promise<void> {
    await this.#client.ask('start', nothing)
    await this.beginPhase()
  }

  /** Ends a phase: no datagram is under way when this returns. `beginPhase` goes on. */
  async endPhase(): Promise<DatagramCount> {
    const { sent, answered, changed, sinkSent } = await this.#client.ask('pauseDatagrams', phaseShape)
    const sinkArrived = await this.#arrivedAtSinks(sinkSent)
    return { sent, answered, changed, sinkSent, sinkArrived, lost: sent - answered + sinkSent - sinkArrived }
  }

  /** Nobody answers those: waits until all have arrived, or no more do. */
  async #arrivedAtSinks(sent: number): Promise<number> {
    let [arrived, silentSince] = [0, performance.now()]
    for (;;) {
      const counts = await Promise.all(
        this.#servers.map((server) => server.ask('arrived', arrivedShape, this.#phase)),
      )
      // Those since it was asked last: a server forgets what it has told.
      const more = counts.reduce((sum, { sink }) => sum + sink, 0)
      if (more > 0) [arrived, silentSince] = [arrived + more, performance.now()]
      if (arrived >= sent || performance.now() - silentSince > SILENCE_MS) return arrived
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }

  async beginPhase(): Promise<void> {
    this.#phase += 1
    await this.#client.ask('beginPhase', nothing, this.#phase)
  }

  /** No TCP segment is under way when this returns. */
  async pauseTransfers(): Promise<void> {
    await this.#client.ask('pauseTransfers', nothing)
  }

  async resumeTransfers(): Promise<void> {
    await this.#client.ask('resumeTransfers', nothing)
  }

  transfers(): Promise<TransferReport> {
    return this.#client.ask('transfers', transfersShape)
  }

  /** Closes every connection. */
  end(): Promise<TransferReport> {
    return this.#client.ask('end', transfersShape)
  }

  async stop(): Promise<void> {
    await Promise.all([this.#client, ...this.#servers].map((peer) => peer.stop()))
  }
}
