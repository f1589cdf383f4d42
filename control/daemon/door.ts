/**
 * A door of the API on an address, for those who come over the network. What it is to stand on may be taken, or
 * not be there yet: packets are forwarded all the same, and it is tried again.
 */
import type { Logger } from 'pino'
import { endpointText } from '../../net/endpoint.ts'
import type { Access } from '../front/api/router.ts'
import type { Api } from '../front/api/server.ts'

export interface Place {
  readonly address: string
  readonly port: number
}

/** Between two tries. */
export const DOOR_MS = 5000

export class Door {
  readonly #api: Api
  readonly #place: Place
  readonly #access: Access
  readonly #log: Pick<Logger, 'info' | 'error'>
  #state: 'closed' | 'opening' | 'open' = 'closed'
  /** What was said of the last try that failed. */
  #told = ''

  constructor(api: Api, place: Place, access: Access, log: Pick<Logger, 'info' | 'error'>) {
    this.#api = api
    this.#place = place
    this.#access = access
    this.#log = log
  }

  /** Unless it is open already; what is in the way is said once. */
  async open(): Promise<void> {
    if (this.#state !== 'closed') return
    this.#state = 'opening'
    const { address: host, port } = this.#place
    const at = endpointText({ address: host, port })
    try {
      await this.#api.listen({ host, port }, this.#access)
      this.#state = 'open'
      this.#log.info({ address: at, serves: this.#access }, 'listening')
    } catch (error) {
      this.#state = 'closed'
      const message = `Cannot listen on ${at} for ${this.#access}: ${whyNot(error as NodeJS.ErrnoException, port)}; it is tried again every ${DOOR_MS / 1000} s`
      if (message !== this.#told) this.#log.error(message)
      this.#told = message
    }
  }
}

function whyNot({ code, message }: NodeJS.ErrnoException, port: number): string {
  switch (code) {
    case 'EADDRINUSE':
      return `somebody else does; see who: ss -ltnp 'sport = ${port}'`
    case 'EADDRNOTAVAIL':
      return 'no interface has this address; see: ip address'
    case 'EACCES':
      return 'ports below 1024 take CAP_NET_BIND_SERVICE, which the daemon does not have: choose a higher one'
    default:
      return message
  }
}
