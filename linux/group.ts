import { libc, memoryAt } from './libc.ts'

/** Bytes of struct group up to the end of its number: two pointers stand in front of it. */
const GID = { at: 16, end: 20 } as const

/** The number of a group, from wherever the system looks for groups (nsswitch.conf); null: there is none. */
export function groupId(name: string): number | null {
  const address = libc.getgrnam(name)
  if (address === null || address === 0n) return null
  return new DataView(memoryAt(address, GID.end)).getUint32(GID.at, true)
}
