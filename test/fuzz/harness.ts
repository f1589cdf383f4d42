/** Builds the libFuzzer harness over the native packet program and runs it. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Not in dist/, which a package takes as it is and cleans of what is not its own. */
const work = join(root, 'test/tmp/fuzz')
const binary = join(work, 'fuzz')
const source = fileURLToPath(new URL('fuzz.c', import.meta.url))

/** Inputs in the repository: made from recorded vectors, and every crash that was ever found. */
export const CORPUS = fileURLToPath(new URL('corpus', import.meta.url))
/** What a long run adds to it. */
const GROWN = join(work, 'corpus')
/** Where inputs go that broke something. */
export const FINDINGS = join(work, 'findings')

/** Why no fuzzing is possible here, or null. */
export function missingTool(): string | null {
  try {
    const probe = ['-fsanitize=fuzzer,address,undefined', '-x', 'c', '-', '-o', '/dev/null']
    execFileSync('clang', probe, {
      input: 'int LLVMFuzzerTestOneInput(const char *d, long n){return d && n < 0;}',
      stdio: ['pipe', 'ignore', 'pipe'],
    })
    return null
  } catch {
    return 'clang with libFuzzer and sanitizers is not installed: apt-get install clang libclang-rt-dev'
  }
}

/** Compiles if something is newer than the last build; returns the path of the program. */
export function buildHarness(): string {
  const headers = readdirSync(join(root, 'bpf')).map((name) => join(root, 'bpf', name))
  const newest = Math.max(...[source, ...headers].map((path) => statSync(path).mtimeMs))
  if (existsSync(binary) && statSync(binary).mtimeMs > newest) return binary
  mkdirSync(work, { recursive: true })
  const sanitizers = [
    '-fsanitize=fuzzer,address,undefined',
    '-fno-sanitize-recover=all',
    '-fno-omit-frame-pointer',
    // Checks as calls: everything is inlined into a few functions, and checks in place double the compiler's time.
    ...['-mllvm', '-asan-instrumentation-with-call-threshold=0'],
  ]
  const compiler = ['-gline-tables-only', '-O1', '-Wall', '-Wextra']
  execFileSync('clang', [...compiler, ...sanitizers, source, '-o', binary], {
    stdio: 'inherit',
  })
  return binary
}

export interface FuzzOptions {
  /** Stop after so many seconds, 0 for no limit. */
  readonly seconds: number
  /** Stop after so many executions, 0 for no limit. */
  readonly runs: number
  readonly seed: number
  /** Processes at the same time. */
  readonly jobs: number
  /** Where libFuzzer's words go. */
  readonly output: (text: string) => void
}

export interface FuzzResult {
  readonly found: boolean
  readonly executions: number
}

/** Runs until a limit is reached or something is found. */
export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const program = buildHarness()
  mkdirSync(GROWN, { recursive: true })
  mkdirSync(FINDINGS, { recursive: true })
  const share = options.runs > 0 ? Math.ceil(options.runs / options.jobs) : 0
  const workers = Array.from({ length: options.jobs }, (_, job) => {
    const limits = [
      `-max_total_time=${options.seconds}`,
      ...(share > 0 ? [`-runs=${share}`] : []),
      `-seed=${(options.seed + job) >>> 0}`,
      '-max_len=4096',
      '-timeout=10',
      '-rss_limit_mb=2048',
      '-print_final_stats=1',
      '-reload=10',
      `-artifact_prefix=${FINDINGS}/`,
    ]
    return run(program, [...limits, GROWN, CORPUS], options.output)
  })
  const results = await Promise.all(workers)
  return {
    found: results.some(({ status }) => status !== 0),
    executions: results.reduce((sum, { executions }) => sum + executions, 0),
  }
}

/** Plays inputs once each, without changing them. */
export async function replay(inputs: readonly string[], output: (text: string) => void): Promise<boolean> {
  const { status } = await run(buildHarness(), ['-timeout=10', ...inputs], output)
  return status === 0
}

function run(
  program: string,
  args: readonly string[],
  output: (text: string) => void,
): Promise<{ status: number; executions: number }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, UBSAN_OPTIONS: 'print_stacktrace=1' },
    })
    let tail = ''
    const listen = (chunk: Buffer): void => {
      const text = chunk.toString()
      tail = (tail + text).slice(-20_000)
      output(text)
    }
    child.stdout.on('data', listen)
    child.stderr.on('data', listen)
    child.on('error', reject)
    child.on('close', (code) => {
      const executions = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(tail)?.[1] ?? 0)
      resolve({ status: code ?? 1, executions })
    })
  })
}
