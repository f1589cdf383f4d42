/** How long the packet program runs: the kernel's own account (sysctl kernel.bpf_stats_enabled). */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

const SWITCH = '/proc/sys/kernel/bpf_stats_enabled'
/** enum bpf_prog_type of linux/bpf.h, as /proc/PID/fdinfo shows it. */
const PROG_TYPE_XDP = '6'

export interface ProgramTime {
  readonly runs: bigint
  readonly ns: bigint
}

/** Makes the kernel keep account; returns what puts the switch back. */
export function measurePrograms(): () => void {
  const before = readFileSync(SWITCH, 'utf8')
  writeFileSync(SWITCH, '1')
  return () => writeFileSync(SWITCH, before)
}

/** Runs and time so far of the XDP programs a process holds; null if it holds none. */
export function programTime(pid: number): ProgramTime | null {
  const seen = new Map<string, ProgramTime>()
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    const field = fields(`/proc/${pid}/fdinfo/${fd}`)
    const id = field.get('prog_id')
    if (field.get('prog_type') !== PROG_TYPE_XDP || id === undefined) continue
    seen.set(id, { runs: BigInt(field.get('run_cnt') ?? 0), ns: BigInt(field.get('run_time_ns') ?? 0) })
  }
  if (seen.size === 0) return null
  const all = [...seen.values()]
  return {
    runs: all.reduce((sum, one) => sum + one.runs, 0n),
    ns: all.reduce((sum, one) => sum + one.ns, 0n),
  }
}

function fields(path: string): Map<string, string> {
  try {
    return new Map(
      readFileSync(path, 'utf8')
        .split('\n')
        .map((line) => line.split(':\t', 2) as [string, string]),
    )
  } catch {
    return new Map() // closed since it was listed
  }
}
