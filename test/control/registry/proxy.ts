/** A connection that can be cut between a client and a server that both live on. */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'

export class CutProxy {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #open = true

  private constructor(port: number) {
    this.#server = createServer((client) => {
      if (!this.#open) {
        client.destroy()
        return
      }
      const server = connect(port, '127.0.0.1')
      for (const [one, other] of [
        [client, server],
        [server, client],
      ] as const) {
        this.#sockets.add(one)
        one.on('error', () => {})
        one.on('close', () => {
          this.#sockets.delete(one)
          other.destroy()
        })
        one.pipe(other)
      }
    })
  }

  static async to(port: number): Promise<CutProxy> {
    const proxy = new CutProxy(port)
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  cut(): void {
    this.#open = false
    for (const socket of this.#sockets) socket.destroy()
  }

  mend(): void {
    this.#open = true
  }

  async close(): Promise<void> {
    this.cut()
    const closed = once(this.#server, 'close')
    this.#server.close()
    await closed
  }
}
