/** HTTP over a unix socket, as bare as a test wants it. */
import { type IncomingHttpHeaders, request } from 'node:http'

export interface Heard {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

export function ask(
  socketPath: string,
  method: string,
  path: string,
  {
    body,
    headers = {},
    limitMs = 60_000,
  }: {
    readonly body?: string | Buffer
    readonly headers?: Readonly<Record<string, string>>
    /** Gives up then. */
    readonly limitMs?: number
  } = {},
): Promise<Heard> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, headers, agent: false }, (incoming) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => parts.push(part))
      incoming.on('error', reject)
      incoming.on('end', () =>
        resolve({
          status: incoming.statusCode ?? 0,
          headers: incoming.headers,
          body: Buffer.concat(parts),
        }),
      )
    })
    outgoing.on('error', reject)
    outgoing.setTimeout(limitMs, () => outgoing.destroy(new Error('given up')))
    outgoing.end(body)
  })
}
