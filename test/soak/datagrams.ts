/**
 * Datagrams of the soak at a steady rate, numbered, and counted by *phase*: a stretch of time in which
 * the director meets one thing. Phases are apart by a pause, so that each datagram and its answer
 * belong to one.
 */
import { createSocket, type Socket } from 'node:dgram'
import { datagram, nameIn } from './content.ts'
import { type SoakService, targetOf } from './services.ts'

/** Below the kernel's own range: no flow meets the connection of an earlier one by chance. */
const PORTS = { first: 12_000, last: 32_000 }
const FLOWS_PER_SERVICE = 3
const INTERVAL_MS = 150
/** A flow gets another source port, and so another connection, after this many datagrams. */
const LIFE_DATAGRAMS = 120
const LENGTHS = [40, 90, 300, 1200] as const
/** After so long without any answer none is under way any more, also where a process has to wait for a core. */
export const SILENCE_MS = 3000

export interface PhaseCount {
  readonly sent: number
  readonly answered: number
  readonly changed: number
  readonly sinkSent: number
}

interface Flow {
  readonly service: SoakService
  readonly id: number
  socket: Socket
  left: number
}

export class Datagrams {
  readonly #flows: Flow[] = []
  /** By `flow sequence`; the length sent. */
  readonly #open = new Map<string, number>()
  #timer: NodeJS.Timeout | null = null
  #phase = 0
  #sequence = 0
  #turn = 0
  #port = PORTS.first
  #sent = 0
  #answered = 0
  #changed = 0
  #sinkSent = 0

  async open(services: readonly SoakService[]): Promise<void> {
    for (const service of services)
      for (let i = 0; i < FLOWS_PER_SERVICE; i++)
        this.#flows.push({
          service,
          id: this.#flows.length,
          socket: await this.#connect(service),
          // Not all at once.
          left: Math.ceil((LIFE_DATAGRAMS * (i + 1)) / FLOWS_PER_SERVICE),
        })
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#tick(), INTERVAL_MS / this.#flows.length)
  }

  /** Sends no more, waits for answers that are due, and returns the counts of the phase so far. */
  async pause(): Promise<PhaseCount> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    let silentSince = performance.now()
    for (let answered = this.#answered; this.#open.size > 0; await sleep(25)) {
      if (this.#answered > answered) silentSince = performance.now()
      answered = this.#answered
      if (performance.now() - silentSince > SILENCE_MS) break
    }
    return {
      sent: this.#sent,
      answered: this.#answered,
      changed: this.#changed,
      sinkSent: this.#sinkSent,
    }
  }

  /** Goes on under another phase. */
  begin(phase: number): void {
    this.#phase = phase
    this.#open.clear()
    this.#sent = 0
    this.#answered = 0
    this.#changed = 0
    this.#sinkSent = 0
    this.start()
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    for (const { socket } of this.#flows.splice(0)) socket.close()
  }

  #tick(): void {
    const flow = this.#flows[this.#turn++ % this.#flows.length]
    if (flow === undefined) return
    if (flow.left-- <= 0) {
      flow.left = LIFE_DATAGRAMS
      const old = flow.socket
      setTimeout(() => old.close(), 4 * SILENCE_MS)
      void this.#connect(flow.service).then((socket) => {
        flow.socket = socket
      })
      return
    }
    this.#sequence = (this.#sequence + 1) % 1_000_000_000
    const sequence = this.#sequence
    const length = LENGTHS[sequence % LENGTHS.length] ?? 40
    const echo = flow.service.role === 'echo'
    if (echo) {
      this.#open.set(`${flow.id} ${sequence}`, length)
      this.#sent += 1
    } else this.#sinkSent += 1
    flow.socket.send(datagram({ phase: this.#phase, flow: flow.id, sequence }, length), (error) => {
      // ECONNREFUSED and the like tell of an earlier datagram; the kernel then did not take this one.
      if (error === null) return
      if (echo) {
        this.#open.delete(`${flow.id} ${sequence}`)
        this.#sent -= 1
      } else this.#sinkSent -= 1
    })
  }

  #connect(service: SoakService): Promise<Socket> {
    const { address, port } = targetOf(service)
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    this.#port = this.#port === PORTS.last ? PORTS.first : this.#port + 1
    socket.on('error', () => {}) // told with the datagram that met it
    socket.on('message', (message) => this.#receive(message))
    // Connected: it takes answers only from the virtual address.
    return new Promise((resolve) => {
      socket.bind(this.#port, () => socket.connect(port, address, () => resolve(socket)))
    })
  }

  #receive(message: Buffer): void {
    const name = nameIn(message)
    if (name === null || name.phase !== this.#phase) return
    const key = `${name.flow} ${name.sequence}`
    const length = this.#open.get(key)
    if (length === undefined) return
    this.#open.delete(key)
    this.#answered += 1
    if (!message.equals(datagram(name, length))) this.#changed += 1
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
