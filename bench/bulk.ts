/** One TCP connection at full speed through a director (bulk.c). */
import { readFileSync, writeFileSync } from 'node:fs'
import { must } from '../lab/command.ts'
import { inNetns } from '../linux/netns.ts'
import { TRIANGLE, type Triangle, within } from './triangle.ts'

export const BULK_PORT = 5001
const BULK_MS = 700

/** Megabits per second of one connection; a server is at the other end. */
export async function bulk(triangle: Triangle, program: string): Promise<number> {
  const argv = within(triangle.client, [program, 'client', TRIANGLE.vip, String(BULK_PORT), String(BULK_MS)])
  const [bytes, ns] = (await must(argv, { timeoutMs: 20_000 })).trim().split(' ').map(Number) as [
    number,
    number,
  ]
  return (bytes * 8000) / ns
}

const CONGESTION_CONTROL = '/proc/sys/net/ipv4/tcp_congestion_control'

/**
 * The one that every namespace may use, and that does not pace; and what this machine is set to. With one that
 * paces (bbr) it is the sender's timer that decides as much as the director.
 */
export function congestionControls(): ReadonlySet<string> {
  return new Set(['reno', readFileSync(CONGESTION_CONTROL, 'utf8').trim()])
}

export function useCongestionControl({ client, director, server }: Triangle, control: string): void {
  for (const namespace of [client, director, server]) {
    inNetns(namespace, () => writeFileSync(CONGESTION_CONTROL, control))
  }
}
