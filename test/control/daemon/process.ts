/** pointsmand as a process in a folder of its own, without a data plane unless asked for one. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { answers } from '../../../control/daemon/run-directory.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** Two seconds of work, on a machine that may have much else to do. */
const START_MS = 90_000

/** For what is over at once, or in five seconds; whether it went well its status says. */
export const END_MS = 60_000

export interface Daemon {
  readonly folder: string
  readonly socket: string
  readonly child: ChildProcess
  /** Standard error so far. */
  readonly log: () => string
  /** Its exit status once it has ended; rejects when it has not within the limit. */
  ended(limitMs?: number): Promise<number | null>
}

export interface DaemonSettings {
  readonly options?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** JavaScript that runs in the process before the daemon. */
  readonly first?: string
  /** Words in front of the command, which have to become the daemon in the end. */
  readonly within?: readonly string[]
}

/** Starts it, waits until it answers, hands it over, and leaves nothing behind. */
export async function withDaemon(
  { options = [], env = {}, first = '', within = [] }: DaemonSettings,
  act: (daemon: Daemon) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-daemon-'))
  const socket = join(folder, 'pointsman.sock')
  const [program, ...words] = [
    ...within,
    ...[process.execPath, '--import', 'tsx'],
    ...(first === '' ? [] : ['--import', `data:text/javascript,${encodeURIComponent(first)}`]),
    join(root, 'control/daemon/pointsmand.ts'),
    ...['--dataplane', 'none', '--run-dir', folder, ...options],
  ]
  const child = spawn(program!, words, {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  })
  let log = ''
  child.stderr?.on('data', (text) => {
    log += text
  })
  const end = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const ended = async (limitMs = END_MS): Promise<number | null> => {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`it lives after ${limitMs} ms\n${log}`)), limitMs)
    })
    try {
      return await Promise.race([end, late])
    } finally {
      clearTimeout(timer)
    }
  }
  try {
    // The first socket answers before the others are open, and before it has the mode it is to have.
    const ready = async (): Promise<boolean> => log.includes('"msg":"ready"') && (await answers(socket))
    for (const late = performance.now() + START_MS; child.exitCode === null && !(await ready()); ) {
      if (performance.now() > late) break
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    assert.ok(await ready(), `the daemon answers\n${log}`)
    await act({ folder, socket, child, log: () => log, ended })
  } finally {
    child.kill('SIGKILL')
    await end
    rmSync(folder, { recursive: true, force: true })
  }
}
