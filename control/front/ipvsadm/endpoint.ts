/**
 * `POST /v1/ipvsadm`: where the native client (`control/cli/ipvsadm.c`) hands over its words.
 *
 * Request: `Pointsman-Argc: N`, the body begins with N strings ended by NUL; with `Pointsman-Stdin: sent`
 * the rest is standard input. Answer: `Pointsman-Status` and `Pointsman-Stdout` (bytes of standard output
 * at the front of the body; the rest is standard error), or `Pointsman-Stdin: wanted`.
 */
import type { Director } from '../../model/director.ts'
import { type Answer, type Asked, type Endpoint, invalid } from '../api/route.ts'
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

/** Names for one command; they are not asked for any longer than its client waits. */
export type NamesFor = (signal: AbortSignal) => Names

export function ipvsadmEndpoint(names: NamesFor = systemNames()): Endpoint {
  return {
    method: 'POST',
    path: '/v1/ipvsadm',
    bodyMax: BODY_BYTES_MAX,
    alone: false,
    handle: ({ director }, asked) => carryOut(director, asked, names),
  }
}

async function carryOut(director: Director, asked: Asked, names: NamesFor): Promise<Answer> {
  const announced = String(asked.headers['pointsman-argc'])
  const argc = /^[0-9]{1,7}$/.test(announced) ? Number(announced) : -1
  if (argc < 1 || argc > ARGUMENTS_MAX) {
    const message = `Expected 1 to ${ARGUMENTS_MAX}, got "${announced}"`
    return invalid([{ path: 'headers.pointsman-argc', message }])
  }
  const parts = splitBody(asked.body, argc)
  if (parts === null) {
    return invalid([{ path: 'body', message: `Expected ${argc} arguments, each ended by a NUL byte` }])
  }
  const result = await runIpvsadm({
    argv: parts.argv,
    stdin: asked.headers['pointsman-stdin'] === 'sent' ? parts.stdin : null,
    director,
    names: () => names(asked.signal),
  })
  if (result === STDIN_WANTED) {
    return { status: 200, headers: { 'pointsman-stdin': 'wanted' }, bytes: Buffer.alloc(0) }
  }
  return {
    status: 200,
    headers: { 'pointsman-status': result.status, 'pointsman-stdout': result.stdout.length },
    bytes: Buffer.concat([result.stdout, result.stderr]),
  }
}
