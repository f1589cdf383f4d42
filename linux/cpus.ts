/** CPUs as the kernel numbers them. */
import { readFileSync } from 'node:fs'
import { libbpf, need } from './libbpf.ts'

/** How many there may ever be: on machines that take more while they run, far more than there are. */
export function possibleCpus(): number {
  return need(libbpf().libbpf_num_possible_cpus(), 'count CPUs')
}

/** One more than the highest number of those that are there, switched on or not. */
export function presentCpus(text = readFileSync('/sys/devices/system/cpu/present', 'utf8')): number {
  const last = /(\d+)\s*$/.exec(text)?.[1]
  if (last === undefined) throw new Error(`Cannot read which CPUs are present: "${text}"`)
  return Number(last) + 1
}

/**
 * Rows that per-CPU maps need: one for each CPU that is there, and where more may come, one that those share.
 * A row is 64 bytes for every real server, so that rows for all that may ever come would be gigabytes.
 */
export function cpuRows(possible = possibleCpus(), present = presentCpus()): number {
  return Math.min(possible, present + 1)
}
