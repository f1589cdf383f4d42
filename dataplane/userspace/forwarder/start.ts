/** Starting a forwarder: a process of its own session, which needs nobody once it runs. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { builtFile } from '../../assets.ts'
import { DataplaneError } from '../../dataplane.ts'
import { ForwarderLink } from './forwarder-link.ts'
import type { ForwarderArguments } from './pointsman-forwarder.ts'
import { CONTROL_SOCKET, FORWARDER_LOG } from './protocol.ts'

/** It is there within half a second; a loaded machine takes longer. */
const START_MS = 20_000
const PAUSE_MS = 10
const BUNDLE = 'pointsman-forwarder.js'

/** What the program was built from, in a few digits: another build is another forwarder. */
export function forwarderBuild(): string {
  const hash = createHash('sha256')
  for (const name of [BUNDLE, 'packet-worker.js', 'pointsman.wasm'])
    hash.update(readFileSync(builtFile(name)))
  return hash.digest('hex').slice(0, 16)
}

/** Returns when it takes packets and answers. */
export async function startForwarder(args: ForwarderArguments): Promise<ForwarderLink> {
  const logFile = join(args.runDirectory, FORWARDER_LOG)
  const log = openLog(logFile)
  let child: ChildProcess
  try {
    child = spawn(process.execPath, [builtFile(BUNDLE), JSON.stringify(args)], {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: '/',
    })
  } finally {
    closeSync(log)
  }
  let ended: string | null = null
  child.once('error', (error) => {
    ended = error.message
  })
  child.once('exit', (code, signal) => {
    ended = `it ended with ${code ?? signal}`
  })
  child.unref()
  for (const end = performance.now() + START_MS; performance.now() < end; await sleep(PAUSE_MS)) {
    if (ended !== null) break
    const link = await ForwarderLink.connect(join(args.runDirectory, CONTROL_SOCKET))
    if (link === null) continue
    if (link.hello.pid === child.pid) return link
    link.close()
  }
  if (ended === null) child.kill('SIGKILL')
  throw new DataplaneError(
    `Cannot start the forwarder: ${ended ?? `it does not answer after ${START_MS / 1000} s`}: ${lastWords(logFile)}`,
  )
}

function openLog(path: string): number {
  try {
    return openSync(path, 'w', 0o600)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : cause
    throw new DataplaneError(
      `Cannot start the forwarder: its log cannot be written (${why}); see findmnt --target ${dirname(path)}: it has to be writable and to have room`,
      { cause },
    )
  }
}

function lastWords(path: string): string {
  try {
    const text = readFileSync(path, 'utf8').trim().split('\n')
    const error = text.findLast((each) => /^\w*Error\b/.test(each))
    return error ?? text.at(-1) ?? 'it says nothing'
  } catch {
    return `see ${path}`
  }
}
