/**
 * `POST /v1/ipvsadm`: where the native client (`control/cli/ipvsadm.c`) hands over its words.
 *
 * Request: `Pointsman-Argc: N`, the body begins with N strings ended by NUL; with `Pointsman-Stdin: sent`
 * the rest is standard input. Answer: `Pointsman-Status` and `Pointsman-Stdout` (bytes of standard output
 * at the front of the body; the rest is standard error), or `Pointsman-Stdin: wanted`.
 */
import type { FastifyInstance } from 'fastify'
import type { Director } from '../../model/director.ts'
import { type Names, systemNames } from './names.ts'
import { runIpvsadm, STDIN_WANTED } from './run.ts'

/** Bytes: arguments and standard input of one command; a restore of a million rules is about half. */
const BODY_BYTES_MAX = 128 * 1024 * 1024
/** More words than a shell can pass. */
const ARGUMENTS_MAX = 1_000_000

/** Splits a body into arguments and standard input; null if there are fewer arguments than announced. */
export function splitBody(body: Buffer, argc: number): { argv: Buffer[]; stdin: Buffer } | null {
  const argv: Buffer[] = []
  let at = 0
  for (let i = 0; i < argc; i++) {
    const end = body.indexOf(0, at)
    if (end < 0) return null
    argv.push(body.subarray(at, end))
    at = end + 1
  }
  return { argv, stdin: body.subarray(at) }
}

/** Adds the endpoint. The rest of the API keeps its own parsers and limits. */
export function registerIpvsadm(
  app: FastifyInstance,
  director: Director,
  names: () => Names = systemNames(),
): void {
  void app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser(
      '*',
      { parseAs: 'buffer', bodyLimit: BODY_BYTES_MAX },
      (_request, body, done) => done(null, body),
    )
    scope.post('/v1/ipvsadm', { bodyLimit: BODY_BYTES_MAX }, async (request, reply) => {
      const announced = String(request.headers['pointsman-argc'])
      const argc = /^[0-9]{1,7}$/.test(announced) ? Number(announced) : -1
      if (argc < 1 || argc > ARGUMENTS_MAX) {
        return reply.code(400).send({
          error: {
            path: 'headers.pointsman-argc',
            message: `Expected 1 to ${ARGUMENTS_MAX}, got "${announced}"`,
          },
        })
      }
      const parts = splitBody(Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0), argc)
      if (parts === null) {
        return reply.code(400).send({
          error: { path: 'body', message: `Expected ${argc} arguments, each ended by a NUL byte` },
        })
      }
      const stdin = request.headers['pointsman-stdin'] === 'sent' ? parts.stdin : null
      const result = await runIpvsadm({ argv: parts.argv, stdin, director, names })
      reply.type('application/octet-stream')
      if (result === STDIN_WANTED) return reply.header('pointsman-stdin', 'wanted').send(Buffer.alloc(0))
      return reply
        .header('pointsman-status', result.status)
        .header('pointsman-stdout', result.stdout.length)
        .send(Buffer.concat([result.stdout, result.stderr]))
    })
  })
}
