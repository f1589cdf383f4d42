/**
 * Network namespaces as hosts. Commands enter them with `nsenter --net`: `ip netns exec` would mount
 * another /sys and hide the BPF file system in which the director pins its maps.
 */
import { existsSync } from 'node:fs'
import { must, run, until } from './command.ts'

/** For processes that were told to end; those that do not are killed. */
const ENDING_MS = 5000

export function namespacePath(name: string): string {
  return `/run/netns/${name}`
}

/** The command line that runs `argv` inside a namespace. */
export function inNamespace(name: string, argv: readonly string[]): [string, ...string[]] {
  return ['nsenter', `--net=${namespacePath(name)}`, '--', ...argv]
}

export async function createNamespace(name: string): Promise<void> {
  await must(['ip', 'netns', 'add', name])
}

/** Ends every process in the namespace and removes it; does nothing when it does not exist. */
export async function destroyNamespace(name: string): Promise<void> {
  if (!existsSync(namespacePath(name))) return
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const pids = await processesIn(name)
    for (const pid of pids) kill(pid, signal)
    if (pids.length === 0) break
    await until(`the processes in ${name} to end`, ENDING_MS, async () =>
      (await processesIn(name)).length === 0 ? true : undefined,
    ).catch(() => undefined)
  }
  const removed = await run(['ip', 'netns', 'del', name])
  if (removed.status !== 0 && existsSync(namespacePath(name)))
    throw new Error(`Cannot remove namespace ${name}: ${removed.stderr.trim()}`)
}

async function processesIn(name: string): Promise<number[]> {
  const { stdout } = await run(['ip', 'netns', 'pids', name])
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map(Number)
    .filter((pid) => pid !== process.pid)
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it has ended by itself since it was listed
  }
}

/** Runs `ip` commands, one per line, inside a namespace (null: this one); stops at the first that fails. */
export async function ipBatch(
  name: string | null,
  lines: readonly string[],
  options: readonly string[] = [],
) {
  const where = name === null ? [] : ['-n', name]
  await must(['ip', ...where, ...options, '-batch', '-'], { input: `${lines.join('\n')}\n` })
}

/** Sets kernel parameters of a namespace, by path below /proc/sys/net. */
export async function setParameters(
  name: string,
  values: Readonly<Record<string, number | string>>,
): Promise<void> {
  const script = Object.entries(values)
    .map(([path, value]) => `echo '${value}' > '/proc/sys/net/${path}'`)
    .join('\n')
  await must(inNamespace(name, ['sh', '-e', '-s']), { input: `${script}\n` })
}
