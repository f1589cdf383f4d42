/** Running other programs: their output collected, their failure told with the command that failed. */
import { spawn } from 'node:child_process'

export interface CommandResult {
  /** Exit status; 128 + signal number is not imitated: a killed command has `null`. */
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CommandOptions {
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Kills the command after this time; default two minutes. */
  readonly timeoutMs?: number
}

/** Runs a command to its end, whatever its exit status. Rejects only if it cannot be started. */
export function run(
  argv: readonly [string, ...string[]],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [program, ...rest] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(program, rest, {
      stdio: 'pipe',
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    })
    const late = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 120_000)
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.on('error', (cause) => {
      clearTimeout(late)
      reject(new Error(`Cannot start ${program}: ${cause.message}`, { cause }))
    })
    child.on('close', (status) => {
      clearTimeout(late)
      resolve({ status, stdout, stderr })
    })
    child.stdin.on('error', () => {}) // the command may end without reading its input
    child.stdin.end(options.input ?? '')
  })
}

/** Runs a command that has to succeed; returns its standard output. */
export async function must(
  argv: readonly [string, ...string[]],
  options: CommandOptions = {},
): Promise<string> {
  const result = await run(argv, options)
  if (result.status !== 0) {
    const said = (result.stderr.trim() || result.stdout.trim()).slice(0, 2000)
    const tail = options.input === undefined ? '' : `\ninput was:\n${options.input.slice(0, 4000)}`
    throw new Error(`\`${argv.join(' ')}\` failed with status ${result.status}: ${said}${tail}`)
  }
  return result.stdout
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Asks `probe` until it answers something other than undefined; rejects after `timeoutMs`. */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const value = await probe()
    if (value !== undefined) return value
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs} ms for ${what}`)
    await sleep(25)
  }
}
