/** Ranges of ports, and which of them the kernel gives to sockets that ask for none. */

export interface Ports {
  /** Both included. */
  readonly from: number
  readonly to: number
}

/** Unless it is told otherwise. */
export const USUAL_LOCAL_PORTS: readonly Ports[] = [{ from: 32768, to: 60999 }]

/** What is left of a range, in ranges, lowest first. */
export function portsBeside(range: Ports, taken: readonly Ports[]): readonly Ports[] {
  const free: Ports[] = []
  let next = range.from
  for (const { from, to } of [...taken].sort((a, b) => a.from - b.from)) {
    if (from > next && next <= range.to) free.push({ from: next, to: Math.min(from - 1, range.to) })
    next = Math.max(next, to + 1)
  }
  return next > range.to ? free : [...free, { from: next, to: range.to }]
}

/**
 * Those of `range` that are not reserved.
 * @param range as net.ipv4.ip_local_port_range has it: `32768	60999`
 * @param reserved as net.ipv4.ip_local_reserved_ports: `8080,9148-9150`
 */
export function parseLocalPorts(range: string, reserved: string): readonly Ports[] {
  const [from = Number.NaN, to = Number.NaN] = range.split(/\s+/).map(Number)
  if (!(from <= to)) return USUAL_LOCAL_PORTS
  const taken = [...reserved.matchAll(/(\d+)(?:-(\d+))?/g)].map(([, first, last = first]) => ({
    from: Number(first),
    to: Number(last),
  }))
  return portsBeside({ from, to }, taken)
}
