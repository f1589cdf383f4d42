/** A link as plain data, for tests of what follows from links. */
import type { Link } from '../../linux/links.ts'

/** An Ethernet interface that is up, with a MAC address that ends in its index. */
export function link(ifindex: number, name: string, more: Partial<Link> = {}): Link {
  return {
    ifindex,
    name,
    mac: Uint8Array.of(2, 0, 0, 0, 0, ifindex),
    mtu: 1500,
    up: true,
    carrier: true,
    loopback: false,
    noArp: false,
    hardware: 1,
    kind: '',
    master: 0,
    lower: 0,
    lowerElsewhere: false,
    otherNames: [],
    ...more,
  }
}
