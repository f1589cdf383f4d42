/**
 * What the threads of a race send and expect. Services: NAT over TCP and UDP, direct routing over TCP and UDP,
 * two real servers each; the last byte of a real server's next hop is its own, so that a packet that leaves
 * by another's shows. No flow is on two threads, as receive queues keep it, but answers of real servers are.
 */
import { ethernet, ipv4, tcp, udp } from '../packets/frame.ts'

export const MAC = {
  director: '02:00:00:00:00:01',
  other: '02:00:00:00:00:02',
  gateway: '02:00:00:00:00:fe',
} as const
export const VIP = '192.0.2.100'
const REAL_BASE = 10
const CLIENT_NET = '11.0'
export const CLIENT_PORT = 2000
/** Of each thread. */
const CLIENTS = 256

export interface Kind {
  readonly protocol: 'tcp' | 'udp'
  readonly method: 'nat' | 'direct-routing'
  readonly port: number
  readonly realPort: number
}

export const KINDS: readonly Kind[] = [
  { protocol: 'tcp', method: 'nat', port: 80, realPort: 8000 },
  { protocol: 'udp', method: 'nat', port: 81, realPort: 8001 },
  { protocol: 'tcp', method: 'direct-routing', port: 82, realPort: 82 },
  { protocol: 'udp', method: 'direct-routing', port: 83, realPort: 83 },
]
export const REALS_PER_SERVICE = 2

export const realAddress = (kind: number, which: number): string =>
  `10.0.2.${REAL_BASE + kind * REALS_PER_SERVICE + which}`
export const realMac = (kind: number, which: number): string =>
  `02:00:00:00:02:${(REAL_BASE + kind * REALS_PER_SERVICE + which).toString(16).padStart(2, '0')}`

const FLAGS = ['S', 'S', 'A', 'A', 'A', 'AF', 'AR', 'A'] as const

/** A small generator of its own: what a thread sends follows from its number. */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1
  }

  /** Below `limit`. */
  roll(limit: number): number {
    // xorshift32
    this.#state ^= this.#state << 13
    this.#state >>>= 0
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    this.#state >>>= 0
    return this.#state % limit
  }
}

export interface Sent {
  readonly kind: number
  readonly isAnswer: boolean
  readonly ifindex: number
  readonly frame: Uint8Array
}

const client = (number: number): string => `${CLIENT_NET}.${number >>> 8}.${number & 255}`

/** Frames of one thread, made once: the same bytes go in again and again. */
export class Traffic {
  readonly #requests: Sent[] = []
  readonly #answers: Sent[] = []

  constructor(
    thread: number,
    threads: number,
    interfaces: { readonly client: number; readonly server: number },
  ) {
    KINDS.forEach((service, kind) => {
      const segment = (ports: { sport: number; dport: number }, flags: string) =>
        service.protocol === 'tcp' ? tcp({ ...ports, flags }) : udp(ports)
      for (let n = 0; n < CLIENTS; n++) {
        const from = client(n * threads + thread)
        const flags = service.protocol === 'tcp' ? [...new Set(FLAGS)] : ['']
        for (const flag of flags) {
          const frame = ethernet(
            { src: MAC.other, dst: MAC.director },
            ipv4({ src: from, dst: VIP }, segment({ sport: CLIENT_PORT, dport: service.port }, flag)),
          )
          // As often as their place in the list says.
          const copies = Math.max(1, FLAGS.filter((one) => one === flag).length)
          const sent = { kind, isAnswer: false, ifindex: interfaces.client, frame }
          for (let copy = 0; copy < copies; copy++) this.#requests.push(sent)
        }
      }
      if (service.method !== 'nat') return
      for (let which = 0; which < REALS_PER_SERVICE; which++) {
        // To any client of any thread: mostly it belongs to no connection.
        for (let n = 0; n < CLIENTS * threads; n++) {
          const frame = ethernet(
            { src: MAC.other, dst: MAC.director },
            ipv4(
              { src: realAddress(kind, which), dst: client(n) },
              segment({ sport: service.realPort, dport: CLIENT_PORT }, 'A'),
            ),
          )
          this.#answers.push({ kind, isAnswer: true, ifindex: interfaces.server, frame })
        }
      }
    })
  }

  next(dice: Dice): Sent {
    const list = dice.roll(5) === 0 ? this.#answers : this.#requests
    return list[dice.roll(list.length)]!
  }
}

const ETHERNET = 14
const SOURCE = ETHERNET + 12
const DESTINATION = ETHERNET + 16
const SPORT = ETHERNET + 20

const dotted = (frame: Uint8Array, at: number): string => frame.subarray(at, at + 4).join('.')

/** Whether a frame that left belongs where it went. */
export function isRight({ kind, isAnswer, frame: was }: Sent, frame: Uint8Array): boolean {
  const service = KINDS[kind]!
  if (isAnswer) {
    const port = (frame[SPORT]! << 8) | frame[SPORT + 1]!
    return (
      dotted(frame, SOURCE) === VIP &&
      port === service.port &&
      dotted(frame, DESTINATION) === dotted(was, DESTINATION)
    )
  }
  const which = frame[5]! - REAL_BASE - kind * REALS_PER_SERVICE
  if (which < 0 || which >= REALS_PER_SERVICE) return false
  return dotted(frame, DESTINATION) === (service.method === 'nat' ? realAddress(kind, which) : VIP)
}

/** What one thread has seen. */
export interface Tally {
  packets: number
  /** To a real server of their service, by that one's next hop. */
  right: number
  answers: number
  wrong: number
}
